package main

import (
	"bytes"

	"github.com/berth-proxy/berth/backend"
)

// A poll puts a client's request to every primary and hands on all that they answer, for a reply to which berth adds
// something of its own. It travels on the client's own pipes: what a user may not ask, the nodes refuse.
//
// Owned by the loop of the client.
type poll struct {
	answers [][]byte // by shard; an error of berth's where none came
	left    int
	then    func(answers [][]byte)
}

// poll asks so many of the primaries. The caller has seen to it that nothing of the client is on its way. then runs on the
// loop, perhaps before poll returns.
func (s *session) poll(request []byte, shards int, then func(answers [][]byte)) {
	t := s.loop.srv.nodes.Topology()
	shards = min(shards, len(t.Shards()))
	p := &poll{answers: make([][]byte, shards), left: 1, then: then} // 1: until all is sent; the first may answer at once
	for shard := range shards {
		p.left++
		a := &polled{p, shard}
		if err := s.pipes.Shard(t, shard).Send(request, 1, a); err != nil {
			a.Lost(err, request)
		}
	}
	p.arrived()
}

func (p *poll) arrived() {
	if p.left--; p.left == 0 {
		p.then(p.answers)
	}
}

// polled is owed one primary's answer. It is a backend.Receiver.
type polled struct {
	poll  *poll
	shard int
}

// Reply takes the answer.
func (a *polled) Reply(reply, _ []byte, _ int) {
	a.poll.answers[a.shard] = bytes.Clone(reply)
	a.poll.arrived()
}

// Lost is told that there will be none.
func (a *polled) Lost(err *backend.LostError, _ []byte) {
	a.poll.answers[a.shard] = appendLost(nil, err)
	a.poll.arrived()
}

// firstError is the first error among answers, nil when there is none.
func firstError(answers [][]byte) []byte {
	for _, a := range answers {
		if a[0] == '-' {
			return a
		}
	}
	return nil
}
