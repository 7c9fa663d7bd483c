package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A command that blocks waits for the end of a pause of writes before it is run. Redis 7.0 panics when
// it is told to unblock the client meanwhile.
func TestClientThatLeavesDuringAPauseOfWritesHarmsNoNode(t *testing.T) {
	parallel(t)
	for _, share := range []string{"yes", "no"} {
		for command, written := range map[string]string{
			"BLPOP q 0": "RPUSH q x", "BLMOVE q r LEFT RIGHT 0": "RPUSH q x", "BZPOPMIN q 0": "ZADD q 1 x",
			"XREADGROUP GROUP g c BLOCK 0 STREAMS q >": "XADD q * f x",
		} {
			t.Run(share+"/"+strings.Fields(command)[0], func(t *testing.T) {
				node := redistest.Start(t)
				if strings.HasPrefix(command, "XREADGROUP") {
					node.Do(t, "XGROUP", "CREATE", "q", "g", "$", "MKSTREAM")
				}
				b := startBerth(t, node.Addr(), "--blocking-share", share)
				c, other := dial(t, b.Addr()), dial(t, b.Addr())
				script(t, other, "GET none → <nil>")
				node.Do(t, "CLIENT", "PAUSE", "1000", "WRITE")
				c.Send(words(command)...)
				name := strings.ToLower(strings.Fields(command)[0])
				eventually(t, "the command to wait", func() bool {
					return strings.Contains(fmt.Sprint(node.Do(t, "CLIENT", "LIST")), "cmd="+name)
				})
				c.Close()
				eventually(t, "the lease to be given back", func() bool { return b.leases().Leased == 0 })
				other.Do(words(written)...)
				if n := fmt.Sprint(node.Do(t, "EXISTS", "q")); n != "1" {
					t.Error("the element is gone")
				}
				if strings.HasPrefix(command, "XREADGROUP") {
					if got := fmt.Sprint(node.Do(t, "XPENDING", "q", "g")); !strings.HasPrefix(got, "[0 ") {
						t.Errorf("read by one who has left: %s", got)
					}
				}
			})
		}
	}
}
