package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestLongMessageOfASubscriberIsHeardBeforeItIsCounted(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr)
	c := dial(t, b.Addr())
	c.Do("HELLO", "3")
	c.Do("SUBSCRIBE", "ch")
	text := strings.Repeat("x", maxOnPipe+1)
	l.holdFrom(func(reply string) bool { return len(reply) > len(text) })
	c.Send("PUBLISH", "ch", text)
	eventually(t, "the feed to be asked whether that is all", func() bool {
		return strings.Contains(fmt.Sprint(node.Do(t, "CLIENT", "LIST", "TYPE", "pubsub")), " cmd=ping ")
	})
	l.release()
	if got, ok := isPush(c.Recv()); !ok || got != "message ch "+text {
		t.Errorf("%.50q, want the message", got)
	}
	if got := c.Recv(); got != int64(1) {
		t.Errorf("%.50v, want 1", got)
	}
}
