package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/server/config"
)

var updateReadme = flag.Bool("update-readme", false, "write the README's generated tables instead of checking them")

func TestReadmeListsEveryOption(t *testing.T) { checkReadme(t, "options", config.Markdown()) }

func TestReadmeListsEveryMetric(t *testing.T) { checkReadme(t, "metrics", metricsMarkdown()) }

// checkReadme compares what the README has between its markers with what the table says.
func checkReadme(t *testing.T, name, want string) {
	t.Helper()
	const path = "../README.md"
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(data), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("README.md needs %s%s%s", begin, want, end)
	}
	if got == want {
		return
	}
	if *updateReadme {
		if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("README.md is not what the table says. Paste this between its %s markers, or run go test ./server -run Readme -update-readme:\n%s", name, want)
}
