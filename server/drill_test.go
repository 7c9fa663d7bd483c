package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/telemetry"
)

// The drill causes faults and looks whether berth tells them: in its log, in PROXY, in a metric and, with
// DRILL_PROMTOOL=promtool, by an alert. OPERATING.md has the table of drillFaults. scripts/acceptance drill
// runs all of them.

// drillFault is one of them.
type drillFault struct {
	name   string
	logs   string // message of the line that tells it
	proxy  string // subcommand whose row does
	metric string // with labels, if it has any
	alert  string

	small  bool // run with all other tests, too
	args   []string
	cause  func(d *drill) (heal func())
	row    func(d *drill, row map[string]any) bool // reports whether a row tells it
	shown  []string                                // fields of the row
	tells  func(value float64) bool                // nil: the metric counts faults
	healed string                                  // regular expression for the line that says that it is over; "": none does
}

// drillFaults are all of them.
func drillFaults() []drillFault {
	return []drillFault{
		{
			name: "a node stands still (`SIGSTOP`)", small: true,
			logs: "node slow", proxy: "BACKENDS", metric: "berth_node_owed_seconds", alert: "BerthNodeHangs",
			cause:  func(d *drill) func() { d.node.Pause(); return d.node.Resume },
			row:    func(_ *drill, row map[string]any) bool { return row["state"] == "slow" },
			shown:  []string{"state", "state_seconds", "owed"},
			tells:  func(seconds float64) bool { return seconds > 2 },
			healed: "node no longer slow",
		},
		{
			name: "a node is killed", small: true,
			logs: "pipe down", proxy: "BACKENDS", metric: "berth_node_up", alert: "BerthNodeDown",
			cause:  func(d *drill) func() { d.node.Kill(); return func() { d.node.Restart(d.t) } },
			row:    func(_ *drill, row map[string]any) bool { return row["state"] == "down" },
			shown:  []string{"state", "last_error"},
			tells:  func(up float64) bool { return up == 0 },
			healed: "node back|backend answers",
		},
		{
			name: "a node takes 200 ms for each reply",
			logs: "node answers late", proxy: "SLOWLOG", metric: "berth_node_duration_seconds", alert: "BerthNodeSlow",
			cause: func(d *drill) func() {
				d.link.delay.Store(int64(200 * time.Millisecond))
				return func() { d.link.delay.Store(0) }
			},
			row: func(d *drill, row map[string]any) bool {
				return row["node"] == d.link.addr && row["us"].(int64) >= 200000
			},
			shown:  []string{"us", "words", "node", "held_us"},
			tells:  func(mean float64) bool { return mean > 0.1 },
			healed: "node answers in time",
		},
		{
			name: "one client sends pipelines of 10 MB",
			logs: "client held back", proxy: "TOP SORT bytes_in", metric: "berth_clients_stopped_total", alert: "BerthClientHeldBack",
			cause: func(d *drill) func() { return d.clients(1, sendsPipelines) },
			row: func(d *drill, row map[string]any) bool {
				return row["bytes_in_per_second"].(int64) > 1<<20
			},
			shown: []string{"addr", "bytes_in_per_second", "queued"},
		},
		{
			name: "one client wants 1,000 exclusive connections",
			logs: "no exclusive connection in time", proxy: "TOP BY address SORT leases", metric: `berth_pool_waits_total{outcome="timeout"}`, alert: "BerthPoolWaitsTimeOut",
			args:  []string{"--private-conn-pool-max-total", "1000", "--pool-blocking-share", "90"},
			cause: func(d *drill) func() { return d.clients(1000, blocks) },
			row:   func(_ *drill, row map[string]any) bool { return row["leases"].(int64) > 500 },
			shown: []string{"addr", "clients", "leases"},
		},
		{
			name: "`maxclients` is reached", small: true,
			logs: "client refused", proxy: "STATS", metric: "berth_clients_refused_total", alert: "BerthClientsRefused",
			args:  []string{"--maxclients", "50"},
			cause: func(d *drill) func() { return d.clients(80, comesAgain) },
			row: func(_ *drill, row map[string]any) bool {
				return row["clients"] == row["clients_limit"] && row["clients_refused"].(int64) > 0
			},
			shown: []string{"clients", "clients_limit", "clients_refused"},
		},
		{
			name: "berth is out of descriptors",
			logs: "accept failed", proxy: "STATS", metric: "berth_accepts_failed_total", alert: "BerthDescriptors",
			cause: func(d *drill) func() {
				d.limitFiles("30")
				leave := d.clients(40, comesAgain)
				return func() { d.limitFiles("10000"); leave() }
			},
			row:   func(_ *drill, row map[string]any) bool { return row["accepts_failed"].(int64) > 0 },
			shown: []string{"clients", "clients_limit", "accepts_failed"},
		},
	}
}

// drillTable is the table of all of them for OPERATING.md.
func drillTable() string {
	var b strings.Builder
	b.WriteString("| Fault | In the log | Shown by | Metric | Alert |\n|---|---|---|---|---|\n")
	code := func(word string) string { return "`" + word + "`" }
	for _, f := range drillFaults() {
		logs := code(f.logs)
		if f.healed != "" {
			logs += ", then " + strings.ReplaceAll(code(f.healed), "|", "`, `")
		}
		var shown []string
		for _, name := range f.shown {
			shown = append(shown, code(name))
		}
		fmt.Fprintf(&b, "| %s | %s | %s: %s | %s | %s |\n", f.name, logs, code("PROXY "+f.proxy), strings.Join(shown, " "), code(f.metric), code(f.alert))
	}
	return b.String()
}

func TestDocumentsHaveTheTableOfTheDrill(t *testing.T) {
	checkDocument(t, "drill", drillTable())
	alerts, err := os.ReadFile("../scripts/deploy/monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range drillFaults() {
		family, _, _ := strings.Cut(f.metric, "{")
		if !strings.Contains(telemetry.Markdown(), "\n| `"+family+"` |") {
			t.Errorf("there is no metric %s", family)
		}
		_, rule, there := strings.Cut(string(alerts), "- alert: "+f.alert+"\n")
		if rule, _, _ = strings.Cut(rule, "- alert: "); !there || !strings.Contains(rule, family) {
			t.Errorf("there is no alert %s that looks at %s", f.alert, family)
		}
	}
}

// drill is a berth that a fault is tried on, under a little load.
type drill struct {
	t     *testing.T
	fault *drillFault
	node  *redistest.Server
	link  *slowLink // between berth and the node
	b     *loadedBerth
	admin *redistest.Conn
	http  *http.Client // keeps its connection: berth may have none for another

	mu      sync.Mutex
	samples []map[string]float64 // scrapes, one at each beat
	beats   chan struct{}        // closed when the load and the scrapes are to end
	busy    sync.WaitGroup
}

// drillBeat is the time between two scrapes. The alerts take them for scrapes half a minute apart.
const drillBeat = 150 * time.Millisecond

func TestDrillTellsEachFault(t *testing.T) {
	figure(t, "| fault | log line | row of PROXY | metric: before → meanwhile | alert |")
	for _, fault := range drillFaults() {
		if fault.small || loadFull {
			t.Run(strings.Map(wordRune, fault.name), func(t *testing.T) { startDrill(t, &fault).run() })
		}
	}
}

// wordRune keeps what a name of a test may have.
func wordRune(r rune) rune {
	if r == '`' || r == ',' || r == '(' || r == ')' {
		return -1
	}
	return r
}

func startDrill(t *testing.T, fault *drillFault) *drill {
	d := &drill{t: t, fault: fault, node: redistest.Start(t), beats: make(chan struct{}), http: &http.Client{}}
	d.link = startSlowLink(t, d.node.Addr())
	d.b = startApart(t, d.link.addr, fault.args...)
	d.admin = dial(t, d.b.Addr())
	d.proxyRows()
	t.Cleanup(func() {
		close(d.beats)
		d.busy.Wait()
		d.http.CloseIdleConnections()
	})
	for range 4 {
		d.busy.Go(d.load)
	}
	d.busy.Go(d.scrape)
	return d
}

// load sends a request after the other, whatever the replies are.
func (d *drill) load() {
	for c := (*loadClient)(nil); !d.over(); {
		if c == nil {
			if c, _ = dialLoad(d.b.Addr()); c == nil {
				continue
			}
		}
		if _, err := c.do("SET", "drill", "x"); err != nil {
			c.close()
			c = nil
		}
		d.beat(drillBeat / 20)
	}
}

// over reports whether the drill has ended.
func (d *drill) over() bool {
	select {
	case <-d.beats:
		return true
	default:
		return false
	}
}

// beat waits for a while, or for the drill's end.
func (d *drill) beat(while time.Duration) {
	select {
	case <-d.beats:
	case <-time.After(while):
	}
}

// scrape keeps the metrics of each beat.
func (d *drill) scrape() {
	for !d.over() {
		if resp, err := d.http.Get("http://" + d.b.admin + "/metrics"); err == nil {
			sample := readMetrics(resp.Body)
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			d.mu.Lock()
			d.samples = append(d.samples, sample)
			d.mu.Unlock()
		}
		d.beat(drillBeat)
	}
}

// scraped is how many samples there are, and the latest.
func (d *drill) scraped() (n int, latest map[string]float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n = len(d.samples); n > 0 {
		latest = d.samples[n-1]
	}
	return n, latest
}

// scrapeMore waits for n more samples, and returns how many there are then and the latest.
func (d *drill) scrapeMore(n int) (int, map[string]float64) {
	due, _ := d.scraped()
	due += n
	redistest.Eventually(d.t, time.Minute, "more scrapes", func() bool { n, _ := d.scraped(); return n >= due })
	return d.scraped()
}

// drillSpan is how many samples of a state an alert is shown: seven and a half minutes.
var drillSpan = sized(2, 15)

func (d *drill) run() {
	f := d.fault
	well, was := d.scrapeMore(drillSpan)
	said := len(d.log())
	heal := f.cause(d)
	line, row := "", map[string]any(nil)
	d.await("the log to tell: "+f.logs, func() bool { line = d.logged(said, regexp.QuoteMeta(f.logs)); return line != "" })
	d.await("PROXY "+f.proxy+" to tell", func() bool { row = d.telling(); return row != nil })
	d.await(f.metric+" to tell", func() bool { _, is := d.scraped(); return d.metricTells(was, is) })
	ill, is := d.scrapeMore(drillSpan)
	said = len(d.log())
	heal()
	d.await("the log to say that it is over", func() bool { return f.healed == "" || d.logged(said, f.healed) != "" })
	before := is
	d.await(f.metric+" to go back", func() bool {
		var now map[string]float64
		_, now = d.scrapeMore(2)
		tells := d.metricTells(before, now)
		before = now
		return !tells
	})
	if f.proxy == "BACKENDS" {
		d.await("PROXY to go back", func() bool { return d.telling() == nil })
	}
	healed, _ := d.scrapeMore(drillSpan)
	verdict := f.alert
	if promtool := os.Getenv("DRILL_PROMTOOL"); promtool != "" {
		d.alerts(promtool, map[int]bool{well: false, ill: true, healed: false})
		verdict += " fires, and ends"
	}
	var shown []string
	for _, name := range f.shown {
		shown = append(shown, fmt.Sprintf("%s %v", name, row[name]))
	}
	figure(d.t, "| %s | %s | PROXY %s: %s | %s: %.3g → %.3g | %s |", f.name, line, f.proxy, strings.Join(shown, ", "), f.metric,
		f.value(nil, was), f.value(was, is), verdict)
}

// value is what the metric says at a scrape. Of durations it is the mean of those after an earlier scrape.
func (f *drillFault) value(before, is map[string]float64) float64 {
	name, labels, _ := strings.Cut(strings.TrimSuffix(f.metric, "}"), "{")
	if n := sum(is, name+"_count") - sum(before, name+"_count"); n > 0 {
		return (sum(is, name+"_sum") - sum(before, name+"_sum")) / n
	}
	return sum(is, name, labels)
}

func (d *drill) await(what string, cond func() bool) {
	d.t.Helper()
	redistest.Eventually(d.t, 20*time.Second, what, cond)
}

// log is what berth has written.
func (d *drill) log() string {
	text, _ := os.ReadFile(d.b.said)
	return string(text)
}

// logged is the first line of the log that matches, from an offset on, without its time.
func (d *drill) logged(from int, pattern string) string {
	text := d.log()
	line := regexp.MustCompile(`level=(\w+ msg="?(?:` + pattern + `).*)`).FindStringSubmatch(text[min(from, len(text)):])
	if line == nil {
		return ""
	}
	return line[1]
}

// proxyRows asks PROXY for the rows that are to tell the fault.
func (d *drill) proxyRows() []map[string]any {
	switch asked := words(d.fault.proxy); d.fault.proxy {
	case "STATS":
		return []map[string]any{fields(d.t, d.admin.Do("PROXY", "STATS"))}
	case "SLOWLOG":
		var rows []map[string]any
		for _, entry := range d.admin.Do("PROXY", "SLOWLOG", "GET", 10).([]any) {
			e := entry.([]any)
			rows = append(rows, map[string]any{"us": e[2], "words": e[3], "node": e[7], "held_us": e[8]})
		}
		return rows
	default:
		return proxy(d.t, d.admin, asked...)
	}
}

// telling is the first of these rows that tells it, nil if none does.
func (d *drill) telling() map[string]any {
	for _, row := range d.proxyRows() {
		if d.fault.row(d, row) {
			return row
		}
	}
	return nil
}

// metricTells reports whether the metric tells the fault. One that counts does if it counts.
func (d *drill) metricTells(was, is map[string]float64) bool {
	if d.fault.tells != nil {
		return d.fault.tells(d.fault.value(was, is))
	}
	return d.fault.value(nil, is) > d.fault.value(nil, was)
}

// alerts has promtool say whether the fault's alert fires after so many samples.
func (d *drill) alerts(promtool string, want map[int]bool) {
	d.t.Helper()
	const apart = 30 // seconds; what is counted is as much more
	rules, err := filepath.Abs("../scripts/deploy/monitoring/alerts.yml")
	if err != nil {
		d.t.Fatal(err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "rule_files: [%q]\nevaluation_interval: %ds\ntests:\n- interval: %[2]ds\n  input_series:\n", rules, apart)
	d.mu.Lock()
	samples := slices.Clone(d.samples)
	d.mu.Unlock()
	names := map[string]bool{}
	for _, sample := range samples {
		for name := range sample {
			if strings.HasPrefix(name, "berth_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "go_memlimit") {
				names[name] = true
			}
		}
	}
	for name := range names {
		family, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
		fmt.Fprintf(&text, "  - series: '%s{%s}'\n    values: '", family, strings.TrimPrefix(labels+`,job="berth",instance="drill"`, ","))
		for _, sample := range samples {
			if v, has := sample[name]; has {
				if isCounter(family) {
					v *= apart / drillBeat.Seconds()
				}
				text.WriteString(strconv.FormatFloat(v, 'f', -1, 64) + " ")
			} else {
				text.WriteString("_ ")
			}
		}
		text.WriteString("'\n")
	}
	text.WriteString("  promql_expr_test:\n")
	for n, fires := range want {
		samples := "[]"
		if fires {
			samples = "[{labels: '{}', value: 1}]"
		}
		fmt.Fprintf(&text, "  - expr: group(ALERTS{alertname=%q,alertstate=\"firing\"})\n    eval_time: %ds\n    exp_samples: %s\n",
			d.fault.alert, (n-1)*apart, samples)
	}
	file := filepath.Join(d.t.TempDir(), "drill.yml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput(); err != nil {
		d.t.Errorf("%s: %v\n%s", d.fault.alert, err, out)
	}
}

// isCounter reports whether a family counts events, or their durations.
func isCounter(family string) bool {
	return slices.ContainsFunc([]string{"_total", "_sum", "_count", "_bucket"}, func(end string) bool { return strings.HasSuffix(family, end) })
}

// limitFiles sets how many descriptors berth may have.
func (d *drill) limitFiles(n string) {
	d.t.Helper()
	if out, err := exec.Command("prlimit", "--pid", fmt.Sprint(d.b.cmd.Process.Pid), "--nofile="+n+":").CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
}

// clients starts clients that do something until they are told to leave, or the drill ends.
func (d *drill) clients(n int, act func(c *loadClient, number int) error) (leave func()) {
	var (
		over  atomic.Bool
		mu    sync.Mutex
		conns []*loadClient
		busy  sync.WaitGroup
	)
	one := func(number int) {
		for !over.Load() && !d.over() {
			c, err := dialLoad(d.b.Addr())
			if err != nil {
				d.beat(drillBeat)
				continue
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			for err == nil && !over.Load() && !d.over() {
				err = act(c, number)
				d.beat(drillBeat / 5)
			}
			c.close()
			d.beat(drillBeat)
		}
	}
	for number := range n {
		busy.Go(func() { one(number) })
	}
	leave = sync.OnceFunc(func() {
		over.Store(true)
		mu.Lock()
		for _, c := range conns {
			c.close()
		}
		mu.Unlock()
		busy.Wait()
	})
	d.t.Cleanup(leave)
	return leave
}

// sendsPipelines sends 10 MB of requests and then reads the replies.
func sendsPipelines(c *loadClient, _ int) error {
	const request = "*3\r\n$3\r\nSET\r\n$4\r\npipe\r\n$10\r\n0123456789\r\n"
	sent := make(chan error, 1)
	_ = c.nc.SetDeadline(time.Now().Add(loadPatience))
	n := 10 << 20 / len(request)
	go func() {
		_, err := c.nc.Write([]byte(strings.Repeat(request, n)))
		sent <- err
	}()
	for range n {
		if _, err := c.read(); err != nil {
			c.close()
			<-sent
			return err
		}
	}
	return <-sent
}

// blocks waits for an element that never comes.
func blocks(c *loadClient, number int) error {
	a, err := c.do("BLPOP", fmt.Sprint("drill:", number), "0")
	if err == nil && !a.isError("TRYAGAIN") {
		err = fmt.Errorf("BLPOP: %v", a)
	}
	return err
}

// comesAgain stays while it is served.
func comesAgain(c *loadClient, _ int) error {
	a, err := c.do("PING")
	if err == nil && a.kind == '-' {
		err = fmt.Errorf("PING: %v", a)
	}
	return err
}

// slowLink carries bytes to a node and back, the latter after a delay.
type slowLink struct {
	addr  string
	delay atomic.Int64 // nanoseconds
}

func startSlowLink(t *testing.T, node string) *slowLink {
	t.Helper()
	l := &slowLink{}
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	l.addr = between(t, node, &mu, &conns, l.back)
	return l
}

// late is bytes and when they are due.
type late struct {
	bytes []byte
	at    time.Time
}

// back carries the replies. What is on its way may be as much as comes in the delay.
func (l *slowLink) back(near, far net.Conn) {
	way := make(chan late, 1<<12)
	go func() {
		defer close(way)
		for {
			buf := make([]byte, 16<<10)
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			way <- late{buf[:n], time.Now().Add(time.Duration(l.delay.Load()))}
		}
	}()
	for b := range way {
		time.Sleep(time.Until(b.at))
		if _, err := near.Write(b.bytes); err != nil {
			_ = far.Close()
		}
	}
	_ = near.Close()
}
