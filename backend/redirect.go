package backend

import (
	"net"

	"github.com/berth-proxy/berth/router"
)

// Follow reads a MOVED or ASK reply and records a MOVED in the topology. ok is false if the reply
// is no redirect, or if the request has been redirected most times already; hops counts them.
func Follow(reply []byte, hops *uint8, most int, nodes Places) (to router.Redirect, ok bool) {
	to, ok = router.ParseRedirect(reply, "")
	if !ok {
		return to, false
	}
	if to.Addr[0] == ':' { // no host: that of the node which answered, and all nodes announce in one way
		host, _, err := net.SplitHostPort(nodes.Topology().Primary(to.Slot))
		if err != nil {
			return to, false
		}
		to.Addr = host + to.Addr
	}
	if !to.Ask {
		nodes.Moved(to.Slot, to.Addr)
	}
	if int(*hops) >= most {
		return to, false
	}
	*hops++
	return to, true
}
