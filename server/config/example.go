package config

import (
	"fmt"
	"strings"
)

// headings stand before the option that they begin with, in berth.conf and in the manual.
var headings = map[string]string{
	"bind":                      "Where clients come in",
	"tls-port":                  "TLS to clients",
	"maxclients":                "What a client may take",
	"backend":                   "The nodes",
	"private_conn_pool_enabled": "The pool of exclusive connections",
	"admin-bind":                "How operators watch berth",
}

// generated is what a generated file says of itself, after the sign of a comment.
const generated = "Generated from server/config/options.go; to change it, run go test ./scripts -run Documents -update-docs."

// Example returns berth.conf, with every option as a comment that sets its default.
func Example() string {
	var b strings.Builder
	b.WriteString("# " + generated + "\n#\n")
	writeComment(&b, "Configuration of berth. A line sets an option. What stands here as a comment is the default. "+
		"The environment (BERTH_MAXCLIENTS for maxclients) and the command line override this file. "+
		"berth -t FILE tests it. CONFIG SET changes the options that are called hot while berth runs.")
	for _, o := range options {
		if h := headings[o.name]; h != "" {
			fmt.Fprintf(&b, "\n%s %s\n", strings.Repeat("#", 32), h)
		}
		about := plain(o.help) + " Unit: " + o.value.unit() + "."
		if o.hot {
			about += " Hot."
		}
		b.WriteByte('\n')
		writeComment(&b, about)
		fmt.Fprintf(&b, "# %s %s\n", o.name, o.def)
	}
	return b.String()
}

// plain returns a help text without its marks of code.
func plain(help string) string { return strings.ReplaceAll(help, "`", "") }

// writeComment writes a text as lines of at most 80 characters that begin with "# ".
func writeComment(b *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 80 && line != "#" {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
