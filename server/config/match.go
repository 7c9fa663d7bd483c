package config

import (
	"errors"
	"fmt"
	"slices"

	"github.com/berth-proxy/berth/server/glob"
)

// Setting is one pair of a CONFIG GET reply.
type Setting struct{ Name, Value string }

// Match returns the options that match the patterns of CONFIG GET, each once, in the order of the
// patterns and then of the table. A pattern without wildcards returns the name as the client wrote
// it, as Redis does. Secrets are masked. A name that is no option of berth matches nothing.
func (s *Settings) Match(patterns [][]byte) []Setting {
	c := s.Load()
	var found []Setting
	seen := make(map[*option]bool)
	add := func(o *option, name string) {
		if !seen[o] {
			seen[o] = true
			found = append(found, Setting{name, o.shown(c)})
		}
	}
	for _, p := range patterns {
		pattern := string(p)
		if !glob.Is(pattern) {
			if o := findOption(pattern); o != nil {
				add(o, pattern)
			}
			continue
		}
		compiled := glob.Compile(pattern) // the caller bounds its length
		for _, o := range options {
			if compiled.Match(o.name) {
				add(o, o.name)
			}
		}
	}
	return found
}

// change is one pair of CONFIG SET.
type change struct {
	name   string // as the client wrote it
	option *option
	text   string
}

// readChanges finds the options of name, value, name, value. As in Redis 7.0's configSetCommand the
// first mistake decides the error. An option of berth's own that cannot be changed, or that holds a secret,
// takes the value that it is shown with: there are tools that set all that CONFIG GET has told them.
func readChanges(now *Config, pairs []string) ([]change, error) {
	if len(pairs) == 0 || len(pairs)%2 != 0 {
		return nil, errors.New("ERR syntax error")
	}
	changes := make([]change, 0, len(pairs)/2)
	seen := make(map[*option]bool)
	for i := 0; i < len(pairs); i += 2 {
		o := findOption(pairs[i])
		switch {
		case o == nil:
			return nil, fmt.Errorf("ERR Unknown option or number of arguments for CONFIG SET - '%s'", pairs[i])
		case !o.hot && !slices.Contains(immutableInRedis, o.name) && pairs[i+1] == o.shown(now),
			o.hides(now) && pairs[i+1] == o.shown(now):
			continue
		case !o.hot:
			return nil, setFailed(pairs[i], errors.New("can't set immutable config"))
		case seen[o]:
			return nil, setFailed(pairs[i], errors.New("duplicate parameter"))
		}
		seen[o] = true
		changes = append(changes, change{pairs[i], o, pairs[i+1]})
	}
	return changes, nil
}

// immutableInRedis are options that Redis has as well, and refuses whatever their value is.
var immutableInRedis = []string{"unixsocket", "unixsocketperm", "tcp-backlog", "enable-debug-command", "logfile"}

func setFailed(name string, why error) error {
	return fmt.Errorf("ERR CONFIG SET failed (possibly related to argument '%s') - %w", name, why)
}
