package main

import (
	"slices"

	"github.com/berth-proxy/berth/router"
)

// split cuts a request by slot, unless all its keys lie in one. Also between WATCH and EXEC its
// parts travel on pipes: they are sent after WATCH was answered, so what they see EXEC checks.
func (s *session) split(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	if !t.Sharded() {
		return s.share(cmd, raw, args)
	}
	if s.slotOf(cmd, args) != manySlots {
		return s.share(cmd, raw, args)
	}
	if err := cmd.CheckSteps(len(args)); err != nil {
		return s.refuse(cmd, err.Error())
	}
	l := s.loop
	l.keys, _ = cmd.Keys(args, l.keys) // slotOf has found them all sound
	if !s.turnTo(onPipes, t) {
		return false
	}
	step := 1
	if cmd.Join == router.JoinOK { // MSET: a value after each key
		step = 2
	}
	if len(l.keys) > longKeys && l.keys[0] == 1 {
		return s.splitLong(cmd, t, raw, step)
	}
	l.slots = l.slots[:0]
	for _, i := range l.keys {
		slot := router.Slot(args[i])
		if t.Shard(slot) < 0 {
			return s.refuse(cmd, errNotServed)
		}
		l.slots = append(l.slots, slot)
	}
	j := l.cut(s.newRequest(cmd))
	if len(raw) > maxOnPipe {
		s.sendEach(t, j, args, step)
	} else {
		s.sendParts(t, j, args, step)
	}
	return true
}

// cut makes a part for each slot of the request's keys (l.slots), in the order in which the slots
// first appear.
func (l *loop) cut(r *request) *join {
	if l.cuts == nil {
		l.cuts = make([]cutSlot, router.Slots)
	}
	l.cutting++
	n := 0
	for _, slot := range l.slots {
		c := &l.cuts[slot]
		if c.request != l.cutting {
			*c = cutSlot{request: l.cutting, part: n}
			n++
		}
		c.keys++
	}
	j := l.join(r, n)
	end := 0
	for _, slot := range l.slots {
		c := &l.cuts[slot]
		if p := &j.parts[c.part]; c.keys > 0 { // the slot's first key: its part begins where the one before ends
			p.slot, p.first, p.end = slot, end, end
			end += c.keys
			c.keys = 0
		}
	}
	j.places = slices.Grow(j.places, end)[:end]
	for place, slot := range l.slots {
		p := &j.parts[l.cuts[slot].part]
		j.places[p.end] = place
		p.end++
	}
	return j
}

// cutSlot is what cut knows of one slot.
type cutSlot struct {
	request uint64 // by l.cutting: anything older is of another request
	part    int
	keys    int // not yet given a place
}

// fanOut sends a request to every primary. Over one node it is an ordinary command.
func (s *session) fanOut(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	pipes := s.pipes
	switch {
	case cmd.Join == router.JoinAny: // SCRIPT KILL, FUNCTION KILL: what they end may keep the client's pipe
		pipes = s.loop.pipes.Beside(s.pipes.Identity())
	case !t.Sharded():
		return s.share(cmd, raw, args)
	}
	switch cmd.Join {
	case router.JoinCursor:
		return s.scan(cmd, args)
	case router.JoinPick:
		return s.pick(cmd, raw)
	}
	if !s.turnTo(onPipes, t) {
		return false
	}
	if len(t.Shards()) == 0 {
		return s.refuse(cmd, errNotServed)
	}
	l := s.loop
	r := s.newRequest(cmd)
	j := l.join(r, len(t.Shards()))
	if cmd.Join == router.JoinNewest {
		j.most = mostEntries(args)
	}
	for i := range j.parts {
		p := &j.parts[i]
		if err := pipes.Shard(t, i).Send(raw, 1, p); err != nil {
			p.Lost(err, raw)
		}
	}
	return true
}
