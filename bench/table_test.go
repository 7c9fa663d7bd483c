//go:build linux

package main

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

// sample returns results as a run of three rounds might produce them.
func sample() *results {
	round := func(rate, p50, proxy, node float64) figures {
		f := unknown()
		f.rate, f.p50, f.proxyCPU, f.nodeCPU, f.errors = rate, p50, proxy, node, 0
		return f
	}
	none := unknown().proxyCPU
	row1 := &row{Endpoint: "direct", Rounds: []figures{round(100e3, 50, none, 10), round(50e3, 90, none, 12), round(90e3, 60, none, 11)}}
	row2 := &row{Endpoint: "berth", Rounds: []figures{round(110e3, 40, 5, 3), round(55e3, 80, 9, 4), round(99e3, 50, 6, 3)},
		Errors: map[string]int64{"a wrong reply: \"<b>\"": 2}}
	row3 := &row{Endpoint: "nutcracker", Why: "the endpoint closed the connection"}
	for _, row := range []*row{row1, row2} {
		for i := range int64(1000) {
			row.hist.record(i * int64(time.Microsecond))
		}
	}
	row2.Rounds[1].extra = []extra{{"conflicts", 7}}
	var all []*scenarioResults
	for _, p := range []int{1, 4, 16} {
		s := scenario{Name: "get", Clients: 50, Pipeline: p, Value: 64, Bed: standalone}
		all = append(all, &scenarioResults{Title: s.String(), Scenario: s, Rows: []*row{row1, row2, row3}})
	}
	return &results{Machine: "2 cores", Begun: "today", Command: "go run ./bench", Scenarios: all,
		Endpoints: []string{"direct", "berth", "nutcracker"}, Notes: []string{"A note."},
		Checks: []check{{"get", "direct", 10, 5, none, none}}}
}

func TestTheTableShowsMediansAndOmitsEmptyColumns(t *testing.T) {
	want := strings.TrimLeft(`
| endpoint   |                    req/s |                    p50 |             proxy CPU/req |             redis CPU/req | errors |
|------------|-------------------------:|-----------------------:|--------------------------:|--------------------------:|-------:|
| direct     |  90.0 k (50.0 k–100.0 k) | 60.0 µs (50.0 µs–90.0 µs) |                         – | 11.0 µs (10.0 µs–12.0 µs) |      0 |
| berth      |  99.0 k (55.0 k–110.0 k) | 50.0 µs (40.0 µs–80.0 µs) | 6.00 µs (5.00 µs–9.00 µs) | 3.00 µs (3.00 µs–4.00 µs) |      0 |
| nutcracker |                        – |                      – |                         – |                         – |      – |
`, "\n")
	// The widths are checked below.
	squeeze := func(s string) string { return regexp.MustCompile(` +|-+`).ReplaceAllString(s, " ") }
	got := markdown(figureRows(sample().Scenarios[0]))
	if squeeze(got) != squeeze(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	for _, line := range lines {
		if len([]rune(line)) != len([]rune(lines[0])) {
			t.Errorf("the columns are not aligned:\n%s", got)
			break
		}
	}
}

func TestRatiosAreTakenTurnByTurn(t *testing.T) {
	rows := ratioRows(sample().Scenarios[0], "direct")
	// Both rates were halved in the second turn, which must not change the ratio.
	if got := rows[1][0] + " " + rows[1][1]; got != "berth 1.10×" {
		t.Errorf("got %q", got)
	}
	if len(rows) != 2 {
		t.Errorf("rows without rounds are compared: %v", rows)
	}
	if rows := ratioRows(sample().Scenarios[0], "nutcracker"); len(rows) != 1 {
		t.Errorf("compared with an endpoint that was not measured: %v", rows)
	}
}

func TestRemarksListErrorsExtraFiguresAndReasons(t *testing.T) {
	got := strings.Join(remarks(sample().Scenarios[0]), "; ")
	want := `berth: 2 × a wrong reply: "<b>"; berth: conflicts 7; nutcracker: not measured: the endpoint closed the connection`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSpreadsIgnoreUnknownFigures(t *testing.T) {
	nan := unknown().rate
	if got := spreadOf([]float64{nan, 3, 1, nan, 2, 10}); got != (spread{2.5, 1, 10}) {
		t.Errorf("got %v", got)
	}
	if got := spreadOf([]float64{nan}); got.median == got.median {
		t.Errorf("got %v", got)
	}
}

func TestTheReportIsOnePageThatNeedsNoOtherFile(t *testing.T) {
	var out strings.Builder
	if err := writeReport(&out, sample(), []string{"direct"}); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, bad := range []string{"http:", "https:", "src=", "<link", "<script", "@import", "url(", "NaN", "Inf", "\"<b>\""} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	plots := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1)
	// Three scenarios with four bar charts and a latency plot each, and four sweeps over the
	// pipeline.
	if len(plots) != 3*(4+1)+4 {
		t.Errorf("the page has %d plots", len(plots))
	}
	for _, plot := range plots {
		d := xml.NewDecoder(strings.NewReader(plot))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, plot)
			}
		}
	}
}

func TestResultsCanBeWrittenAsJSON(t *testing.T) {
	b, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Scenarios []struct {
			Rows []struct{ Rounds []map[string]float64 }
		}
	}
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Scenarios[0].Rows[1].Rounds[1]; got["rate"] != 55e3 || got["conflicts"] != 7 {
		t.Errorf("got %v", got)
	}
}
