package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A client that waits for a connection is blocked all the same, as its command says.

func TestEntriesAddedWhileXreadWaitsForAConnectionAreNotSkipped(t *testing.T) {
	node := redistest.Start(t, "--hz", "500")
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
	node := redistest.Start(t, "--hz", "500")
	b := oneLease(t, node.Addr())
	holder, c := dial(t, b.Addr()), dial(t, b.Addr())
	for _, command := range []string{"BLPOP l 0.4", "XREAD BLOCK 400 STREAMS s 0", "BLMPOP 0.4 1 l LEFT"} {
		script(t, holder, "WATCH k → OK")
		began := time.Now()
		c.Send(strings.Fields(command))
		eventually(t, "the connection to be waited for", func() bool { return time.Since(began) > 300*time.Millisecond })
		script(t, holder, "UNWATCH → OK")
		if got := c.Recv(); got != nil || time.Since(began) > 650*time.Millisecond || time.Since(began) < 395*time.Millisecond {
			t.Errorf("%s: %v after %v", command, got, time.Since(began))
		}
	}
}
