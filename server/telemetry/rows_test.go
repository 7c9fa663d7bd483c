package telemetry

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
)

func TestTheLatestErrorOfANodeIsShownWhicheverConnectionHadIt(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		pipe, dial time.Duration // ago; 0: never
		want       string
		age        int64
	}{{0, 0, "", 0}, {3 * time.Second, 0, "pipe", 3}, {0, 2 * time.Second, "dial", 2}, {3 * time.Second, 2900 * time.Millisecond, "dial", 2},
		{time.Second, 2 * time.Second, "pipe", 1}} {
		loop := NewLoop()
		if c.pipe > 0 {
			loop.Pipes["n:1"] = pipe.Count{LastErr: errors.New("pipe"), LastErrAt: ago(c.pipe).UnixNano()}
		}
		pool := Pool{PoolName: PoolName{"n:1", "default"}}
		if c.dial > 0 {
			pool.DialErr, pool.DialErrAt = errors.New("dial"), ago(c.dial)
		}
		snap := &Snapshot{At: now, Loops: []*Loop{loop}, Topology: router.Single("n:1"), Pools: []Pool{pool}}
		rows := snap.BackendRows()
		if len(rows) != 1 || rows[0].LastError != c.want || rows[0].ErrorAge != c.age {
			t.Errorf("%v: %+v", c, rows)
		}
	}
}

func TestNodesThatServeNothingStandBehindThePrimaries(t *testing.T) {
	loop := NewLoop()
	loop.Pipes["left:2"] = pipe.Count{Up: 1, UpSince: 1}
	loop.Counters.redirects["asked:1"] = redirects{moved: 1, asked: 2}
	figures := []Pool{{PoolName: PoolName{"b:1", "default"}, Stats: pool.Stats{Leased: 2}}}
	snap := &Snapshot{At: time.Now(), Loops: []*Loop{loop}, Topology: router.Even([]string{"b:1", "a:1"}), Pools: figures}
	rows := snap.BackendRows()
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprint(r.Node, " ", r.Role, " ", r.State, " ", r.Slots, " ", r.Redirects))
	}
	want := []string{"b:1 primary up 8192 0", "a:1 primary idle 8192 0", "asked:1 none idle 0 3", "left:2 none up 0 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
