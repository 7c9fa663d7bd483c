package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A client that waits for a connection is blocked all the same, as its command says.

func TestEntriesAddedWhileXreadWaitsForAConnectionAreNotSkipped(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := oneLease(t, node.Addr())
	holder, c, other := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	script(t, other, "XADD s 1-1 f old → 1-1")
	script(t, holder, "WATCH k → OK")
	b.feed(c, pipeline("XREAD BLOCK 0 STREAMS s $"))
	eventually(t, "XREAD to wait", func() bool { return b.leases().Waiting == 1 })
	script(t, other, "XADD s 2-1 f new → 2-1")
	script(t, holder, "UNWATCH → OK")
	c.SetTimeout(2e9)
	if got, err := c.TryRecv(); fmt.Sprint(got) != "[[s [[2-1 [f new]]]]]" {
		t.Errorf("XREAD: %v, %v", got, err)
	}
}

func TestTimeSpentWaitingForAConnectionCountsAgainstTheTimeout(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	var asked atomic.Value // the last blocking command that the node was asked
	g := startGate(t, node.Addr(), func(words string) {
		if strings.HasPrefix(words, "bl") || strings.HasPrefix(words, "xread") {
			asked.Store(strings.Fields(words))
		}
	})
	b := oneLease(t, g.addr)
	holder, c := dial(t, b.Addr()), dial(t, b.Addr())
	const spent = 300 * time.Millisecond
	for _, command := range []struct {
		words string
		unit  time.Duration
		at    int // where the timeout is
	}{{"BLPOP l 0.4", time.Second, 2}, {"XREAD BLOCK 400 STREAMS s 0", time.Millisecond, 2}, {"BLMPOP 0.4 1 l LEFT", time.Second, 1}} {
		script(t, holder, "WATCH k → OK")
		asked.Store([]string(nil))
		c.Send(strings.Fields(command.words))
		eventually(t, "the client to wait", func() bool { return b.leases().Waiting == 1 })
		began := time.Now() // berth's clock has begun
		eventually(t, "the connection to be waited for", func() bool { return time.Since(began) > spent })
		script(t, holder, "UNWATCH → OK")
		if got := c.Recv(); got != nil {
			t.Errorf("%s: %v after %v", command.words, got, time.Since(began))
		}
		words := asked.Load().([]string)
		if words == nil { // the whole time was spent before there was a connection
			continue
		}
		left, err := strconv.ParseFloat(words[command.at], 64)
		if limit := 400*time.Millisecond - spent; err != nil || left <= 0 || time.Duration(left*float64(command.unit)) > limit {
			t.Errorf("%s: after %v the node is asked %v", command.words, spent, words)
		}
	}
}
