package main

import (
	"cmp"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
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
	t.Errorf("OPERATING.md is not what the table of %s says. Run go test ./server -run Documents -update-docs. The lines that differ:\n%s",
		name, linesThatDiffer(got, want))
}

// linesThatDiffer lists the lines that one text alone has. Where there are none the order differs.
func linesThatDiffer(got, want string) string {
	var b strings.Builder
	only := func(sign, text, other string) {
		has := strings.Split(other, "\n")
		for line := range strings.SplitSeq(text, "\n") {
			if !slices.Contains(has, line) {
				b.WriteString(sign + line + "\n")
			}
		}
	}
	only("- ", got, want)
	only("+ ", want, got)
	return cmp.Or(b.String(), "none, but they are in another order, or one comes twice\n")
}

func TestDocumentsSayWhatEachProxySubcommandShows(t *testing.T) {
	data, err := os.ReadFile("OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range router.WithOwn().Find("proxy").Subcommands() {
		row := "\n| `" + strings.ToUpper(strings.ReplaceAll(cmd.Name, "|", " ")) + "` |"
		if cmd.Name != "proxy|help" && !strings.Contains(string(data), row) {
			t.Errorf("OPERATING.md has no row%s", row)
		}
	}
}

// What the metrics and PROXY PINS call a way, or a reason for a lease, README calls so, too.
func TestDocumentsHaveTheWordsOfTheMetrics(t *testing.T) {
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	for way := router.Shared; way <= router.Refused; way++ {
		if !strings.Contains(readme, "\n| "+way.String()+" |") {
			t.Errorf("README.md has no row for the way %s", way)
		}
	}
	for _, reason := range pool.Reasons() {
		if !strings.Contains(readme, "`"+reason.String()+"`") {
			t.Errorf("README.md does not say what a lease for %s is", reason)
		}
	}
}
