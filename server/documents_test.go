package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/telemetry"
)

var updateDocs = flag.Bool("update-docs", false, "write the generated tables of the documents instead of checking them")

func TestDocumentsListEveryOption(t *testing.T) { checkDocument(t, "options", config.Markdown()) }

func TestDocumentsListEveryMetric(t *testing.T) { checkDocument(t, "metrics", telemetry.Markdown()) }

// checkDocument compares the table between OPERATING.md's markers with what the code says.
func checkDocument(t *testing.T, name, want string) {
	t.Helper()
	const path = "OPERATING.md"
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(data), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("OPERATING.md needs %s%s%s", begin, want, end)
	}
	if got == want {
		return
	}
	if *updateDocs {
		if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("OPERATING.md is not what the table says. Paste this between its %s markers, or run go test ./server -run Documents -update-docs:\n%s", name, want)
}
