//go:build linux

package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

const reportStyle = `
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667; --line: #d8dce2; --page: #fff; --band: #f5f6f8 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --soft: #9aa3af; --line: #3a414b; --page: #14171b; --band: #1d2126 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
p, li { color: var(--soft) } code { color: var(--ink); overflow-wrap: anywhere }
.plots { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start }
svg { max-width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: var(--ink) }
svg .title { font-weight: 600; font-size: 12px } svg .grid { stroke: var(--line); fill: none } svg .whisker { stroke: var(--ink); fill: none }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px; margin: .8rem 0 }
th, td { text-align: right; padding: .2rem .6rem; white-space: nowrap } th:first-child, td:first-child { text-align: left }
tr:nth-child(even) { background: var(--band) } th { border-bottom: 1px solid var(--line) } caption { text-align: left; color: var(--soft) }
nav a { margin-right: 1rem }
`

// writeReport writes the results as one HTML page that needs no other file; its plots are inline
// SVG.
func writeReport(w io.Writer, r *results, against []string) error {
	var out strings.Builder
	out.WriteString("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n" +
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>berth bench</title>\n<style>" +
		reportStyle + "</style>\n</head>\n<body>\n<h1>berth bench</h1>\n")
	fmt.Fprintf(&out, "<p>%s. %s.<br><code>%s</code></p>\n", html.EscapeString(r.Machine), html.EscapeString(r.Begun),
		html.EscapeString(r.Command))
	out.WriteString("<p>Medians over interleaved rounds; whiskers and parentheses show the lowest and the highest round. " +
		"CPU is user + system time per request. RSS is the memory of the proxy; without a proxy, of redis-server.</p>\n<nav>")
	for i, s := range r.Scenarios {
		fmt.Fprintf(&out, `<a href="#s%d">%s</a> `, i, html.EscapeString(s.Title))
	}
	out.WriteString("</nav>\n")
	if plots := sweeps(r); plots != "" {
		fmt.Fprintf(&out, "<h2>Figures over one number</h2>\n<div class=\"plots\">\n%s</div>\n", plots)
	}
	for i, s := range r.Scenarios {
		fmt.Fprintf(&out, "<h2 id=\"s%d\">%s</h2>\n<div class=\"plots\">\n", i, html.EscapeString(s.Title))
		for j := range columns {
			if c := &columns[j]; c.plotted && s.present(c) {
				out.WriteString(bars(c.title, c.text, barsOf(s, c, r.Endpoints)))
			}
		}
		out.WriteString(latencyPlot(s, r.Endpoints))
		out.WriteString("</div>\n")
		out.WriteString(htmlTable("", figureRows(s)))
		for _, other := range against {
			if rows := ratioRows(s, other); len(rows) > 1 {
				out.WriteString(htmlTable(other+" = 1", rows))
			}
		}
		if lines := remarks(s); len(lines) > 0 {
			out.WriteString("<ul>")
			for _, line := range lines {
				fmt.Fprintf(&out, "<li>%s</li>", html.EscapeString(line))
			}
			out.WriteString("</ul>\n")
		}
	}
	if len(r.Checks) > 0 {
		out.WriteString("<h2>Beside redis-benchmark</h2>\n" + htmlTable("", checkRows(r.Checks)))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&out, "<p>%s</p>\n", html.EscapeString(note))
	}
	out.WriteString("</body>\n</html>\n")
	_, err := io.WriteString(w, out.String())
	return err
}

// barsOf returns a bar for each endpoint's figure.
func barsOf(s *scenarioResults, c *column, endpoints []string) []bar {
	var all []bar
	for _, row := range s.Rows {
		all = append(all, bar{row.Endpoint, colour(row.Endpoint, endpoints), row.spread(c)})
	}
	return all
}

// quantileMarks are the labels of a latency plot. Each further nine has the same width.
var quantileMarks = []struct {
	q     float64
	label string
}{{0, "0"}, {0.5, "50 %"}, {0.9, "90"}, {0.99, "99"}, {0.999, "99.9"}, {0.9999, "99.99"}}

// latencyPlot draws the durations of all rounds over the share of requests that did not take
// longer.
func latencyPlot(s *scenarioResults, endpoints []string) string {
	place := func(q float64) float64 { return -math.Log10(1-q) / 4 }
	var marks []mark
	for _, m := range quantileMarks {
		marks = append(marks, mark{place(m.q), m.label})
	}
	var curves []curve
	for _, row := range s.Rows {
		if row.hist.total == 0 {
			continue
		}
		c := curve{label: row.Endpoint, colour: colour(row.Endpoint, endpoints)}
		for i := range 81 {
			q := 1 - math.Pow(10, -4*float64(i)/80)
			c.points = append(c.points, point{place(q), microseconds(row.hist.quantile(q))})
		}
		curves = append(curves, c)
	}
	return lines("latency by percentile", marks, true, microText, curves)
}

// sweepNumbers are the numbers of a scenario that can be the horizontal axis of a plot, if enough
// scenarios differ in that number alone.
var sweepNumbers = []struct {
	name string
	of   func(*scenario) *int
	text func(int) string
}{
	{"pipeline", func(s *scenario) *int { return &s.Pipeline }, strconv.Itoa},
	{"clients", func(s *scenario) *int { return &s.Clients }, strconv.Itoa},
	{"value", func(s *scenario) *int { return &s.Value }, sizeText},
}

// fewestToSweep is the number of scenarios from which a line shows more than bars.
const fewestToSweep = 3

// sweeps draws every plotted figure over each number in which enough scenarios differ.
func sweeps(r *results) string {
	var out strings.Builder
	for _, n := range sweepNumbers {
		groups := map[scenario][]*scenarioResults{}
		var order []scenario
		for _, s := range r.Scenarios {
			key := s.Scenario
			*n.of(&key) = 0
			key.Keys = 0 // depends on the value's size
			if _, known := groups[key]; !known {
				order = append(order, key)
			}
			groups[key] = append(groups[key], s)
		}
		for _, key := range order {
			group := groups[key]
			if len(group) < fewestToSweep {
				continue
			}
			slices.SortFunc(group, func(a, b *scenarioResults) int { return *n.of(&a.Scenario) - *n.of(&b.Scenario) })
			for i := range columns {
				if c := &columns[i]; c.plotted {
					title := fmt.Sprintf("%s: %s over %s", key.Name, c.title, n.name)
					out.WriteString(sweep(title, c, group, func(s *scenario) int { return *n.of(s) }, n.text, r.Endpoints))
				}
			}
		}
	}
	return out.String()
}

// sweep draws one figure over one number, on a logarithmic axis.
func sweep(title string, c *column, group []*scenarioResults, at func(*scenario) int, text func(int) string, endpoints []string) string {
	first, last := at(&group[0].Scenario), at(&group[len(group)-1].Scenario)
	place := func(s *scenarioResults) float64 {
		return math.Log(float64(at(&s.Scenario))/float64(first)) / math.Log(float64(last)/float64(first))
	}
	var marks []mark
	var curves []curve
	for _, s := range group {
		marks = append(marks, mark{place(s), text(at(&s.Scenario))})
	}
	for _, row := range group[0].Rows {
		line := curve{label: row.Endpoint, colour: colour(row.Endpoint, endpoints)}
		for _, s := range group {
			same := s.rowOf(row.Endpoint)
			if same == nil {
				continue
			}
			if v := same.spread(c).median; !math.IsNaN(v) {
				line.points = append(line.points, point{place(s), v})
			}
		}
		if len(line.points) > 0 {
			curves = append(curves, line)
		}
	}
	return lines(title, marks, !c.higher, c.text, curves)
}

// htmlTable returns an HTML table. The first row is the head.
func htmlTable(caption string, rows [][]string) string {
	var out strings.Builder
	out.WriteString("<div class=\"wide\"><table>")
	if caption != "" {
		fmt.Fprintf(&out, "<caption>%s</caption>", html.EscapeString(caption))
	}
	for i, row := range rows {
		cell := "td"
		if i == 0 {
			cell = "th"
		}
		out.WriteString("<tr>")
		for _, text := range row {
			fmt.Fprintf(&out, "<%s>%s</%s>", cell, html.EscapeString(text), cell)
		}
		out.WriteString("</tr>\n")
	}
	out.WriteString("</table></div>\n")
	return out.String()
}
