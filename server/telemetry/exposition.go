package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// family is one row of the table in families.go: a metric's name, type, help and labels.
type family struct {
	name   string
	kind   string // "counter", "gauge", "histogram"
	help   string
	labels []string // names, in the order in which values are given
	row    int      // its place in families
}

// families is the table.
var families []*family

func counterFamily(name, help string, labels ...string) *family {
	return addFamily("counter", name, help, labels)
}

func gaugeFamily(name, help string, labels ...string) *family {
	return addFamily("gauge", name, help, labels)
}

func histogramFamily(name, help string, labels ...string) *family {
	return addFamily("histogram", name, help, labels)
}

func addFamily(kind, name, help string, labels []string) *family {
	f := &family{name: name, kind: kind, help: help, labels: labels, row: len(families)}
	families = append(families, f)
	return f
}

// Writer gathers one scrape. A series that is written twice is the sum of both, so several pools of
// a node may be written one by one. The order of calls does not matter: families come out whole, in
// the order of the table. One goroutine uses a Writer.
type Writer struct {
	families [][]*series // by row
	index    map[seriesKey]*series
}

type seriesKey struct {
	row    int
	labels string
}

// series is one line of the exposition, or one histogram.
type series struct {
	labels    string // the text between the braces
	value     float64
	histogram Histogram
}

func newWriter() *Writer {
	return &Writer{families: make([][]*series, len(families)), index: map[seriesKey]*series{}}
}

// Counter adds to a counter. The values of its labels come in the order of its row.
func (m *Writer) Counter(f *family, value uint64, labels ...string) {
	m.series(f, "counter", labels).value += float64(value)
}

// Gauge adds to a gauge.
func (m *Writer) Gauge(f *family, value float64, labels ...string) {
	m.series(f, "gauge", labels).value += value
}

// Histogram adds to a histogram. h is only read.
func (m *Writer) Histogram(f *family, h *Histogram, labels ...string) {
	m.series(f, "histogram", labels).histogram.Add(h)
}

func (m *Writer) series(f *family, kind string, values []string) *series {
	if f.kind != kind || len(values) != len(f.labels) {
		panic(fmt.Sprintf("metric %s is a %s with labels %v; it was written as a %s with values %q", f.name, f.kind, f.labels, kind, values))
	}
	key := seriesKey{f.row, labelText(f.labels, values)}
	s := m.index[key]
	if s == nil {
		s = &series{labels: key.labels}
		m.index[key] = s
		m.families[f.row] = append(m.families[f.row], s)
	}
	return s
}

// labelText returns name="value",name="value", escaped as the text format demands.
func labelText(names, values []string) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name)
		b.WriteString(`="`)
		labelEscapes.WriteString(&b, strings.ToValidUTF8(values[i], "\ufffd"))
		b.WriteByte('"')
	}
	return b.String()
}

var (
	labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

// writeTo writes the scrape in the Prometheus text format, version 0.0.4. Families without a series
// are left out.
func (m *Writer) writeTo(w io.Writer) {
	var b strings.Builder
	for row, all := range m.families {
		if len(all) == 0 {
			continue
		}
		f := families[row]
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.name, helpEscapes.Replace(f.help), f.name, f.kind)
		for _, s := range all {
			if f.kind == "histogram" {
				s.writeHistogram(&b, f.name)
			} else {
				writeSample(&b, f.name, s.labels, "", s.value)
			}
		}
	}
	io.WriteString(w, b.String())
}

func (s *series) writeHistogram(b *strings.Builder, name string) {
	h, per := &s.histogram, 1.0
	if h.buckets != nil { // else nothing was ever observed: no bounds are known
		per = h.buckets.per
		below := uint64(0)
		for i, bound := range h.buckets.bounds {
			below += h.counts[i]
			le := formatSample(float64(bound) / per)
			writeSample(b, name+"_bucket", s.labels, `le="`+le+`"`, float64(below))
		}
	}
	count := float64(h.Count())
	writeSample(b, name+"_bucket", s.labels, `le="+Inf"`, count)
	writeSample(b, name+"_sum", s.labels, "", float64(h.sum)/per)
	writeSample(b, name+"_count", s.labels, "", count)
}

func writeSample(b *strings.Builder, name, labels, le string, value float64) {
	b.WriteString(name)
	if labels != "" || le != "" {
		b.WriteByte('{')
		b.WriteString(labels)
		if labels != "" && le != "" {
			b.WriteByte(',')
		}
		b.WriteString(le)
		b.WriteByte('}')
	}
	b.WriteByte(' ')
	b.WriteString(formatSample(value))
	b.WriteByte('\n')
}

// formatSample writes whole numbers without an exponent, so that people can read them.
func formatSample(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Exposition is the content of /metrics: what collect writes, then the figures of the Go runtime
// and of the process.
type Exposition struct {
	set *metrics.Set
}

// NewExposition makes an Exposition that calls collect at each scrape, on the goroutine of the
// scrape.
func NewExposition(collect func(*Writer)) *Exposition {
	e := &Exposition{set: metrics.NewSet()}
	var scrape sync.Mutex // one at a time
	e.set.RegisterMetricsWriter(func(w io.Writer) {
		scrape.Lock()
		defer scrape.Unlock()
		m := newWriter()
		collect(m)
		m.writeTo(w)
	})
	return e
}

// Write writes one scrape to w.
func (e *Exposition) Write(w io.Writer) {
	e.set.WritePrometheus(w)
	metrics.ExposeMetadata(true)
	var text bytes.Buffer
	metrics.WriteProcessMetrics(&text)
	metrics.WriteFDMetrics(&text)
	io.WriteString(w, explain(text.String()))
}

// explain completes what the library says of go_* and process_*: a HELP without words, and the type
// gauge for some counters.
func explain(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if name, isHelp := strings.CutPrefix(strings.TrimSpace(line), "# HELP "); isHelp {
			source := "Of this process, as /proc/self has it."
			if strings.HasPrefix(name, "go_") {
				source = "Of the Go runtime, as runtime.MemStats and runtime/metrics have it."
			}
			line = "# HELP " + name + " " + source + "\n"
		}
		b.WriteString(strings.Replace(line, "_total gauge\n", "_total counter\n", 1))
	}
	return b.String()
}

// Markdown renders the table as OPERATING.md shows it.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		labels := ""
		if len(f.labels) > 0 {
			labels = "`" + strings.Join(f.labels, "` `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, labels, strings.ReplaceAll(f.help, "|", `\|`))
	}
	return b.String()
}
