package lane

import (
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// group is the clients of all loops that wait with the same blocking command on the same keys, and
// the lanes on which that command waits at the node. A reply goes to the client that has waited
// longest.
//
// It belongs to one loop, its home: whether a client still waits, or has been given its reply, is
// decided there, so that no element goes to two clients and none to nobody.
//
//	session ─join─▶ waiters, oldest first ◀─serve── lane ◀── node
//	   └──withdraw────▶ │                             ▲
//	                    └── adjust: as many lanes as are wanted
type group struct {
	*command
	ls      *Lanes
	first   *Waiter
	last    *Waiter
	n       int // waiters
	late    int // of them, those whose time is up: a lane that is leaving has their answer
	endless int // of them, those without a deadline
	lanes   []*lane
	width   int       // lanes that are worth having, if there are so many waiters
	pipes   *pipe.Set // for CLIENT UNBLOCK
}

const (
	// fast is how soon a lane's command must have been answered for one more lane to be worth
	// having: elements come faster than one lane fetches them.
	fast = 5 * time.Millisecond
	// slow is for how long a command must have waited for one lane less to be enough.
	slow = time.Second
	// timeoutGrace is how late a node may be with the nil of a timeout before berth says it. A node
	// that has nothing to do looks at its clock each 100 ms (hz 10), and one on a busy machine later.
	timeoutGrace = 500 * time.Millisecond
	// timeoutTolerance is how much a waiter's deadline may lie after the end of a lane's command to
	// be answered with it.
	timeoutTolerance = 5 * time.Millisecond
)

// join adds a waiter to the group of its command.
func (ls *Lanes) join(w *Waiter) {
	g := ls.groups[w.signature]
	if g == nil {
		g = &group{command: w.command, ls: ls, width: 1}
		g.pipes = ls.loop.Pipes().Attach(ls.shared.AsUser(w.identity))
		ls.groups[w.signature] = g
	}
	w.g = g
	ls.waiters[w.id] = w
	g.enter(w)
	g.n++
	if w.deadline == 0 {
		g.endless++
	} else {
		w.timer = time.AfterFunc(time.Duration(w.deadline-ls.loop.Now()), func() { ls.loop.Post(func() { g.due(w) }) })
	}
	g.adjust()
}

// enter gives a waiter the last place, or that of its time if it has waited before.
func (g *group) enter(w *Waiter) {
	w.prev = g.last
	for w.again && w.prev != nil && w.prev.since > w.since {
		w.prev = w.prev.prev
	}
	if w.prev == nil {
		w.next, g.first = g.first, w
	} else {
		w.next, w.prev.next = w.prev.next, w
	}
	if w.next == nil {
		g.last = w
	} else {
		w.next.prev = w
	}
}

// ErrUnblocked is what Redis says to a client whose wait CLIENT UNBLOCK has ended with an error.
const ErrUnblocked = "UNBLOCKED client unblocked via CLIENT UNBLOCK"

// remove takes a waiter out of the group. false: it has been answered already.
func (g *group) remove(w *Waiter) bool {
	if w.g == nil {
		return false
	}
	w.g = nil
	delete(g.ls.waiters, w.id)
	if w.prev == nil {
		g.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		g.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
	g.n--
	if w.late {
		g.late--
	}
	if w.timer == nil {
		g.endless--
	} else {
		w.timer.Stop()
	}
	return true
}

// withdraw is the word of a waiter's session that its client is gone.
func (ls *Lanes) withdraw(w *Waiter) {
	if g := w.g; g != nil {
		g.remove(w)
		g.adjust()
	}
}

// Unblock ends the wait of a client as its timeout would, or with an error. It returns false if the
// client does not wait in any group of this loop.
func (ls *Lanes) Unblock(client int64, withError bool) bool {
	w := ls.waiters[client]
	if w == nil {
		return false
	}
	reply := w.timedOut()
	if withError {
		reply = codec.AppendError(nil, ErrUnblocked)
	}
	g := w.g
	g.answer(w, reply)
	g.adjust()
	return true
}

// answer gives a waiter its reply.
func (g *group) answer(w *Waiter, reply []byte) {
	g.remove(w)
	w.deliver(reply)
}

// answerAll gives every waiter the same reply.
func (g *group) answerAll(reply []byte) {
	for g.first != nil {
		g.answer(g.first, reply)
	}
}

// due runs when a waiter's timeout expires. Only the node knows that no element is left. If a
// lane's command times out at the same moment, its nil is the answer, which costs nothing.
// Otherwise a lane that no other waiter needs is cancelled, and its last reply answers the waiter.
// While a lane goes on waiting for others, its keys are known to be empty.
func (g *group) due(w *Waiter) {
	if w.g != g || w.late {
		return
	}
	late := time.Duration(g.ls.loop.Now() - w.deadline)
	switch {
	case g.only(asking):
		w.timer.Reset(timeoutGrace) // with the lease, or without one, it hears more
		return
	case late < timeoutGrace && g.endsBy(w.deadline):
		w.timer.Reset(timeoutGrace - late)
		return
	case g.serving() < g.n || !g.any(armed):
		g.answer(w, w.timedOut())
	default:
		w.late = true
		g.late++
	}
	g.adjust()
}

// only reports whether all lanes that fetch replies are in one state.
func (g *group) only(s state) bool {
	for _, ln := range g.lanes {
		if ln.state != s && ln.state != leaving {
			return false
		}
	}
	return g.serving() > 0
}

func (g *group) any(s state) bool {
	return slices.ContainsFunc(g.lanes, func(ln *lane) bool { return ln.state == s })
}

// endsBy reports whether the node will time out a lane's command by a waiter's deadline.
func (g *group) endsBy(deadline int64) bool {
	for _, ln := range g.lanes {
		if ln.state == armed && ln.until != 0 && ln.until <= deadline+int64(timeoutTolerance) {
			return true
		}
	}
	return false
}

// expire answers those whose time is up, when a node has said that its is.
func (g *group) expire() {
	now := g.ls.loop.Now() + int64(timeoutTolerance)
	for w := g.first; w != nil; {
		next := w.next
		if w.deadline != 0 && w.deadline <= now || w.timeout.Opaque {
			g.answer(w, w.timedOut())
		}
		w = next
	}
}

// until is the latest deadline of all waiters; 0: one of them waits for ever.
func (g *group) until() (latest int64) {
	if g.endless > 0 {
		return 0
	}
	for w := g.first; w != nil; w = w.next {
		latest = max(latest, w.deadline)
	}
	return latest
}

// serve hands a reply to the waiter that has waited longest, or to all if all may have it.
func (g *group) serve(reply []byte) {
	switch {
	case g.cmd.Is(router.Broadcast):
		g.answerAll(reply)
	case g.first != nil:
		g.answer(g.first, reply)
	default:
		g.ls.orphaned(g.command, reply)
	}
}

// returned takes back a reply whose client was gone when it came: to the next in its group, which
// may be another by now.
func (ls *Lanes) returned(c *command, reply []byte) {
	if g := ls.groups[c.signature]; g != nil {
		g.serve(reply)
		g.adjust()
		return
	}
	ls.orphaned(c, reply)
}

// wanted is how many lanes the group is to have.
func (g *group) wanted() int {
	return min(g.n-g.late, g.width, g.ls.shared.Settings().MaxLanes)
}

// pace learns from an element that came after a lane's command had waited for so long.
func (g *group) pace(waited time.Duration) {
	switch {
	case g.cmd.Is(router.Broadcast):
	case waited < fast && g.n > len(g.lanes):
		g.width = min(g.width+1, g.ls.shared.Settings().MaxLanes)
	case waited > slow:
		g.width = max(1, g.width-1)
	}
}

// serving is how many lanes fetch, or will fetch, replies for waiters.
func (g *group) serving() (n int) {
	for _, ln := range g.lanes {
		if ln.state != leaving {
			n++
		}
	}
	return n
}

// connections is how many lanes there are at the slot's owner. A node that stands still may keep
// others for long.
func (g *group) connections() (n int) {
	for _, ln := range g.lanes {
		if !ln.stray {
			n++
		}
	}
	return n
}

// newest is the lane that was begun last of those that fetch replies.
func (g *group) newest() *lane {
	for i := len(g.lanes) - 1; ; i-- {
		if g.lanes[i].state != leaving {
			return g.lanes[i]
		}
	}
}

// adjust begins and cancels lanes until there are as many as are wanted, and forgets a group that
// is empty. Everything that changes a group ends here.
func (g *group) adjust() {
	for g.serving() > g.n-g.late {
		g.newest().leave()
	}
	for g.serving() < g.wanted() && g.connections() < g.ls.shared.Settings().MaxLanes {
		ln := &lane{g: g}
		g.lanes = append(g.lanes, ln)
		g.ls.shared.unsettled.Add(1)
		ln.attach()
	}
	if g.n == 0 && len(g.lanes) == 0 && g.ls.groups[g.signature] == g {
		delete(g.ls.groups, g.signature)
		g.pipes.Detach()
	}
}
