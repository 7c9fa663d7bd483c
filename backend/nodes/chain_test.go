package nodes

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A node that says that its requests pass this berth is let go of, and taken again when it no longer does.
func TestNodeThatLeadsBackToThisBerthIsLetGoOf(t *testing.T) {
	var chain atomic.Pointer[string]
	chain.Store(new(string))
	plain := standaloneScript("7.0.15")
	node := startScriptedNode(t, func(command string) string {
		if command == "info" {
			return bulk("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n" + *chain.Load() + "# Replication\r\nrole:master\r\n")
		}
		return plain(command)
	})
	n, err := Connect(context.Background(), Target{Addrs: []string{node.addr()}}, Options{gap: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	own := n.Chain()
	if own == "" || strings.Contains(own, ",") {
		t.Fatalf("before a node: the chain is %q", own)
	}
	say := func(links string) {
		t.Helper()
		line := "berth_chain:" + links + "\r\n"
		chain.Store(&line)
		n.Refresh()
	}
	say("b,c")
	redistest.Eventually(t, 10*time.Second, "the chain to be known", func() bool { return n.Chain() == own+",b,c" })
	for links, want := range map[string]string{
		"b," + own + ",c":                "leads back to this berth itself",
		strings.Repeat("x,", 15) + "end": "leads to more than 16 berths",
	} {
		say(links)
		redistest.Eventually(t, 10*time.Second, "the node to be let go of", func() bool {
			err := n.Health().Err
			return err != nil && strings.Contains(err.Error(), want) && len(n.Topology().Shards()) == 0
		})
		say("b")
		redistest.Eventually(t, 10*time.Second, "the node to be taken again", func() bool { return n.Ready() && n.Topology().Primary(0) == node.addr() })
	}
}
