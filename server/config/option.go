package config

import (
	"fmt"
	"strings"
	"sync"
)

// An option is one row of the table that drives the configuration file, the flags, the environment,
// CONFIG GET/SET/REWRITE, -t, --help and OPERATING.md.
type option struct {
	name  string
	value optionValue              // its type: how it is read, checked and written, and its field of Config
	def   string                   // the default, as in a configuration file
	hot   bool                     // CONFIG SET may change it
	mask  func(text string) string // hides the secret in a value; nil: there is none
	help  string                   // one line
}

// optionValue is the type of an option, bound to its field of Config.
type optionValue interface {
	// set reads the words after the option's name. Its errors use Redis' words and never repeat the
	// input.
	set(c *Config, words []string) error
	// text returns the value as in a reply to CONFIG GET; set(splitWords(text)) sets the same
	// value.
	text(c *Config) string
	// lines returns what CONFIG REWRITE writes after the name, one element per line.
	lines(c *Config) []string
	// many reports whether the value may be several words.
	many() bool
	// unit returns the column of OPERATING.md: "bytes", "s", "ms", "yes/no" ...
	unit() string
	// wants returns what would be right: "a whole number from 0 to 65535".
	wants() string
}

// repeatedValue is the type of an option for which the last time that it is given does not count alone:
// each time adds to it, or a second time is refused.
type repeatedValue interface {
	add(c *Config, words []string) error
}

// optionIndex finds rows by name in lower case.
var optionIndex = func() map[string]*option {
	m := make(map[string]*option, len(options))
	for _, o := range options {
		if m[o.name] != nil {
			panic("option twice in the table: " + o.name)
		}
		m[o.name] = o
	}
	return m
}()

// findOption returns the option with a name, in any case, as Redis does. nil: there is none.
func findOption(name string) *option { return optionIndex[strings.ToLower(name)] }

// IsOption reports whether name is an option of berth, in any case.
func IsOption(name string) bool { return findOption(name) != nil }

// Text returns the value of an option as in a reply to CONFIG GET. known is false when no option
// has this name.
func (c *Config) Text(name string) (text string, known bool) {
	o := findOption(name)
	if o == nil {
		return "", false
	}
	return o.value.text(c), true
}

// defaultConfig returns a new Config with the defaults of all options.
func defaultConfig() *Config {
	c := tableDefaults()
	return &c
}

var tableDefaults = sync.OnceValue(func() Config {
	var c Config
	for _, o := range options {
		words, err := splitWords(o.def)
		if err == nil {
			err = o.setWords(&c, words)
		}
		if err != nil {
			panic(fmt.Sprintf("default of option %s: %v", o.name, err))
		}
	}
	return c
})

// setWords sets the value from words, as a file and the flags give it.
func (o *option) setWords(c *Config, words []string) error {
	words, err := o.apart(words)
	if err != nil {
		return err
	}
	return o.value.set(c, words)
}

// addWords is setWords for an option that the same source has given before.
func (o *option) addWords(c *Config, words []string) error {
	v, isRepeated := o.value.(repeatedValue)
	if !isRepeated {
		return o.setWords(c, words)
	}
	words, err := o.apart(words)
	if err != nil {
		return err
	}
	return v.add(c, words)
}

// apart cuts words that came all in one pair of quotes, as Redis has it.
func (o *option) apart(words []string) ([]string, error) {
	switch many := o.value.many(); {
	case !many && len(words) != 1:
		return nil, errWordCount
	case many && len(words) == 1:
		return o.words(words[0])
	}
	return words, nil
}

// setText sets the value from one text, as CONFIG SET gives it.
func (o *option) setText(c *Config, text string) error {
	words, err := o.words(text)
	if err != nil {
		return err
	}
	return o.value.set(c, words)
}

// words cuts the text of a value into words.
func (o *option) words(text string) ([]string, error) {
	if !o.value.many() || text == "" {
		return []string{text}, nil
	}
	return splitWords(text)
}

// shown returns the value with its secret masked.
func (o *option) shown(c *Config) string {
	text := o.value.text(c)
	if o.mask != nil {
		return o.mask(text)
	}
	return text
}

// hides reports whether the value in c holds a secret.
func (o *option) hides(c *Config) bool { return o.shown(c) != o.value.text(c) }

// env returns the environment variable that sets the option.
func (o *option) env() string {
	return "BERTH_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

// nearestOption returns the option that an unknown name probably means; empty when none is similar.
func nearestOption(name string) string {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	best, at := "", 3
	for _, o := range options {
		d := editDistance(name, strings.ReplaceAll(o.name, "_", "-"))
		if d < at && d*2 <= len(name) {
			best, at = o.name, d
		}
	}
	return best
}

// editDistance returns the Levenshtein distance.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// Markdown returns the table of OPERATING.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| Option | Default | Unit | Changes while running | Meaning |\n|---|---|---|---|---|\n")
	for _, o := range options {
		def, hot := "`"+o.def+"`", "no"
		if o.hot {
			hot = "yes"
		}
		if o.def == `""` {
			def = "none"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", o.name, def, o.value.unit(), hot, strings.ReplaceAll(o.help, "|", `\|`))
	}
	return b.String()
}
