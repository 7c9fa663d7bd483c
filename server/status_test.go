package main

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/admin"
	"github.com/berth-proxy/berth/server/build"
	"github.com/berth-proxy/berth/server/telemetry"
)

// statusOf serves the page of a berth on a free port and returns its URL without the path.
func statusOf(t *testing.T, b *berthServer) string {
	t.Helper()
	page := telemetry.NewSharedReport(b.srv.look)
	a, err := admin.Listen([]string{"127.0.0.1"}, 0, nil, admin.Source{Metrics: func(io.Writer) {}, Status: page.JSON})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return strings.TrimSuffix(a.URL(), "/metrics")
}

// report fetches /status.json.
func report(t *testing.T, base string) (r telemetry.StatusReport, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(base + "/status.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/json; charset=utf-8" ||
		res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, header %v, %v", res.StatusCode, res.Header, err)
	}
	body = string(data)
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return r, body
}

func TestStatusShowsWhatClientsAreDoing(t *testing.T) {
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--pubsub-sharing", "no", "--private-conn-pool-max-total", "3", "--pool-blocking-share", "70", "--pool-wait-timeout", "0", "--loops", "2")
	base := statusOf(t, b)
	blocked, watching, subscribed, waiting := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	watching.Do("WATCH", "k")
	watching.Do("MULTI")
	watching.Do("EXEC")
	watching.Do("WATCH", "k")
	blocked.Send("BLPOP", "q", "0")
	subscribed.Do("SUBSCRIBE", "news")
	eventually(t, "three connections to be held", func() bool {
		r, _ := report(t, base)
		return r.PinsTotal == 3
	})
	waiting.Send("MONITOR") // for a WATCH the other's would be taken back
	waiting.Send("GET", "a", "b")
	var r telemetry.StatusReport
	eventually(t, "a client to wait", func() bool {
		r, _ = report(t, base)
		return r.Stats.Waiting == 1 && r.Nodes[0].Waiting == 1
	})
	s := r.Stats
	if s.Clients != 4 || s.Blocked != 1 || s.Subscribed != 1 || s.Loops != 2 || s.Leases != 3 || r.LoopsSilent != 0 {
		t.Errorf("stats: %+v", s)
	}
	if !r.Ready || r.Why != "" || r.PoolMaxTotal != 3 || !strings.Contains(r.Backend, node.Addr()) || r.Version != build.Version {
		t.Errorf("berth: %+v", r)
	}
	if n := r.Nodes[0]; len(r.Nodes) != 1 || n.Node != node.Addr() || n.Leased != 3 || n.Blocking != 2 || n.Waiting != 1 || n.WaitBlock != 1 ||
		n.Limit != 3 || n.LimitLong != 2 || n.State != "up" {
		t.Errorf("nodes: %+v", r.Nodes)
	}
	if p := r.Pools[0]; len(r.Pools) != 1 || p.ClActive != 3 || p.ClWaiting != 1 || p.SvActive != 3 {
		t.Errorf("pools: %+v", r.Pools)
	}
	if len(r.Slots) != 1 || r.Slots[0].Node != node.Addr() {
		t.Errorf("slots: %+v", r.Slots)
	}
	var reasons []string
	for _, p := range r.Pins {
		reasons = append(reasons, p.Reason)
	}
	if slices.Sort(reasons); !slices.Equal(reasons, []string{"blocking", "subscribed", "watch"}) {
		t.Errorf("pins: %+v", r.Pins)
	}
	held := uint64(0)
	for _, n := range r.Nodes[0].Leases["watch"].Hold {
		held += n
	}
	if held != 1 || len(r.Bounds) != len(pool.Buckets) || r.Bounds[0] != 100 {
		t.Errorf("%d transactions were held for some time, bounds %v", held, r.Bounds)
	}
}

func TestStatusShowsNoMoreThanTheLongestPins(t *testing.T) {
	b := startBerth(t, redistest.Start(t).Addr(), "--loops", "2")
	base := statusOf(t, b)
	var first []int64
	for i := range 3 * telemetry.StatusPins {
		c := dial(t, b.Addr())
		c.Do("WATCH", "k")
		if i < telemetry.StatusPins {
			first = append(first, c.Do("CLIENT", "ID").(int64))
		}
	}
	r, _ := report(t, base)
	if r.PinsTotal != 3*telemetry.StatusPins || len(r.Pins) != telemetry.StatusPins {
		t.Fatalf("%d of %d pins", len(r.Pins), r.PinsTotal)
	}
	// Within a second, order is by client; so is the order in which they came, on each loop.
	for _, p := range r.Pins {
		if !slices.Contains(first, p.ID) && p.Held < r.Pins[0].Held {
			t.Errorf("client %d is shown, and not one of %v", p.ID, first)
		}
	}
}

func TestStatusWithoutClientsHasListsAndNoNulls(t *testing.T) {
	base := statusOf(t, startBerth(t, ""))
	_, body := report(t, base)
	for _, name := range []string{"nodes", "pools", "pins", "slots"} {
		if strings.Contains(body, `"`+name+`":null`) {
			t.Errorf("%s is null", name)
		}
	}
	if !strings.Contains(body, `"rates":{"until":`) || strings.Contains(body, `"requests":null`) {
		t.Error("no rates")
	}
}

func TestStatusTellsOfANodeThatIsNotReachable(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--topology-refresh-interval", "1")
	base := statusOf(t, b)
	node.Stop()
	eventually(t, "berth not to be ready", func() bool {
		b.srv.nodes.Refresh()
		r, _ := report(t, base)
		return !r.Ready && strings.Contains(r.Why, "refused")
	})
}

func TestStatusTellsOfALoopThatDoesNotAnswer(t *testing.T) {
	b := startBerth(t, "", "--loops", "2")
	for range 8 {
		dial(t, b.Addr()).Do("PING")
	}
	loops := b.srv.eachLoop()
	if len(loops) != 2 {
		t.Fatalf("%d loops", len(loops))
	}
	let := make(chan struct{})
	loops[0].Post(func() { <-let })
	r := b.srv.look(telemetry.StatusPins).Status()
	close(let)
	if r.LoopsSilent != 1 || r.Stats.Loops != 1 {
		t.Errorf("%d silent, %d answered", r.LoopsSilent, r.Stats.Loops)
	}
}

func TestALoopThatDoesNotAnswerIsShownWithItsPreviousFigures(t *testing.T) {
	parallel(t)
	b := startBerth(t, "", "--loops", "2")
	for range 8 {
		dial(t, b.Addr()).Do("PING")
	}
	var before telemetry.StatsRow
	eventually(t, "both loops to answer", func() bool {
		snap := b.srv.look(0)
		before = snap.StatsRow()
		return snap.Silent == 0 && before.Loops == 2
	})
	stuck := b.srv.eachLoop()[0]
	let := make(chan struct{})
	stuck.Post(func() { <-let })
	snap := b.srv.look(0)
	healthy := b.srv.healthy()
	close(let)
	if snap.Silent == 0 || healthy == nil {
		t.Errorf("%d silent, healthy: %v", snap.Silent, healthy)
	}
	if now := snap.StatsRow(); now.Loops != 2 || now.Clients != before.Clients || now.Requests != before.Requests {
		t.Errorf("%+v, before that %+v", now, before)
	}
}

func TestAClientsNameCannotInject(t *testing.T) {
	b := startBerth(t, redistest.Start(t).Addr())
	base := statusOf(t, b)
	const name = `</script><img/src=x/onerror=alert(1)>"'&amp;`
	c := dial(t, b.Addr())
	if got := c.Do("CLIENT", "SETNAME", name); got != "OK" {
		t.Fatal(got)
	}
	c.Do("WATCH", "k")
	r, body := report(t, base)
	if len(r.Pins) != 1 || r.Pins[0].Name != name {
		t.Errorf("the name did not come through: %+v", r.Pins)
	}
	if strings.ContainsAny(body, "<>&") {
		t.Errorf("not escaped: %s", body)
	}
	for _, resp := range []int{2, 3} {
		c := dial(t, b.Addr())
		c.Do("HELLO", resp)
		if r := proxy(t, c, "PINS")[0]; r["name"] != name {
			t.Errorf("RESP%d: %v", resp, r)
		}
	}
}
