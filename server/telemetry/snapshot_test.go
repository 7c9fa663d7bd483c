package telemetry

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
)

// notSums are the figures that Add chooses between instead of adding them, and those that name a
// thing instead of counting it.
var notSums = map[string]bool{
	"Loop.Pipes.OwedSince": true, "Loop.Pipes.UpSince": true, "Loop.Pipes.DownSince": true, "Loop.Pipes.LastErr": true, "Loop.Pipes.LastErrAt": true,
	"Loop.Rates": true, "Loop.Pins": true, // appended
}

// numbers visits every number of v, also those in maps, in slices and in unexported fields. change
// returns the number that takes its place.
func numbers(t *testing.T, v reflect.Value, name string, change func(name string, n int64) int64) {
	t.Helper()
	if notSums[name] {
		return
	}
	v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem() // unexported fields, too
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		v.SetInt(change(name, v.Int()))
	case reflect.Uint64:
		v.SetUint(uint64(change(name, int64(v.Uint()))))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[Histogram]() {
			numbers(t, v.FieldByName("counts"), name+".counts", change)
			numbers(t, v.FieldByName("sum"), name+".sum", change)
			return
		}
		for i := range v.NumField() {
			numbers(t, v.Field(i), name+"."+v.Type().Field(i).Name, change)
		}
	case reflect.Array, reflect.Slice:
		for i := range v.Len() {
			numbers(t, v.Index(i), name, change)
		}
	case reflect.Map:
		if v.Len() == 0 {
			t.Errorf("%s has no entry", name)
		}
		for _, key := range v.MapKeys() {
			entry := reflect.New(v.Type().Elem()).Elem()
			entry.Set(v.MapIndex(key))
			numbers(t, entry, name, change)
			v.SetMapIndex(key, entry)
		}
	default:
		t.Errorf("%s is a %s, and this test cannot tell whether it is added", name, v.Kind())
	}
}

// filled returns a loop in which every figure is one.
func filled(t *testing.T) *Loop {
	t.Helper()
	l := NewLoop()
	v := reflect.ValueOf(l).Elem()
	addEntries(v)
	l.Rates, l.Pins = make([]Rates, 1), make([]PinRow, 1)
	numbers(t, v, "Loop", func(string, int64) int64 { return 1 })
	return l
}

// addEntries gives every map and every slice in v one entry.
func addEntries(v reflect.Value) {
	v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[Histogram]() {
			return
		}
		for i := range v.NumField() {
			addEntries(v.Field(i))
		}
	case reflect.Map:
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	}
}

// A figure that Add forgets would be missing from every report.
func TestLoopsAddUpInEveryFigure(t *testing.T) {
	sum := NewLoop()
	for loops := int64(1); loops <= 2; loops++ {
		sum.add(filled(t))
		visited := 0
		numbers(t, reflect.ValueOf(sum).Elem(), "Loop", func(name string, n int64) int64 {
			visited++
			if n != loops {
				t.Errorf("%s is %d after %d loops: add the field in Counters.Add (or Loop.add)", name, n, loops)
			}
			return n
		})
		if visited < 100 {
			t.Errorf("only %d figures were looked at", visited)
		}
		if len(sum.Rates) != int(loops) || len(sum.Pins) != int(loops) {
			t.Errorf("%d rates and %d pins of %d loops", len(sum.Rates), len(sum.Pins), loops)
		}
	}
}

// filledSnapshot returns a berth of two loops in which every figure of a loop is one.
func filledSnapshot(t *testing.T) *Snapshot {
	t.Helper()
	now := time.Unix(1_700_000_000, 0)
	return &Snapshot{
		At: now, Started: now.Add(-time.Minute), Loops: []*Loop{filled(t), filled(t)}, Topology: router.Single("n:1", "r:1"), Commands: router.Builtin(),
		Sources: map[string]Source{"r:1": {Readable: "yes"}},
		Berth:   Berth{RunID: strings.Repeat("a", 40), RedisVersion: "7.0.15", Port: 7379, Accepted: 30, ClientsLimit: 40},
	}
}

// A family that Snapshot.Prometheus forgets would be in the documents alone.
func TestEveryFamilyIsWritten(t *testing.T) {
	snap := filledSnapshot(t)
	snap.Pools = []Pool{{Stats: pool.Stats{Closes: map[string]uint64{"idle": 1}}}}
	snap.Doors = []Door{{Name: "127.0.0.1:7379", Clients: 1}}
	m := newWriter()
	snap.Prometheus(m)
	for row, f := range families {
		if len(m.families[row]) == 0 {
			t.Errorf("%s is declared and never written: write it in prometheus.go", f.name)
		}
	}
}

// A rate or an alert sees the first event of a counter only if the counter was there before.
func TestCountersAreThereBeforeTheirFirstEvent(t *testing.T) {
	snap := &Snapshot{At: time.Now(), Topology: router.Single("n:1"), Commands: router.Builtin(), Loops: []*Loop{NewLoop()}}
	scraped := readScrape(t, write(snap.Prometheus))
	for _, f := range families {
		if f.kind == "gauge" || f == metricCommands || f == metricNodeReads { // of each command, or node, that is used
			continue
		}
		if scraped.types[f.name] == "" {
			t.Errorf("%s is not there", f.name)
		}
	}
	for _, series := range []string{
		`berth_clients_closed_total{reason="TLS error"}`, `berth_clients_closed_total{reason="client closed"}`,
		`berth_client_limits_total{option="auth-timeout"}`, `berth_errors_total{error="TRYAGAIN"}`, `berth_orphan_pops_total{outcome="lost"}`,
		`berth_node_dials_total{kind="lease",outcome="error"}`, `berth_node_connections_closed_total{kind="lease",reason="lost"}`,
		`berth_pool_waits_total{node="n:1",outcome="timeout"}`, `berth_commands_total{command="unknown",outcome="error"}`,
	} {
		if n, there := scraped.samples[series]; !there || n != 0 {
			t.Errorf("%s: %v, there: %v", series, n, there)
		}
	}
	if _, there := scraped.samples[`berth_clients_closed_total{reason=""}`]; there {
		t.Error("a client that is not closed is counted")
	}
}

func TestAllReportsShowTheSameFigures(t *testing.T) {
	snap := filledSnapshot(t)
	info := snap.Info(ReadSections([][]byte{[]byte("all")}), &NodesSaid{})
	scraped := write(snap.Prometheus)
	status, err := json.Marshal(snap.Status())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ report, text, want string }{
		{"INFO", info, "blocked_clients:2\r\n"},
		{"INFO", info, "tracking_clients:2\r\n"},
		{"INFO", info, "pinned_clients:2\r\n"},
		{"INFO", info, "total_connections_received:30\r\n"},
		{"INFO", info, "uptime_in_seconds:60\r\n"},
		{"INFO", info, "pipes_pending_replies:2\r\n"},
		{"INFO", info, "redirects_moved:2\r\n"},
		{"metrics", scraped, "\nberth_clients_blocked 2\n"},
		{"metrics", scraped, "\nberth_clients_pinned 2\n"},
		{"metrics", scraped, "\nberth_clients_accepted_total 30\n"},
		{"metrics", scraped, "\nberth_redirects_total{kind=\"moved\"} 2\n"},
		{"metrics", scraped, "\nberth_client_limits_total{option=\"client-pipeline-limit\"} 2\n"},
		{"metrics", scraped, "\nberth_clients_closed_total{reason=\"idle timeout\"} 2\n"},
		{"status", string(status), `"clients_blocked":2,`},
		{"status", string(status), `"clients_pinned":2,`},
		{"status", string(status), `"clients_accepted":30,`},
		{"status", string(status), `"redirects_moved":2,`},
		{"status", string(status), `"uptime_seconds":60,`},
	} {
		if !strings.Contains(c.text, c.want) {
			t.Errorf("%s does not have %q", c.report, c.want)
		}
	}
	row := snap.StatsRow()
	if got := fmt.Sprint(row.Blocked, row.Pinned, row.Accepted, row.Moved, row.Uptime, row.Owed); got != "2 2 30 2 60 2" {
		t.Errorf("PROXY STATS has %s", got)
	}
}

// Reports of one Snapshot may be made in any order and more than once.
func TestAReportChangesNothingInItsSnapshot(t *testing.T) {
	snap := filledSnapshot(t)
	first := snap.StatsRow()
	write(snap.Prometheus)
	snap.Status()
	if again := snap.StatsRow(); again != first {
		t.Errorf("%+v, then %+v", first, again)
	}
	if n := snap.Loops[0].Clients; n != 1 {
		t.Errorf("the first loop has %d clients now", n)
	}
}

func TestEveryLabelHasAWordOfItsOwn(t *testing.T) {
	check := func(what string, n int, word func(int) string) {
		seen := map[string]bool{}
		for i := range n {
			if w := word(i); seen[w] || w == "" {
				t.Errorf("%s %d is called %q", what, i, w)
			} else {
				seen[w] = true
			}
		}
	}
	check("reason", int(numReasons)-1, func(i int) string { return Reason(i + 1).String() }) // after NotClosed
	check("limit", int(numLimits), func(i int) string { return Limit(i).String() })
	check("revocation", int(numRevocations), func(i int) string { return Revocation(i).String() })
}
