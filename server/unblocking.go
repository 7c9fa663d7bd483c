package main

import (
	"strconv"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
)

// unblocking asks a node, on a pipe, to end the command that a lease waits for: what the node then answers on the lease is the
// client's reply, and the client keeps the connection with what it watches or tracks there. It is a backend.Receiver on the
// loop of the lease's holder.
//
// A node that has unblocked nobody has either just answered, or has not seen the command yet: it is asked again, and when it
// cannot be made to, fail ends the matter.
type unblocking struct {
	l     *loop
	set   *pipe.Set
	addr  string
	words []byte      // CLIENT UNBLOCK …
	waits func() bool // the command has not been answered
	fail  func()
	tries int
}

// unblockLease has a node end what a lease waits for, in the name of a user who may. The question may come late, when the
// command has been answered: so the connection will not be another client's.
func (l *loop) unblockLease(lease *pool.Lease, by backend.Identity, withError bool, waits func() bool, fail func()) {
	reason := "TIMEOUT"
	if withError {
		reason = "ERROR"
	}
	u := &unblocking{
		l: l, set: l.pipes.Attach(by), addr: lease.Addr(), waits: waits, fail: fail,
		words: codec.AppendCommandString(nil, "CLIENT", "UNBLOCK", strconv.FormatInt(lease.NodeID(), 10), reason),
	}
	lease.Mark(pool.DirtOther)
	if lease.NodeID() == 0 {
		u.end()
		return
	}
	u.ask()
}

func (u *unblocking) ask() {
	u.tries++
	if err := u.set.Node(u.addr).Send(u.words, 1, u); err != nil {
		u.end()
	}
}

// Reply takes the node's answer.
func (u *unblocking) Reply(reply, _ []byte, _ int) {
	switch {
	case reply[0] == ':' && reply[1] != '0', !u.waits(): // it has been answered, or will be
		u.set.Detach()
	case reply[0] != ':' || u.tries == cancelTries:
		u.end()
	default:
		time.AfterFunc(cancelPause<<(u.tries-1), func() {
			u.l.Post(func() {
				if u.waits() {
					u.ask()
				} else {
					u.set.Detach()
				}
			})
		})
	}
}

// Lost says that there will be no answer.
func (u *unblocking) Lost(*backend.LostError, []byte) { u.end() }

// end does without the node.
func (u *unblocking) end() {
	u.set.Detach()
	if u.waits() {
		u.fail()
	}
}
