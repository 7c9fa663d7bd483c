package main

import (
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// More clients than are looked after at one tick, of whom some leave while the rota goes round.
func TestEveryIdleClientIsFoundInTheEnd(t *testing.T) {
	parallel(t)
	b := startBerth(t, "", "--loops", "1", "--timeout", "1")
	var idle []*redistest.Conn
	for range 3 * atOneTick {
		idle = append(idle, dial(t, b.Addr()))
	}
	for i, c := range idle {
		if i%3 == 0 {
			c.Close()
		}
	}
	eventually(t, "all to be closed", func() bool { return b.srv.clients.Load() == 0 })
	for i, c := range idle {
		if i%3 != 0 {
			if got := c.ReadAll(); got != "" {
				t.Fatalf("client %d got %q", i, got)
			}
		}
	}
}
