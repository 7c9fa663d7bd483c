package scripts

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/telemetry"
)

func TestDocumentsOfTheInstallationAreThoseOfTheTableOfOptions(t *testing.T) {
	for name, want := range map[string]string{
		"berth.conf":            config.Example(),
		"berth.1":               config.Manual(),
		"completion/berth.bash": config.BashCompletion(),
		"completion/_berth":     config.ZshCompletion(),
		"completion/berth.fish": config.FishCompletion(),
	} {
		path := filepath.Join("deploy", name)
		if *updateDocs {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not what server/config/options.go says (%v). Run go test ./scripts -run Documents -update-docs", path, err)
		}
	}
}

func TestTheImageHasAConfigurationThatBerthTakes(t *testing.T) {
	var mistakes strings.Builder
	s, _ := config.Read([]string{"deploy/docker/berth.conf"}, nil, io.Discard, &mistakes)
	if s == nil {
		t.Fatal(mistakes.String())
	}
}

// metricRow is a row of the table of metrics: name, type, labels.
var metricRow = regexp.MustCompile("(?m)^\\| `(berth_\\w+)` \\| (\\w+) \\| (.*?) \\| ")

// labels returns the names of the labels of each series that a scrape may have.
func labels() map[string][]string {
	known := map[string][]string{}
	for _, row := range metricRow.FindAllStringSubmatch(telemetry.Markdown(), -1) {
		names := append(strings.Fields(strings.ReplaceAll(row[3], "`", "")), "job", "instance")
		if row[2] != "histogram" {
			known[row[1]] = names
			continue
		}
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			known[row[1]+part] = append(names[:len(names):len(names)], "le")
		}
	}
	return known
}

var (
	usedMetric = regexp.MustCompile(`\b(berth_\w+)(\{[^}]*\})?`)
	usedLabel  = regexp.MustCompile(`(\w+) *(?:=~|!~|!=|=)`)
)

// unknownMetrics lists the series and labels in a text that no scrape has.
func unknownMetrics(text string, known map[string][]string) (unknown []string) {
	for _, use := range usedMetric.FindAllStringSubmatch(text, -1) {
		names, is := known[use[1]]
		if !is {
			unknown = append(unknown, use[1])
		}
		for _, label := range usedLabel.FindAllStringSubmatch(use[2], -1) {
			if is && !slices.Contains(names, label[1]) {
				unknown = append(unknown, use[1]+" with "+label[1])
			}
		}
	}
	return unknown
}

func TestAlertsAndDashboardNameMetricsThatThereAre(t *testing.T) {
	known := labels()
	for _, name := range []string{"alerts.yml", "alerts_test.yml", "dashboard.json"} {
		text, err := os.ReadFile(filepath.Join("deploy/monitoring", name))
		if err != nil {
			t.Fatal(err)
		}
		if unknown := unknownMetrics(string(text), known); len(unknown) > 0 || !usedMetric.Match(text) {
			t.Errorf("%s: no such metric: %s", name, cmp.Or(strings.Join(unknown, ", "), "none is named"))
		}
	}
	got := unknownMetrics(`rate(berth_errors_total{error="x"}[5m]) + berth_nothing_total + berth_errors_total{node="y"} + berth_loop_lag_seconds`, known)
	if want := []string{"berth_nothing_total", "berth_errors_total with node", "berth_loop_lag_seconds"}; !slices.Equal(got, want) {
		t.Errorf("unknown are %v, want %v", got, want)
	}
}

func TestDocumentsNameMetricsThatThereAre(t *testing.T) {
	known := labels()
	known["berth_chain"] = nil // a field of INFO
	for _, row := range metricRow.FindAllStringSubmatch(telemetry.Markdown(), -1) {
		known[row[1]] = nil // a document may name a histogram as a whole
	}
	paths, err := filepath.Glob("../server/*.md")
	if err != nil || len(paths) < 4 {
		t.Fatal(paths, err)
	}
	for _, path := range append(paths, "../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, use := range usedMetric.FindAllStringSubmatch(string(text), -1) {
			if _, is := known[use[1]]; !is {
				t.Errorf("%s: no such metric: %s", path, use[1])
			}
		}
	}
}

// settingsBlock is a block of settings to copy.
var settingsBlock = regexp.MustCompile("(?s)\n```\n(.*?)```")

func TestDocumentsHaveSettingsThatBerthTakes(t *testing.T) {
	text, err := os.ReadFile("../server/TUNING.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := settingsBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Fatal("there are no settings to copy")
	}
	for _, block := range blocks {
		path := filepath.Join(t.TempDir(), "berth.conf")
		if err := os.WriteFile(path, []byte(block[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		var mistakes strings.Builder
		if s, _ := config.Read([]string{path}, nil, io.Discard, &mistakes); s == nil {
			t.Errorf("%s\n%s", block[1], mistakes.String())
		}
	}
}
