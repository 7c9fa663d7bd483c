package main

import (
	"bytes"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// info asks the nodes for what they know, in the client's words. Then a goroutine looks at the
// server: a loop cannot wait for the other loops.
//
//	loop: ask the nodes ──▶ goroutine: look, write ──▶ loop: reply
func info(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	srv, resp := s.loop.srv, s.resp()
	wanted := telemetry.ReadSections(args[1:])
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	asked := &nodesInquiry{}
	asked.ask(s, args, func() {
		switch {
		case s.closed:
			r.done(nil)
		case asked.refusal != nil:
			r.done(asked.refusal)
		default:
			r.offLoop(func() []byte {
				return codec.AppendVerbatim(nil, "txt", srv.look(0).Info(wanted, &asked.word), resp)
			})
		}
	})
	return true
}

// nodesInquiry asks the nodes for their part of INFO, or of CLUSTER INFO, on the client's own pipes: a
// user who may not run it gets the node's refusal. A node that does not answer is left out.
//
// The client's loop owns it until all nodes have answered.
type nodesInquiry struct {
	word    telemetry.NodesSaid
	refusal []byte // an error reply, which becomes the reply to the client

	left int
	then func()
}

// ask asks all primaries what the client asks. It calls then when all answers have come, perhaps
// before it returns.
func (q *nodesInquiry) ask(s *session, args [][]byte, then func()) {
	q.word.Embedded = s.loop.srv.nodes.Info().Kind == nodes.Embedded
	switch {
	case !telemetry.AskNodes(args[1:]):
		then()
	case q.word.Embedded:
		q.askAll(s, askSize, q.word.TakeSize, then)
	default:
		q.askAll(s, codec.AppendCommand(nil, args...), q.word.Take, then)
	}
}

// askAll asks all primaries a question, likewise.
func (q *nodesInquiry) askAll(s *session, question []byte, take func(text string), then func()) {
	q.then = then
	q.left = 1 // until all questions are sent: the first answers may come at once
	t := s.loop.srv.nodes.Topology()
	for shard := range t.Shards() {
		q.send(s.pipes.Shard(t, shard), question, take)
	}
	q.arrived()
}

var askSize = codec.AppendCommandString(nil, "DBSIZE")

func (q *nodesInquiry) send(pipe *pipe.Pipe, question []byte, take func(text string)) {
	q.left++
	answer := &nodeAnswer{of: q, take: take}
	if err := pipe.Send(question, 1, answer); err != nil {
		answer.Lost(err, question)
	}
}

func (q *nodesInquiry) arrived() {
	if q.left--; q.left == 0 {
		q.then()
	}
}

// nodeAnswer waits for one node's answer. It is a backend.Streamer.
type nodeAnswer struct {
	of   *nodesInquiry
	take func(text string)
	long bool // more than maxNodeInfo has come: none of it is kept
}

// maxNodeInfo is how many bytes a node may say to INFO. It has a line for each first word of an
// error, and scripts make those up.
const maxNodeInfo = 4 << 20

// Part drops an answer that is too long.
func (a *nodeAnswer) Part(part, _ []byte, left int) bool {
	a.long = a.long || len(part)+left > maxNodeInfo
	return a.long
}

// Reply takes the answer.
func (a *nodeAnswer) Reply(reply, _ []byte, _ int) {
	switch {
	case a.long:
	case reply[0] == '-':
		a.of.refusal = bytes.Clone(reply)
	default:
		if v, err := codec.ParseValue(reply); err == nil {
			a.take(v.Text())
		}
	}
	a.of.arrived()
}

// Lost learns that there will be no answer.
func (a *nodeAnswer) Lost(err *backend.LostError, _ []byte) {
	if err.Refusal != "" {
		a.of.refusal = appendLost(nil, err)
	}
	a.of.arrived()
}
