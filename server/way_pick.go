package main

import (
	"bytes"
	"math/rand/v2"

	"github.com/berth-proxy/berth/router"
)

// pick asks one shard at random, and the next ones while the answer is nil: RANDOMKEY.
func (s *session) pick(cmd *router.Command, raw []byte) bool {
	t := s.loop.srv.nodes.Topology()
	if !s.turnTo(onPipes, t) {
		return false
	}
	shards := len(t.Shards())
	if shards == 0 {
		return s.refuse(cmd, errNotServed)
	}
	raw = bytes.Clone(raw)
	first, asked := rand.IntN(shards), 1 // the shard asked last is first+asked-1
	r := s.newRequest(cmd)
	r.ends = settle(func(r *request, reply []byte) {
		isNil := bytes.HasPrefix(reply, []byte("$-1")) || reply[0] == '_'
		if !isNil || asked == shards {
			r.done(reply)
			return
		}
		asked++
		if err := s.pipes.Since(s.pipeTurns, s.pipes.Shard(t, (first+asked-1)%shards)).Send(raw, 1, r); err != nil {
			r.lost(err)
		}
	})
	s.pauseFor(pauseDraining) // what comes after it must not be executed between two shards' answers
	if err := s.pipes.Shard(t, first).Send(raw, 1, r); err != nil {
		r.lost(err)
	}
	return true
}
