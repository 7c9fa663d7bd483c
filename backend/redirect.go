package backend

import (
	"net"
	"time"

	"github.com/berth-proxy/berth/router"
)

// Redirection is what berth does about a node's error.
type Redirection uint8

const (
	NotFollowed  Redirection = iota // the error is the client's: it is no redirect, or none to be believed
	Followed                        // the request goes to where the error says
	UnknownNode                     // it may go there once berth has learned of that node: a round was asked for
	maxRedirects = 1<<8 - 1         // what a uint8 counts
)

// LearnPatience is how long a request waits for berth to learn of the node that it was redirected to.
// A round may begin a second after it was asked for, and may meet a node that hangs.
const LearnPatience = 3 * time.Second

// AnySlot stands for the slot of a command of which nobody can say where its keys are.
const AnySlot = -3

// Follow finds out whether a reply is a redirect to follow. slot is that of the request's keys; hops
// is how often the request was redirected before, most how often it may be.
//
// A script chooses the words of its reply (return {err='MOVED …'}), so the words are no proof. They
// count only over a Cluster, for the request's own slot, and if they lead to a node of which berth's
// own control connections have heard from the nodes themselves. There the request of a liar meets the
// same rights and the same keys, and is sent on at most so many times. So credentials never go to an
// address that a client has chosen, and the topology is never written here: a MOVED asks for a round,
// of which there is at most one a second while none finds a change.
func Follow(reply []byte, slot int, hops uint8, most int, nodes Places) (to router.Redirect, how Redirection) {
	to, ok := router.ParseRedirect(reply, "")
	if !ok {
		return to, NotFollowed
	}
	t := nodes.Topology()
	if !t.Sharded() || slot != int(to.Slot) && slot != AnySlot || int(hops) >= min(most, maxRedirects) {
		return to, NotFollowed
	}
	owner := t.Primary(to.Slot)
	if to.Addr[0] == ':' { // without a host: the slot's owner has the same one, for all nodes announce alike
		host, _, err := net.SplitHostPort(owner)
		if err != nil {
			return to, NotFollowed
		}
		to.Addr = net.JoinHostPort(host, to.Addr[1:])
	}
	switch {
	case !t.Knows(to.Addr):
		nodes.Refresh()
		return to, UnknownNode
	case !to.Ask && to.Addr != owner:
		nodes.Refresh()
	}
	return to, Followed
}
