package config

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// What stands in berth.conf as a comment is the default: with all lines in force nothing changes.
func TestTheExampleSetsTheDefaults(t *testing.T) {
	var lines []string
	for line := range strings.Lines(Example()) {
		if word, _, _ := strings.Cut(strings.TrimPrefix(line, "# "), " "); findOption(word) != nil && strings.HasPrefix(line, "# "+word+" ") {
			if o := findOption(word); line == "# "+o.name+" "+o.def+"\n" {
				line = line[2:]
				lines = append(lines, line)
			}
		}
	}
	if len(lines) != len(options) {
		t.Fatalf("%d lines that set an option, want %d", len(lines), len(options))
	}
	path := filepath.Join(t.TempDir(), "berth.conf")
	for _, text := range []string{Example(), strings.Join(lines, "")} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var mistakes strings.Builder
		s, _ := Read([]string{path}, nil, io.Discard, &mistakes)
		if s == nil || !reflect.DeepEqual(s.Load(), defaultConfig()) {
			t.Errorf("the example does not leave the defaults: %s", mistakes.String())
		}
	}
}

func TestHeadingsBeginWithAnOption(t *testing.T) {
	for name := range headings {
		if findOption(name) == nil {
			t.Errorf("no option %s", name)
		}
	}
}
