//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// writeTables writes the results as Markdown that is readable as plain text. Each scenario has a
// table of figures and, for each endpoint in against, a table of ratios.
func writeTables(w io.Writer, r *results, against []string) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s. %s.\n\n", r.Machine, r.Begun)
	fmt.Fprintf(&out, "    %s\n\n", r.Command)
	out.WriteString("Medians over interleaved rounds (lowest–highest). CPU is user + system time per request. RSS is the memory " +
		"of the proxy; without a proxy, of redis-server.\n")
	for _, s := range r.Scenarios {
		fmt.Fprintf(&out, "\n### %s\n\n", s.Title)
		out.WriteString(markdown(figureRows(s)))
		for _, other := range against {
			if rows := ratioRows(s, other); len(rows) > 1 {
				fmt.Fprintf(&out, "\n%s = 1:\n\n", other)
				out.WriteString(markdown(rows))
			}
		}
		if lines := remarks(s); len(lines) > 0 {
			fmt.Fprintf(&out, "\n- %s\n", strings.Join(lines, "\n- "))
		}
	}
	if len(r.Checks) > 0 {
		out.WriteString("\n### Beside redis-benchmark\n\n")
		out.WriteString(markdown(checkRows(r.Checks)))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&out, "\n%s\n", note)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// figureRows returns a scenario's table of figures, without the columns that are empty.
func figureRows(s *scenarioResults) [][]string {
	rows := [][]string{{"endpoint"}}
	for _, row := range s.Rows {
		rows = append(rows, []string{row.Endpoint})
	}
	for i := range columns {
		c := &columns[i]
		if !s.present(c) {
			continue
		}
		rows[0] = append(rows[0], c.title)
		for j, row := range s.Rows {
			rows[j+1] = append(rows[j+1], spreadText(row.spread(c), c.text))
		}
	}
	return rows
}

// ratioRows returns a scenario's table of ratios to one endpoint. It returns only the head if there
// is nothing to compare.
func ratioRows(s *scenarioResults, other string) [][]string {
	against := s.rowOf(other)
	rows := [][]string{{"endpoint"}}
	if against == nil || len(against.Rounds) == 0 {
		return rows
	}
	var compared []*row
	for _, row := range s.Rows {
		if row != against && len(row.Rounds) > 0 {
			compared = append(compared, row)
			rows = append(rows, []string{row.Endpoint})
		}
	}
	for i := range columns {
		c := &columns[i]
		if !c.ratio || math.IsNaN(against.spread(c).median) {
			continue
		}
		rows[0] = append(rows[0], c.title)
		for j, row := range compared {
			text := "–"
			if r := row.ratio(c, against); !math.IsNaN(r.median) {
				text = spreadText(r, ratioText)
			}
			rows[j+1] = append(rows[j+1], text)
		}
	}
	return rows
}

// spreadText returns "12.3 k (11.9 k–12.6 k)", or only the median if the rounds do not differ.
func spreadText(s spread, show func(float64) string) string {
	if math.IsNaN(s.median) {
		return "–"
	}
	text, low, high := show(s.median), show(s.low), show(s.high)
	if low == high {
		return text
	}
	return fmt.Sprintf("%s (%s–%s)", text, low, high)
}

// checkRows returns the table that compares bench with redis-benchmark.
func checkRows(checks []check) [][]string {
	rows := [][]string{{"scenario", "endpoint", "bench, req/s", "redis-benchmark, req/s", "ratio",
		"bench, proxy CPU/req", "redis-benchmark, proxy CPU/req"}}
	for _, c := range checks {
		rows = append(rows, []string{c.scenario, c.endpoint, countText(c.ours), countText(c.theirs),
			ratioText(c.ours / c.theirs), knownText(c.ourCPU, microText), knownText(c.theirCPU, microText)})
	}
	return rows
}

// knownText formats a figure, or returns "–" if the figure is not known.
func knownText(v float64, show func(float64) string) string {
	if math.IsNaN(v) {
		return "–"
	}
	return show(v)
}

// remarks returns what does not fit into a table: why rows are empty, the errors, and the figures
// that only this workload has.
func remarks(s *scenarioResults) []string {
	var lines []string
	for _, row := range s.Rows {
		if row.Why != "" {
			lines = append(lines, fmt.Sprintf("%s: not measured: %s", row.Endpoint, row.Why))
		}
		var words []string
		for w := range row.Errors {
			words = append(words, w)
		}
		slices.Sort(words)
		for _, w := range words {
			lines = append(lines, fmt.Sprintf("%s: %d × %s", row.Endpoint, row.Errors[w], w))
		}
		var more []string
		for _, e := range row.extras() {
			more = append(more, fmt.Sprintf("%s %s", e.name, plainText(e.value)))
		}
		if len(more) > 0 {
			lines = append(lines, fmt.Sprintf("%s: %s", row.Endpoint, strings.Join(more, ", ")))
		}
	}
	return lines
}

// plainText formats small fractions with two decimals, and other numbers as countText does.
func plainText(v float64) string {
	if v < 100 && v != math.Trunc(v) {
		return fmt.Sprintf("%.2f", v)
	}
	return countText(v)
}

// markdown returns a Markdown table whose columns are aligned in plain text too. The first row is
// the head. The first column is aligned to the left, all others to the right.
func markdown(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell), 3)
		}
	}
	var out strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			space := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				out.WriteString("| " + cell + space + " |")
			} else {
				out.WriteString(" " + space + cell + " |")
			}
		}
		out.WriteString("\n")
		if n > 0 {
			continue
		}
		for i := range row {
			if i == 0 {
				out.WriteString("|" + strings.Repeat("-", width[i]+2) + "|")
			} else {
				out.WriteString(strings.Repeat("-", width[i]+1) + ":|")
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}
