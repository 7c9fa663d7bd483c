package telemetry

import (
	"bufio"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A scrape is what a strict reader of the Prometheus text format 0.0.4 makes of an exposition.
type scrape struct {
	types   map[string]string
	samples map[string]float64 // by the line's name and labels
}

var (
	metricName  = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*`)
	metricLabel = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"`)
)

// readScrape reads text and reports everything that the format forbids: samples before or outside their family,
// a family in two places, HELP or TYPE twice, a series twice, bad names, labels, escapes and numbers, and
// histograms whose buckets do not ascend, lack +Inf or disagree with their count.
func readScrape(t *testing.T, text string) scrape {
	t.Helper()
	s := scrape{types: map[string]string{}, samples: map[string]float64{}}
	helped, ended := map[string]bool{}, map[string]bool{}
	family := ""
	enter := func(name string) {
		if name == family {
			return
		}
		if ended[name] {
			t.Errorf("family %s stands in two places", name)
		}
		ended[family] = true
		family = name
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		t.Error("the last line has no end")
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if kind, rest, ok := strings.Cut(strings.TrimPrefix(line, "# "), " "); ok && strings.HasPrefix(line, "# ") {
			name, words, _ := strings.Cut(rest, " ")
			enter(name)
			switch {
			case kind == "HELP" && !helped[name] && words != "":
				helped[name] = true
			case kind == "TYPE" && s.types[name] == "" && (words == "counter" || words == "gauge" || words == "histogram"):
				s.types[name] = words
			default:
				t.Errorf("unexpected line: %s", line)
			}
			continue
		}
		s.readSample(t, line, enter)
	}
	s.checkHistograms(t)
	return s
}

func (s *scrape) readSample(t *testing.T, line string, enter func(string)) {
	t.Helper()
	name := metricName.FindString(line)
	rest := line[len(name):]
	var labels []string
	if body, ok := strings.CutPrefix(rest, "{"); ok {
		for {
			m := metricLabel.FindStringSubmatch(body)
			if m == nil {
				t.Errorf("bad labels: %s", line)
				return
			}
			labels = append(labels, m[1])
			body = body[len(m[0]):]
			if next, more := strings.CutPrefix(body, ","); more {
				body = next
				continue
			}
			break
		}
		rest, ok = strings.CutPrefix(body, "}")
		if !ok {
			t.Errorf("labels without an end: %s", line)
			return
		}
	}
	for i, l := range labels {
		for _, other := range labels[:i] {
			if l == other {
				t.Errorf("label %s twice: %s", l, line)
			}
		}
	}
	text, ok := strings.CutPrefix(rest, " ")
	value, err := strconv.ParseFloat(text, 64)
	if name == "" || !ok || err != nil {
		t.Errorf("bad sample: %q", line)
		return
	}
	key := strings.TrimSuffix(line, " "+text)
	if _, twice := s.samples[key]; twice {
		t.Errorf("series twice: %s", key)
	}
	s.samples[key] = value
	enter(s.familyOf(name))
	if s.types[s.familyOf(name)] == "" {
		t.Errorf("sample without a TYPE in front: %s", line)
	}
}

func (s *scrape) familyOf(name string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && s.types[base] == "histogram" {
			return base
		}
	}
	return name
}

func (s *scrape) checkHistograms(t *testing.T) {
	t.Helper()
	buckets := map[string]map[float64]float64{} // of each series: count by bound
	for key, value := range s.samples {
		name, labels, _ := strings.Cut(strings.TrimSuffix(key, "}"), "{")
		base, ok := strings.CutSuffix(name, "_bucket")
		if !ok || s.types[base] != "histogram" {
			continue
		}
		i := strings.LastIndex(labels, `le="`)
		bound, err := strconv.ParseFloat(strings.TrimSuffix(labels[i+4:], `"`), 64)
		if i < 0 || err != nil {
			t.Errorf("bucket without a bound: %s", key)
			continue
		}
		series := base + "|" + strings.TrimSuffix(labels[:i], ",")
		if buckets[series] == nil {
			buckets[series] = map[float64]float64{}
		}
		buckets[series][bound] = value
	}
	for series, counts := range buckets {
		base, labels, _ := strings.Cut(series, "|")
		if labels != "" {
			labels = "{" + labels + "}"
		}
		infinite, ok := counts[inf]
		count, hasCount := s.samples[base+"_count"+labels]
		_, hasSum := s.samples[base+"_sum"+labels]
		if !ok || !hasCount || !hasSum || infinite != count {
			t.Errorf("histogram %s: +Inf %v (%v), count %v (%v), sum %v", series, infinite, ok, count, hasCount, hasSum)
		}
		for a, n := range counts {
			for b, m := range counts {
				if a < b && n > m {
					t.Errorf("histogram %s: %v up to %v, but %v up to %v", series, n, a, m, b)
				}
			}
		}
	}
}

var inf, _ = strconv.ParseFloat("+Inf", 64)

// write renders what fn writes.
func write(fn func(*Writer)) string {
	m := newWriter()
	fn(m)
	var b strings.Builder
	m.writeTo(&b)
	return b.String()
}

func TestEveryMetricFamilyIsNamedAndExplained(t *testing.T) {
	name := regexp.MustCompile(`^berth_[a-z]+(_[a-z]+)+$`)
	seen := map[string]bool{}
	for _, f := range families {
		if !name.MatchString(f.name) || seen[f.name] || f.help == "" || strings.Contains(f.help, "\n") {
			t.Errorf("%s: bad or second name, or no help in one line", f.name)
		}
		seen[f.name] = true
		if (f.kind == "counter") != strings.HasSuffix(f.name, "_total") {
			t.Errorf("%s: counters end in _total, nothing else does", f.name)
		}
		if f.kind == "histogram" && !strings.HasSuffix(f.name, "_seconds") {
			t.Errorf("%s: a histogram's name ends in its unit", f.name)
		}
	}
}

func TestEveryFamilyComesOutWhole(t *testing.T) {
	h := NewHistogram(DurationBuckets)
	h.Observe(1e6)
	text := write(func(m *Writer) {
		for round := range 2 { // two series of each, written in turn as two loops would
			for i := range families {
				f := families[len(families)-1-i]
				values := make([]string, len(f.labels))
				for j := range values {
					values[j] = fmt.Sprint("v", round)
				}
				switch f.kind {
				case "counter":
					m.Counter(f, 1, values...)
				case "gauge":
					m.Gauge(f, 0.5, values...)
				case "histogram":
					m.Histogram(f, &h, values...)
				}
			}
		}
	})
	s := readScrape(t, text)
	if len(s.types) != len(families) {
		t.Errorf("%d families of %d", len(s.types), len(families))
	}
	at := -1
	for _, f := range families {
		next := strings.Index(text, "# HELP "+f.name+" ")
		if next <= at {
			t.Errorf("%s is not where the table has it", f.name)
		}
		at = next
	}
}

func TestASeriesWrittenTwiceIsTheSum(t *testing.T) {
	h := NewHistogram(DurationBuckets)
	h.Observe(1e6)
	h.Observe(2e10)
	s := readScrape(t, write(func(m *Writer) {
		m.Counter(metricClientsClosed, 2, "eof")
		m.Counter(metricClientsClosed, 1<<53, "idle")
		m.Counter(metricClientsClosed, 3, "eof")
		m.Gauge(metricClients, 5)
		m.Gauge(metricClients, -1)
		m.Histogram(metricLoopLag, &h)
		m.Histogram(metricLoopLag, &h)
	}))
	for key, want := range map[string]float64{
		`berth_clients_closed_total{reason="eof"}`:   5,
		`berth_clients_closed_total{reason="idle"}`:  1 << 53,
		`berth_clients_connected`:                    4,
		`berth_loop_lag_seconds_bucket{le="0.0005"}`: 0,
		`berth_loop_lag_seconds_bucket{le="0.001"}`:  2,
		`berth_loop_lag_seconds_bucket{le="10"}`:     2,
		`berth_loop_lag_seconds_bucket{le="+Inf"}`:   4,
		`berth_loop_lag_seconds_count`:               4,
		`berth_loop_lag_seconds_sum`:                 40.002,
	} {
		if got, ok := s.samples[key]; !ok || got != want {
			t.Errorf("%s is %v (there: %v), want %v", key, got, ok, want)
		}
	}
}

func TestLabelsAreEscaped(t *testing.T) {
	odd := "a\"b\\c\nd\xff,}é"
	text := write(func(m *Writer) {
		m.Counter(metricClientsClosed, 1, odd)
		m.Histogram(metricPoolHold, &Histogram{}, odd)
	})
	readScrape(t, text)
	if want := `berth_clients_closed_total{reason="a\"b\\c\nd` + "\ufffd" + `,}é"} 1`; !strings.Contains(text, want) {
		t.Errorf("got\n%s\nwant %s", text, want)
	}
}

func TestAMetricWrittenAsWhatItIsNotPanics(t *testing.T) {
	for what, fn := range map[string]func(*Writer){
		"kind":   func(m *Writer) { m.Gauge(metricClientsClosed, 1, "eof") },
		"labels": func(m *Writer) { m.Gauge(metricClients, 1, "odd") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("wrong %s goes through", what)
				}
			}()
			write(fn)
		}()
	}
}

func TestAnExpositionHoldsBerthTheRuntimeAndTheProcess(t *testing.T) {
	e := NewExposition(func(m *Writer) { m.Gauge(metricLoops, 2); m.Gauge(metricLoops, 2) })
	var b strings.Builder
	e.Write(&b)
	for _, want := range []string{"\nberth_loops_running 4\n", "\ngo_goroutines ", "\nprocess_resident_memory_bytes ", "\nprocess_open_fds "} {
		if !strings.Contains("\n"+b.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	helped, types := map[string]bool{}, map[string]string{}
	for line := range strings.Lines(b.String()) {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "# HELP "):
			helped[words[2]] = len(words) > 3
		case strings.HasPrefix(line, "# TYPE "):
			types[words[2]] = words[3]
		default:
			name := metricName.FindString(line)
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base := strings.TrimSuffix(name, suffix); types[name] == "" && types[base] != "" {
					name = base
				}
			}
			if !helped[name] || types[name] == "" || (strings.HasSuffix(name, "_total") && types[name] != "counter") {
				t.Errorf("%s has help: %v, type: %s", name, helped[name], types[name])
			}
		}
	}
}
