package main

import (
	"slices"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
)

// shareLarge sends a request on a lease to the owner of its slot, because it is long or its reply
// will be. Where there is no lease to be had it travels on the pipe, but not while the pipes of the
// loop carry much: many long ones in a row would keep all others waiting.
func (s *session) shareLarge(cmd *router.Command, t *router.Topology, shard int, raw []byte, args [][]byte) bool {
	addr := t.Shards()[shard].Primary
	if st := s.stay; st != nil && st.watching && !st.goesOnLease(addr) || !s.loop.srv.config().PoolEnabled {
		return s.sharePiped(cmd, t, shard, raw, args)
	}
	if !s.turnTo(onLease, t) {
		return false
	}
	answer := s.stayAt(addr, pool.ReasonLarge)
	if answer == leaseFailed {
		s.stay.giveUpAsking()
		if s.loop.load <= loopWindow {
			s.expect = clientWindow // so that no other long one comes beside it
			return s.sharePiped(cmd, t, shard, raw, args)
		}
		answer = s.stayAt(addr, pool.ReasonLarge) // asks again
	}
	switch answer {
	case leaseWaiting:
		return s.hold(pauseLeasing)
	case leaseBusy:
		return s.hold(pauseDraining)
	}
	if ready, taken := s.track(cmd); !ready {
		return taken
	}
	r := s.newRequest(cmd)
	s.countClients(r, args, addr)
	r.parts = s.partsOf(raw)
	for _, part := range r.parts {
		s.charge(r, len(part))
	}
	if s.large != nil && slices.Contains(cmd.Categories, "@string") {
		if get, err := s.loop.srv.table().Lookup(getArgs); err == nil {
			s.loop.srv.heavy.add(get, args[cmd.First])
		}
	}
	s.stay.sendParts(r, 1)
	return true
}

var getArgs = [][]byte{[]byte("get")}

// partsOf is the current request in pieces that stay what they are.
func (s *session) partsOf(raw []byte) [][]byte {
	if s.large != nil {
		return s.large.parts()
	}
	return [][]byte{s.give(raw)}
}
