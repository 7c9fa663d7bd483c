package main

import (
	"errors"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// slotOf is the one slot of the request's keys: noSlot without keys, and when the request is so
// malformed that the node must say why; router.ChannelSlot when it is about plain channels;
// manySlots when the keys lie in several.
func (s *session) slotOf(cmd *router.Command, args [][]byte) (slot int) {
	if cmd.Way == router.Refused { // which only DEBUG can get past
		return debugSlot(args)
	}
	l := s.loop
	slot, keys, err := cmd.SlotOf(args, l.keys)
	l.keys = keys
	switch {
	case errors.Is(err, router.ErrCrossSlot):
		return manySlots
	case err != nil:
		return noSlot
	}
	return slot
}

// What slotOf says besides a slot.
const (
	noSlot    = backend.NoSlot
	manySlots = -2
)

// place finds the shard for a request: by its slot; the home of the channels for one about plain
// channels; any shard for another one without keys. When it cannot, it says why in Redis' words.
func (s *session) place(t *router.Topology, cmd *router.Command, args [][]byte) (shard int, text string) {
	if !t.Sharded() {
		return shardOf(t, 0, s.id)
	}
	return shardOf(t, s.slotOf(cmd, args), s.id)
}

// shardOf is backend.ShardOf for what slotOf says. When there is no shard, it says why in Redis'
// words.
func shardOf(t *router.Topology, slot int, client int64) (shard int, text string) {
	if slot == manySlots {
		return -1, errCrossSlot
	}
	shard, ok := backend.ShardOf(t, slot, client)
	if !ok {
		return -1, errNotServed
	}
	return shard, ""
}

// turnTo readies the session to send by a side, routed by a topology; it holds while replies by the
// other side, by another topology, by a pipe that was passed by, or by replicas, are owed.
func (s *session) turnTo(side side, t *router.Topology) bool {
	if s.unanswered(s.away) {
		return s.hold(pauseDraining)
	}
	return s.turnWhileAway(side, t)
}

// turnWhileAway is turnTo for what may be sent although replicas owe the session replies.
func (s *session) turnWhileAway(side side, t *router.Topology) bool {
	turns := s.pipes.Turns()
	if s.side == side && s.topology == t && (side == onLease || s.pipeTurns == turns) {
		return true
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	s.side, s.topology, s.pipeTurns = side, t, turns
	return true
}

// side is where a session's unanswered requests went. It goes from one to the other only when none
// is left: otherwise replies, and the commands themselves, would overtake each other.
type side uint8

const (
	onPipes side = iota
	onLease
)
