package backend

import (
	"testing"

	"github.com/berth-proxy/berth/router"
)

// cluster is a Places that notes whether it was asked for a round.
type cluster struct {
	topology *router.Topology
	asked    bool
}

func (c *cluster) Topology() *router.Topology { return c.topology }
func (c *cluster) Refresh()                   { c.asked = true }
func (c *cluster) Lost()                      { c.asked = true }

func TestRedirectIsFollowedToTheKnownNodeThatItNames(t *testing.T) {
	const first, second, third, most = "10.0.0.1:7000", "10.0.0.2:7001", "10.0.0.3:7000", 5
	sharded := router.Even([]string{first, second}).With([]string{third}) // the third one has no slots
	for _, c := range []struct {
		reply string
		slot  int
		hops  uint8
		how   Redirection
		addr  string
		asked bool // for a round
	}{
		{reply: "-MOVED 3999 10.0.0.2:7001\r\n", slot: 3999, how: Followed, addr: second, asked: true},
		{reply: "-MOVED 3999 10.0.0.1:7000\r\n", slot: 3999, how: Followed, addr: first}, // as the topology says
		{reply: "-MOVED 3999 10.0.0.2:7001\r\n", slot: 3999, hops: most - 1, how: Followed, addr: second, asked: true},
		{reply: "-MOVED 3999 10.0.0.2:7001\r\n", slot: 3999, hops: most},
		{reply: "-ASK 3999 10.0.0.2:7001\r\n", slot: 3999, how: Followed, addr: second},
		{reply: "-ASK 3999 10.0.0.3:7000\r\n", slot: 3999, how: Followed, addr: third},
		{reply: "-ASK 3999 10.0.0.2:7001\r\n", slot: 3999, hops: most},
		{reply: "-MOVED 3999 :7000\r\n", slot: 3999, how: Followed, addr: first}, // on the host of the slot's owner
		{reply: "-ASK 16383 :7001\r\n", slot: 16383, how: Followed, addr: second},
		{reply: "-ASK 3999 10.0.0.2:7001\r\n", slot: AnySlot, how: Followed, addr: second},
		// Not known, so the request waits for a round.
		{reply: "-MOVED 3999 10.0.0.9:7001\r\n", slot: 3999, how: UnknownNode, asked: true},
		{reply: "-ASK 3999 10.0.0.9:7001\r\n", slot: 3999, how: UnknownNode, asked: true},
		{reply: "-ASK 3999 :7999\r\n", slot: 3999, how: UnknownNode, asked: true},
		// Another slot, or none.
		{reply: "-MOVED 3999 10.0.0.2:7001\r\n", slot: 4000},
		{reply: "-MOVED 3999 10.0.0.9:7001\r\n", slot: 4000},
		{reply: "-ASK 3999 10.0.0.2:7001\r\n", slot: NoSlot},
		// No redirects.
		{reply: "-MOVED 16384 10.0.0.2:7001\r\n", slot: AnySlot},
		{reply: "-MOVED 3999\r\n", slot: 3999},
		{reply: "-MOVED 3999 10.0.0.2\r\n", slot: 3999},
		{reply: "-MOVED 3999 10.0.0.2:0\r\n", slot: 3999},
		{reply: "-ERR MOVED 3999 10.0.0.2:7001\r\n", slot: 3999},
		{reply: "$5\r\nMOVED\r\n", slot: 3999},
		{reply: "-TRYAGAIN Multiple keys request during rehashing of slot\r\n", slot: 3999},
	} {
		nodes := &cluster{topology: sharded}
		to, how := Follow([]byte(c.reply), c.slot, c.hops, most, nodes)
		if how != c.how || nodes.asked != c.asked || how == Followed && (to.Addr != c.addr || to.Ask != (c.reply[1] == 'A')) {
			t.Errorf("%q for slot %d after %d redirects: %+v, how %d, a round asked for: %v", c.reply, c.slot, c.hops, to, how, nodes.asked)
		}
		alone := &cluster{topology: router.Single(second)}
		if _, how := Follow([]byte(c.reply), c.slot, c.hops, most, alone); how != NotFollowed || alone.asked {
			t.Errorf("%q was followed over a standalone node", c.reply)
		}
	}
	if _, how := Follow([]byte("-MOVED 3999 :7000\r\n"), 3999, 0, most, &cluster{topology: router.Even([]string{"unix"})}); how != NotFollowed {
		t.Error("a redirect without a host was followed, and the owner has none either")
	}
}
