//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// redisEndpoint returns a redis-server as an endpoint that runs already.
func redisEndpoint(t *testing.T) *endpoint {
	t.Helper()
	s := redistest.Start(t)
	e, err := (&launcher{}).external(fmt.Sprintf("redis=%s@%d/%s", s.Addr(), s.PID(), s.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.stop)
	return e
}

func TestEveryWorkloadRunsWithoutErrorsOnARealServer(t *testing.T) {
	e := redisEndpoint(t)
	for _, text := range []string{
		"idle/c=300", // first, because the server's memory must grow: later it has free memory to reuse
		"get/c=5", "get/c=5/P=16", "set/c=5/P=16", "mixed/c=5/P=4", "mget/c=3", "txn-blob/c=3/P=4", "txn-watch/c=5",
		"queue/c=6", "pubsub/c=5/P=3", "pubsub/c=8/P=3/ch=3", "churn/c=5", "get/c=5/rate=2000", "get/c=3/d=100k", "set/c=3/d=1m",
		"big/d=2m/c=3", "hog/c=3", "get/c=1200/d=16",
	} {
		t.Run(text, func(t *testing.T) {
			all, err := parseScenario(text, scenario{Bed: standalone, WarmUp: testWarmUp, Clients: 1, Pipeline: 1, Value: 64, Keys: 500, Requests: 30, Rounds: 1})
			if err != nil {
				t.Fatal(err)
			}
			s := &all[0]
			out, err := round(s, e, 2)
			if err != nil {
				t.Fatal(err)
			}
			if out.figures.errors != 0 {
				t.Errorf("errors: %v", out.errors)
			}
			if s.Name != "idle" && (out.hist.total == 0 || !(out.figures.rate > 0) || !(out.figures.p50 > 0)) {
				t.Errorf("%d requests, figures %+v", out.hist.total, out.figures)
			}
			want := float64(s.Clients)
			if s.Name != "churn" && out.figures.nodeConns != want {
				t.Errorf("%v connections at the node, want %v", out.figures.nodeConns, want)
			}
			if s.Name == "idle" && !(out.figures.perClient > 1000) {
				t.Errorf("an idle client of redis-server costs %v bytes", out.figures.perClient)
			}
		})
	}
}

func TestAClusterIsMeasuredWithoutAProxy(t *testing.T) {
	l := &launcher{dir: t.TempDir()}
	e, err := l.start("direct", cluster)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.stop)
	all, err := parseScenario("mixed/c=6/P=4/on=cluster", scenario{WarmUp: testWarmUp, Value: 64, Keys: 3000, Requests: 30})
	if err != nil {
		t.Fatal(err)
	}
	out := mustRound(t, &all[0], e)
	if out.figures.errors != 0 || out.hist.total == 0 {
		t.Errorf("errors %v, %d correct replies", out.errors, out.hist.total)
	}
	owned := 0
	for _, keys := range e.owned {
		owned += len(keys)
	}
	if len(e.owned) != shardsOfCluster || owned != 3000 {
		t.Errorf("%d keys on %d shards", owned, len(e.owned))
	}
	mget := all[0]
	mget.Name = "mget"
	b := &bench{o: &options{}}
	if why := b.try(&mget, e); !strings.HasPrefix(why, "CROSSSLOT") {
		t.Errorf("MGET over shards without a proxy: %q", why)
	}
}

func TestARunLeavesItsReportsAndNoProcesses(t *testing.T) {
	dir := t.TempDir()
	mine := redistest.Start(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	o, err := parseOptions([]string{
		"-endpoints", fmt.Sprintf("direct,mine=%s@%d/%s", mine.Addr(), mine.PID(), mine.Addr()), "-scenario", "get/P=1,4,txn-watch",
		"-clients", "4", "-keys", "500", "-rounds", "2", "-n", "100", "-against", "direct", "-check",
		"-md", path("t.md"), "-html", path("t.html"), "-json", path("t.json"),
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBench(o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	b.out = io.Discard
	for i := range o.scenarios {
		o.scenarios[i].WarmUp = testWarmUp
	}
	if err := b.run(); err != nil {
		t.Fatal(err)
	}
	started := b.endpoints[standalone][0].nodes[0].proc
	if err := b.report(); err != nil {
		t.Fatal(err)
	}
	b.close()
	select {
	case <-started.exited:
	default:
		t.Error("redis-server still runs")
	}
	if _, err := os.Stat(b.dir); !os.IsNotExist(err) {
		t.Errorf("%s still exists: %v", b.dir, err)
	}
	for name, has := range map[string]string{"t.md": "| mine ", "t.html": "</html>", "t.json": `"proxy_cpu"`} {
		text, err := os.ReadFile(path(name))
		if err != nil || !strings.Contains(string(text), has) {
			t.Errorf("%s has no %q: %v", name, has, err)
		}
	}
	for _, s := range b.results.Scenarios {
		for _, row := range s.Rows {
			if len(row.Rounds) != 2 || len(row.Errors) > 0 || row.Why != "" {
				t.Errorf("%s, %s: %d rounds, errors %v, %s", s.Title, row.Endpoint, len(row.Rounds), row.Errors, row.Why)
			}
		}
	}
}
