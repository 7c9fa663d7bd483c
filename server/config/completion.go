package config

import (
	"fmt"
	"strings"
)

// flagsAlone are the flags that are no options.
var flagsAlone = []struct{ name, help string }{
	{"-t", "Test the configuration"},
	{"--healthcheck", "Ask a running berth whether it is ready"},
	{"--take-over", "Replace a running berth without refusing a client"},
	{"--help", "List the options"},
	{"--version", "Show the version and the commit"},
}

// choices returns the words that an option may have; nil: they cannot be listed.
func (o *option) choices() []string {
	if unit := o.value.unit(); strings.Contains(unit, "/") {
		return strings.Split(unit, "/")
	}
	return nil
}

// isPath reports whether the option takes files.
func (o *option) isPath() bool { return strings.HasPrefix(o.value.unit(), "path") }

// headline returns the help up to the first full stop or semicolon.
func (o *option) headline() string {
	text, _, _ := strings.Cut(plain(o.help), ". ")
	text, _, _ = strings.Cut(text, "; ")
	return strings.TrimSuffix(text, ".")
}

// BashCompletion returns what bash completes berth's arguments with.
func BashCompletion() string {
	var b strings.Builder
	b.WriteString("# bash completion for berth. " + generated + "\n\n_berth() {\n" +
		"\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n\tCOMPREPLY=()\n\tcase $before in\n")
	words := make([]string, 0, len(options)+len(flagsAlone))
	for _, o := range options {
		words = append(words, "--"+o.name)
		switch choices := o.choices(); {
		case choices != nil:
			fmt.Fprintf(&b, "\t--%s)\n\t\tmapfile -t COMPREPLY < <(compgen -W '%s' -- \"$word\")\n\t\treturn\n\t\t;;\n", o.name, strings.Join(choices, " "))
		case !o.isPath():
			fmt.Fprintf(&b, "\t--%s) return ;;\n", o.name)
		}
	}
	for _, f := range flagsAlone {
		words = append(words, f.name)
	}
	b.WriteString("\tesac\n\tif [[ $word == -* ]]; then\n\t\tmapfile -t COMPREPLY < <(compgen -W '" + strings.Join(words, " ") +
		"' -- \"$word\")\n\telse\n\t\tcompopt -o filenames\n\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n\tfi\n}\ncomplete -F _berth berth\n")
	return b.String()
}

// ZshCompletion returns what zsh completes berth's arguments with.
func ZshCompletion() string {
	escapes := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`, "'", `'\''`)
	var b strings.Builder
	b.WriteString("#compdef berth\n# " + generated + "\n\n_arguments \\\n")
	for _, f := range flagsAlone {
		fmt.Fprintf(&b, "  '%s[%s]' \\\n", f.name, escapes.Replace(f.help))
	}
	for _, o := range options {
		action := " "
		switch choices := o.choices(); {
		case choices != nil:
			action = "(" + strings.Join(choices, " ") + ")"
		case o.isPath():
			action = "_files"
		}
		fmt.Fprintf(&b, "  '--%s[%s]:%s:%s' \\\n", o.name, escapes.Replace(o.headline()), escapes.Replace(o.value.unit()), action)
	}
	b.WriteString("  '*:backend URL or configuration file:_files'\n")
	return b.String()
}

// FishCompletion returns what fish completes berth's arguments with.
func FishCompletion() string {
	escapes := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	var b strings.Builder
	b.WriteString("# fish completion for berth. " + generated + "\n\n")
	for _, f := range flagsAlone {
		flag := "-s " + strings.TrimPrefix(f.name, "-")
		if name, long := strings.CutPrefix(f.name, "--"); long {
			flag = "-l " + name
		}
		fmt.Fprintf(&b, "complete -c berth %s -d '%s'\n", flag, escapes.Replace(f.help))
	}
	for _, o := range options {
		takes := "-x" // something, but no file
		switch choices := o.choices(); {
		case choices != nil:
			takes += " -a '" + strings.Join(choices, " ") + "'"
		case o.isPath():
			takes = "-rF"
		}
		fmt.Fprintf(&b, "complete -c berth -l %s %s -d '%s'\n", o.name, takes, escapes.Replace(o.headline()))
	}
	return b.String()
}
