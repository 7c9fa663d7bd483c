package backend

import (
	"testing"

	"github.com/berth-proxy/berth/router"
)

// cluster is a Places of two nodes that notes what it is told.
type cluster struct {
	topology *router.Topology
	moved    string
}

func (c *cluster) Topology() *router.Topology  { return c.topology }
func (c *cluster) Moved(_ uint16, addr string) { c.moved = addr }
func (c *cluster) Refresh()                    {}

func TestRedirectIsFollowedToTheNodeThatItNames(t *testing.T) {
	const first, second, most = "10.0.0.1:7000", "10.0.0.2:7001", 5
	for _, c := range []struct {
		reply string
		hops  uint8
		addr  string // "": not followed
		moved string // what the topology is told
	}{
		{reply: "-MOVED 3999 10.0.0.2:7001\r\n", addr: second, moved: second},
		{reply: "-MOVED 3999 10.0.0.2:7001\r\n", hops: most - 1, addr: second, moved: second},
		{reply: "-MOVED 3999 10.0.0.2:7001\r\n", hops: most, moved: second},
		{reply: "-ASK 3999 10.0.0.2:7001\r\n", addr: second},
		{reply: "-ASK 3999 10.0.0.2:7001\r\n", hops: most},
		{reply: "-MOVED 3999 :7000\r\n", addr: first, moved: first}, // on the host of the slot's owner
		{reply: "-ASK 16383 :7001\r\n", addr: second},
		{reply: "-MOVED 16384 10.0.0.2:7001\r\n"},
		{reply: "-MOVED 3999\r\n"},
		{reply: "-MOVED 3999 10.0.0.2\r\n"},
		{reply: "-MOVED 3999 10.0.0.2:0\r\n"},
		{reply: "-ERR MOVED 3999 10.0.0.2:7001\r\n"},
		{reply: "$5\r\nMOVED\r\n"},
		{reply: "-TRYAGAIN Multiple keys request during rehashing of slot\r\n"},
	} {
		nodes := &cluster{topology: router.Even([]string{first, second})}
		hops := c.hops
		to, ok := Follow([]byte(c.reply), &hops, most, nodes)
		switch {
		case ok != (c.addr != "") || ok && to.Addr != c.addr || nodes.moved != c.moved:
			t.Errorf("%q after %d redirects: %+v, followed %v, topology told %q", c.reply, c.hops, to, ok, nodes.moved)
		case ok != (hops == c.hops+1) || to.Ask != (c.reply[1] == 'A'):
			t.Errorf("%q after %d redirects: counted %d, ASK %v", c.reply, c.hops, hops, to.Ask)
		}
	}
	if _, ok := Follow([]byte("-MOVED 3999 :7000\r\n"), new(uint8), most, &cluster{topology: router.Even([]string{"unix"})}); ok {
		t.Error("a redirect without a host was followed, and the owner has none either")
	}
}
