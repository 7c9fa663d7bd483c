package backend

import (
	"net"

	"github.com/berth-proxy/berth/router"
)

// Follow reads a MOVED or ASK reply and records a MOVED in the topology. ok is false if the reply
// is no redirect, or if the request has been redirected as often as most allows. hops counts the
// request's redirects.
func Follow(reply []byte, hops *uint8, most int, nodes Places) (to router.Redirect, ok bool) {
	to, ok = router.ParseRedirect(reply, "")
	if !ok {
		return to, false
	}
	if to.Addr[0] == ':' { // without a host: the slot's owner has the same one, for all nodes announce alike
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
