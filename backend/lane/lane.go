package lane

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// state is where a lane is.
//
//	          ┌─────────── moved, unblocked, lost ◀──┐
//	          ▼                                      │
//	new ─▶ asking ──attached──▶ armed ──reply──▶ armed again, or over
//	        ▲  │                  │
//	        │  └─no lease─┐       └─one too many─▶ leaving ──both replies──▶ armed again, or over
//	        └── resting ◀─┘                           └─refused, no answer──▶ over, closed
type state uint8

const (
	asking  state = iota // a lease is on the way
	armed                // its command waits at the node
	leaving              // the node was asked to unblock it; it owes one reply or two
	resting              // the owner of the slot was not to be had, and is tried again soon
	over
)

var moves = [...][]state{
	asking:  {asking, armed, resting, over},
	armed:   {armed, leaving, asking, resting, over},
	leaving: {armed, over},
	resting: {asking, over},
	over:    {},
}

// lane is one connection on which a group's command waits at the node. It is a backend.Holder on
// the group's home loop.
type lane struct {
	g      *group
	state  state
	addr   string
	lease  *pool.Lease
	waiter *pool.Waiter

	sentAt   int64 // when the command was sent, unix nanoseconds
	until    int64 // when the node will time it out; 0: never
	answered bool  // in leaving: the command's reply has come
	stray    bool  // in leaving: the slot belongs to another node now
	unblock  *unblocking

	target  string // where a redirect leads; "": to the owner of the slot
	ask     bool   // with ASKING first
	swallow int    // replies to ASKING to come
	hops    uint8
	trouble int64         // since when there has been no node for it, unix nanoseconds; 0: all is well
	pause   time.Duration // of resting, the last
	timer   *time.Timer   // of resting
}

const (
	// restMin and restMax bound the pauses before the owner of a slot is tried again.
	restMin = 10 * time.Millisecond
	restMax = 500 * time.Millisecond
	// Doubt is for how long a command must have waited at a node that is lost for it to be sure
	// that it found nothing there: what is executed at once is answered sooner.
	Doubt = 100 * time.Millisecond
	// trust is how long clients that already wait go on waiting for a node that was lost.
	trust = 30 * time.Second
)

// move changes the state.
func (ln *lane) move(to state) {
	if !slices.Contains(moves[ln.state], to) {
		panic(fmt.Sprintf("a lane went from state %d to %d", ln.state, to))
	}
	ln.state = to
}

// attach asks for a lease to the node that owns the slot, or to which a redirect leads.
func (ln *lane) attach() {
	g := ln.g
	sh := g.ls.shared
	ln.move(asking)
	ln.addr, ln.target = ln.target, ""
	if ln.addr == "" {
		t := sh.Nodes.Topology()
		shard, ok := backend.ShardOf(t, g.slot, g.client)
		if !ok {
			ln.failed(sh.NotServed)
			return
		}
		ln.addr = t.Shards()[shard].Primary
	}
	ln.lease, ln.waiter = sh.Pools.For(ln.addr, g.identity).Get(ln, g.ls.loop.Inbox(), g.identity, pool.ReasonBlock)
	if ln.lease != nil {
		ln.arm()
	}
}

// Owner is where the client is that has waited longest.
func (ln *lane) Owner() netip.Addr {
	if w := ln.g.first; w != nil {
		return backend.HostOf(w.addr)
	}
	return netip.Addr{}
}

// Attached is the pool's late answer.
func (ln *lane) Attached(l *pool.Lease, err error) {
	g := ln.g
	ln.lease, ln.waiter = l, nil
	switch {
	case err == nil:
		ln.arm()
	case errors.Is(err, pool.ErrClosed) && ln.moved():
		ln.attach()
	case g.serving() > 1: // the others do without it
		g.width = max(1, g.serving()-1)
		ln.end()
	case loginRefused(err): // trying again is one more failed login
		ln.end()
		g.answerAll(codec.AppendError(nil, g.ls.shared.NoLease(ln.addr, err)))
	default:
		if tell := g.ls.shared.TimedOut; tell != nil && errors.Is(err, pool.ErrTimeout) && !ln.trusts() {
			for w := g.first; w != nil; w = w.next {
				tell(w, ln.addr)
			}
		}
		ln.failed(g.ls.shared.NoLease(ln.addr, err))
	}
	g.adjust()
}

// moved reports whether another node owns the slot by now.
func (ln *lane) moved() bool {
	t := ln.g.ls.shared.Nodes.Topology()
	shard, ok := backend.ShardOf(t, ln.g.slot, ln.g.client)
	return ok && ln.addr != t.Shards()[shard].Primary
}

// loginRefused reports whether there is no lease because the node accepts no password of the
// user's.
func loginRefused(err error) bool {
	lost, ok := errors.AsType[*backend.LostError](err)
	return ok && lost.Login
}

// trusts reports whether those who wait go on waiting for the node.
func (ln *lane) trusts() bool {
	return ln.trouble != 0 && time.Duration(ln.g.ls.loop.Now()-ln.trouble) < trust
}

// failed says that there is no lease, and nothing was sent. Those who wait already do not notice
// for a while.
func (ln *lane) failed(text string) {
	g := ln.g
	if ln.trusts() {
		g.ls.shared.Nodes.Lost()
		ln.rest()
		return
	}
	ln.end()
	g.answerAll(codec.AppendError(nil, text))
}

// rest waits before the owner of the slot is tried again.
func (ln *lane) rest() {
	loop := ln.g.ls.loop
	if ln.trouble == 0 {
		ln.trouble = loop.Now()
		ln.pause = 0
	}
	ln.move(resting)
	ln.pause = min(max(2*ln.pause, restMin), restMax)
	ln.timer = time.AfterFunc(ln.pause, func() {
		loop.Post(func() {
			if ln.state == resting {
				ln.attach()
				ln.g.adjust()
			}
		})
	})
}

// arm sends the command, which waits at the node until the last of the group's deadlines.
func (ln *lane) arm() {
	g := ln.g
	ln.move(armed)
	ln.answered, ln.unblock = false, nil
	ln.sentAt, ln.until = g.ls.loop.Now(), g.until()
	if ln.ask {
		ln.ask = false
		ln.lease.Send(backend.AskingCommand, 1)
		ln.swallow++
	}
	g.ls.scratch = g.append(g.ls.scratch[:0], ln.until, g.ls.loop.Now())
	ln.lease.Send(g.ls.scratch, 1)
	g.ls.scratch = backend.Keep(g.ls.scratch) // the lease has copied it
	ln.lease.Flush()
	g.pipes.Node(ln.addr).Ready()
}

// LeaseReply takes one whole reply of the node.
func (ln *lane) LeaseReply(_ *pool.Lease, reply []byte) {
	g := ln.g
	switch {
	case reply[0] == '>':
		return // the lease ends a connection that sends what nobody asked for
	case ln.swallow > 0:
		ln.swallow--
		return
	}
	isLeaving := ln.state == leaving
	waited := time.Duration(g.ls.loop.Now() - ln.sentAt)
	switch {
	case reply[0] == '-' && isLeaving:
		g.expire()
	case reply[0] == '-':
		if ln.refused(reply, waited) {
			g.adjust()
			return
		}
	case isNil(reply):
		ln.trouble, ln.hops = 0, 0
		g.expire()
	default:
		ln.trouble, ln.hops = 0, 0
		g.serve(reply)
		g.pace(waited)
	}
	switch {
	case !isLeaving:
		ln.proceed()
	case ln.unblock.owed:
		ln.answered = true
	default:
		ln.answered = true
		ln.unblock.stop()
		ln.proceed()
	}
	g.adjust()
}

// proceed sends the command again, or gives the lease back: nothing is owed on it. adjust begins another
// lane if one is wanted.
func (ln *lane) proceed() {
	g := ln.g
	if ln.stray || ln.lease.Outdated() {
		ln.end()
		return
	}
	others := g.serving()
	if ln.state != leaving {
		others--
	}
	if others < g.wanted() {
		ln.arm()
		return
	}
	ln.end()
}

// refused takes an error. false: it is for a client, and the lane may go on. The words are the
// node's own: a blocking command runs no script.
func (ln *lane) refused(reply []byte, waited time.Duration) bool {
	g := ln.g
	if waited > Rested {
		ln.hops = 0
	}
	ln.calm(waited)
	if IsDemoted(reply) && !g.ls.shared.TakesOver() {
		ln.lease.Close("node demoted") // as the node does: nobody else may meet that
		ln.lease = nil
		ln.end()
		g.answerAll(reply)
		return true
	}
	to, how := g.ls.follow(reply, g.slot, &ln.hops)
	if how == backend.Followed {
		ln.detach()
		ln.target, ln.ask = to.Addr, to.Ask
		ln.attach()
		return true
	}
	if IsDemoted(reply) {
		ln.lease.Mark(pool.DirtOther) // the node closes the connection: no other client may get it
	}
	if how == backend.UnknownNode || IsDemoted(reply) || ln.trouble != 0 && passes(reply) {
		if ln.trouble == 0 || time.Duration(g.ls.loop.Now()-ln.trouble) < trust {
			g.ls.shared.Nodes.Refresh()
			ln.detach()
			ln.rest()
			return true
		}
	}
	ln.hops = 0
	if g.cmd.Is(router.Broadcast) {
		g.answerAll(reply)
	} else if g.first != nil {
		g.answer(g.first, reply)
	}
	return false
}

// IsDemoted reports whether a reply is how a node that has become a replica ends what waits there;
// then it closes the connection. Other UNBLOCKED errors, of a stream that was deleted, are the
// client's.
func IsDemoted(reply []byte) bool { return bytes.HasPrefix(reply, []byte("-UNBLOCKED force unblock")) }

// calm ends a trouble: the command has waited at a node for a while since.
func (ln *lane) calm(waited time.Duration) {
	if waited > slow {
		ln.trouble = 0
	}
}

// passes reports whether an error is one that a node gives while it starts, or while another takes
// over from it.
func passes(reply []byte) bool {
	word, _, _ := bytes.Cut(reply[1:], []byte(" "))
	switch string(word) {
	case "LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN":
		return true
	}
	return false
}

// isNil reports whether a reply is the one to a blocking command whose time is up.
func isNil(reply []byte) bool {
	return reply[0] == '_' || len(reply) > 1 && (reply[0] == '*' || reply[0] == '$') && reply[1] == '-'
}

// LeaseLost says that the connection is gone. A command that only waited is sent again, to whoever
// owns the slot now. One that was sent lately may have been executed at once, and where a reply had
// begun to come it was: a client must know.
func (ln *lane) LeaseLost(_ *pool.Lease, err error) {
	g := ln.g
	ln.lease, ln.swallow = nil, 0
	lost := backend.AsLost(ln.addr, err)
	waited := time.Duration(g.ls.loop.Now() - ln.sentAt)
	ln.calm(waited)
	doubt := lost.Begun || lost.Sent && waited < Doubt
	g.ls.shared.Nodes.Lost()
	switch {
	case ln.state == leaving:
		ln.unblock.stop()
		ln.end()
		g.expire()
	case lost.Refusal != "":
		ln.end()
		g.answerAll(g.ls.shared.Lost(lost))
	case doubt && !g.cmd.Is(router.Broadcast) && g.first != nil:
		ln.end()
		g.answer(g.first, g.ls.shared.Lost(lost))
	default:
		ln.rest()
	}
	g.adjust()
}

// leave ends a lane that is one too many.
func (ln *lane) leave() {
	switch {
	case ln.state != armed:
		ln.end()
	case ln.lease.NodeID() == 0:
		ln.close("client left")
	default:
		ln.move(leaving)
		var write []byte
		if ln.g.ls.shared.Settings().UnblockPanics {
			write = ln.g.appendRefused(nil)
		}
		ln.unblock = newUnblocking(ln.g.ls.loop, ln.g.pipes, ln.lease, write, func() bool { return !ln.answered }, ln.unblocked)
		ln.unblock.afterStep = ln.g.adjust
		ln.unblock.ask()
	}
}

// unblocked says what came of asking the node to end the command.
func (ln *lane) unblocked(how unblockOutcome) {
	if how == unblocked {
		ln.g.ls.stats.Unblocked++
	}
	switch {
	case how == notSent:
		ln.close("client left")
	case how == unanswered: // the question may come to the node later, when the connection is another client's
		ln.close("unblock lost")
	case how == refusedTo:
		ln.close("unblock refused")
	case how == inVain:
		ln.close("unblock in vain")
	case ln.answered:
		ln.proceed()
	default: // the command's nil is on its way
	}
}

// detach gives back a lease that owes nothing.
func (ln *lane) detach() {
	if ln.lease != nil {
		ln.lease.Detach()
		ln.lease = nil
	}
}

// close ends the lane with its connection: the node must not give it an element any more.
func (ln *lane) close(why string) {
	ln.g.ls.stats.Closed++
	ln.lease.Close(why)
	ln.lease = nil
	ln.end()
	ln.g.expire() // it has no reply for those whose time is up
}

// end takes the lane out of its group. The lease goes back; one that owes a reply is closed with
// that.
func (ln *lane) end() {
	g := ln.g
	ln.move(over)
	if ln.timer != nil {
		ln.timer.Stop()
	}
	if ln.waiter != nil {
		ln.waiter.Cancel()
		ln.waiter = nil
	}
	ln.detach()
	g.lanes = slices.DeleteFunc(g.lanes, func(o *lane) bool { return o == ln })
	g.ls.shared.unsettled.Add(-1)
}
