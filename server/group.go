package main

import (
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/codec"
)

// group is the clients of all loops that wait with the same blocking command on the same keys, and the lanes on which that
// command waits at the node. A reply goes to the client that has waited longest.
//
// It belongs to one loop, its home: whether a client still waits, or has been given its reply, is decided there, so that no
// element goes to two clients and none to nobody.
//
//	session ─join─▶ waiters, oldest first ◀─serve── lane ◀── node
//	   └──withdraw────▶ │                             ▲
//	                    └── adjust: as many lanes as are wanted
type group struct {
	*blocking
	l       *loop
	first   *waiter
	last    *waiter
	n       int // waiters
	late    int // of them, those whose time is up: a lane that is leaving has their answer
	endless int // of them, those without a deadline
	lanes   []*lane
	width   int       // lanes that are worth having, if there are so many waiters
	pipes   *pipe.Set // for CLIENT UNBLOCK
}

const (
	// laneFast is how soon a lane's command must have been answered for one more lane to be worth having: elements come
	// faster than one lane fetches them.
	laneFast = 5 * time.Millisecond
	// laneSlow is for how long a command must have waited for one lane less to be enough.
	laneSlow = time.Second
	// timeoutGrace is how late a node may be with the nil of a timeout before berth says it. A node that has nothing to do
	// looks at its clock each 100 ms (hz 10).
	timeoutGrace = 150 * time.Millisecond
	// timeoutTolerance is how much a waiter's deadline may lie behind the end of a lane's command to be answered with it.
	timeoutTolerance = 5 * time.Millisecond
)

// joinGroup adds a waiter to the group of its command.
func (l *loop) joinGroup(w *waiter) {
	g := l.groups[w.signature]
	if g == nil {
		g = &group{blocking: w.blocking, l: l, width: 1}
		g.pipes = l.pipes.Attach(l.srv.asUser(w.identity))
		l.groups[w.signature] = g
	}
	w.g = g
	l.waiters[w.client] = w
	w.prev = g.last
	if g.last == nil {
		g.first = w
	} else {
		g.last.next = w
	}
	g.last = w
	g.n++
	if w.deadline == 0 {
		g.endless++
	} else {
		w.timer = time.AfterFunc(time.Duration(w.deadline-l.clock), func() { l.Post(func() { g.due(w) }) })
	}
	g.adjust()
}

// remove takes a waiter out of the group. false: it has been answered already.
func (g *group) remove(w *waiter) bool {
	if w.g == nil {
		return false
	}
	w.g = nil
	delete(g.l.waiters, w.client)
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
func (l *loop) withdraw(w *waiter) {
	if g := w.g; g != nil {
		g.remove(w)
		g.adjust()
	}
}

// unblock ends the wait of a client as its timeout would, or with an error. false: the client does not wait.
func (l *loop) unblock(client int64, withError bool) bool {
	w := l.waiters[client]
	if w == nil {
		return false
	}
	reply := w.timedOut()
	if withError {
		reply = codec.AppendError(nil, errUnblocked)
	}
	g := w.g
	g.answer(w, reply)
	g.adjust()
	return true
}

// answer gives a waiter its reply.
func (g *group) answer(w *waiter, reply []byte) {
	g.remove(w)
	w.deliver(g, reply)
}

// answerAll gives every waiter the same reply.
func (g *group) answerAll(reply []byte) {
	for g.first != nil {
		g.answer(g.first, reply)
	}
}

// due is a waiter's timer. That there is nothing for it only the node can know: where a lane's command ends by now the node
// says so itself, which costs nothing. A lane that would go on for nobody is cancelled, and its last reply is the waiter's. Of
// the keys that a lane still waits at for others it is known that they are empty.
func (g *group) due(w *waiter) {
	if w.g != g || w.late {
		return
	}
	late := time.Duration(g.l.clock - w.deadline)
	switch {
	case g.only(laneAsking):
		w.timer.Reset(timeoutGrace) // with the lease, or without one, it hears more
		return
	case late < timeoutGrace && g.endsBy(w.deadline):
		w.timer.Reset(timeoutGrace - late)
		return
	case g.serving() < g.n || !g.any(laneArmed):
		g.answer(w, w.timedOut())
	default:
		w.late = true
		g.late++
	}
	g.adjust()
}

// only tells whether all lanes that fetch replies are in one state.
func (g *group) only(state laneState) bool {
	for _, ln := range g.lanes {
		if ln.state != state && ln.state != laneLeaving {
			return false
		}
	}
	return g.serving() > 0
}

func (g *group) any(state laneState) bool {
	return slices.ContainsFunc(g.lanes, func(ln *lane) bool { return ln.state == state })
}

// endsBy tells whether the node will time out a lane's command by a waiter's deadline.
func (g *group) endsBy(deadline int64) bool {
	for _, ln := range g.lanes {
		if ln.state == laneArmed && ln.until != 0 && ln.until <= deadline+int64(timeoutTolerance) {
			return true
		}
	}
	return false
}

// expire answers those whose time is up, when a node has said that its is.
func (g *group) expire() {
	now := g.l.clock + int64(timeoutTolerance)
	for w := g.first; w != nil; {
		next := w.next
		if w.deadline != 0 && w.deadline <= now || w.opaque {
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
	case g.broadcast:
		g.answerAll(reply)
	case g.first != nil:
		g.answer(g.first, reply)
	default:
		g.l.orphaned(g.blocking, reply)
	}
}

// recheckLanes takes lanes along whose slot belongs to another node now: the old one may be beyond saying so.
func (l *loop) recheckLanes() {
	t := l.srv.nodes.Topology()
	for _, g := range l.groups {
		shard, text := shardOf(t, g.slot, g.client)
		if text != "" {
			continue
		}
		for _, ln := range slices.Clone(g.lanes) {
			if ln.state == laneArmed && ln.addr != t.Shards()[shard].Primary {
				ln.stray = true
				ln.leave()
			}
		}
		g.adjust()
	}
}

// closeLanes ends what is left when berth ends.
func (l *loop) closeLanes() {
	for _, g := range l.groups {
		for len(g.lanes) > 0 {
			ln := g.lanes[0]
			if ln.cancel != nil {
				ln.cancel.stop()
			}
			ln.end()
		}
	}
}

// returned takes back a reply whose client was gone when it came: to the next in its group, which may be another by now.
func (l *loop) returned(b *blocking, reply []byte) {
	if g := l.groups[b.signature]; g != nil {
		g.serve(reply)
		g.adjust()
		return
	}
	l.orphaned(b, reply)
}

// wanted is how many lanes the group is to have.
func (g *group) wanted() int {
	return min(g.n-g.late, g.width, g.l.srv.config().BlockingLanesMax)
}

// pace learns from an element that came after a lane's command had waited for so long.
func (g *group) pace(waited time.Duration) {
	switch {
	case g.broadcast:
	case waited < laneFast && g.n > len(g.lanes):
		g.width = min(g.width+1, g.l.srv.config().BlockingLanesMax)
	case waited > laneSlow:
		g.width = max(1, g.width-1)
	}
}

// serving is how many lanes fetch, or will fetch, replies for waiters.
func (g *group) serving() (n int) {
	for _, ln := range g.lanes {
		if ln.state != laneLeaving {
			n++
		}
	}
	return n
}

// connections is how many lanes there are at the slot's owner. A node that stands still may keep others for long.
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
		if g.lanes[i].state != laneLeaving {
			return g.lanes[i]
		}
	}
}

// adjust begins and cancels lanes until there are as many as are wanted, and forgets a group that is empty. Everything that
// changes a group ends here.
func (g *group) adjust() {
	for g.serving() > g.n-g.late {
		g.newest().leave()
	}
	for g.serving() < g.wanted() && g.connections() < g.l.srv.config().BlockingLanesMax {
		ln := &lane{g: g}
		g.lanes = append(g.lanes, ln)
		g.l.srv.unsettled.Add(1)
		ln.attach()
	}
	if g.n == 0 && len(g.lanes) == 0 && g.l.groups[g.signature] == g {
		delete(g.l.groups, g.signature)
		g.pipes.Detach()
	}
}
