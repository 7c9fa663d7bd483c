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

// info asks the nodes for what only they know, if it is wanted. Then a goroutine looks at the
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
	asked.ask(s, wanted, func() {
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

// nodesInquiry asks the nodes for their part of INFO, on the client's own pipes: a user who may not
// run INFO gets the node's refusal. A node that does not answer is left out.
//
// The client's loop owns it until all nodes have answered.
type nodesInquiry struct {
	word    telemetry.NodesSaid
	refusal []byte // an error reply, which becomes the reply to INFO

	left int
	then func()
}

// ask asks for what the wanted sections need. It calls then when all answers have come, perhaps
// before it returns.
func (q *nodesInquiry) ask(s *session, wanted telemetry.Sections, then func()) {
	q.then = then
	w := &q.word
	q.left = 1 // until all questions are sent: the first answers may come at once
	t := s.loop.srv.nodes.Topology()
	embedded := s.loop.srv.nodes.Info().Kind == nodes.Embedded
	for shard := range t.Shards() {
		pipe := s.pipes.Shard(t, shard)
		switch {
		case wanted["Keyspace"] && embedded:
			q.send(pipe, askSize, w.AddSize)
		case wanted["Keyspace"]:
			q.send(pipe, askKeyspace, w.AddKeyspace)
		}
		if embedded {
			continue
		}
		if wanted["Memory"] && shard == 0 {
			q.send(pipe, askMemory, w.TakePolicy)
		}
		if wanted["Stats"] {
			q.send(pipe, askStats, func(text string) { w.Stats.Add(text, telemetry.Added) })
		}
		if wanted["Commandstats"] {
			q.send(pipe, askCommandStats, w.Calls.Add)
		}
		if wanted["Persistence"] {
			q.send(pipe, askPersistence, func(text string) { w.Saving.Add(text, telemetry.Greater) })
		}
	}
	q.arrived()
}

var (
	askKeyspace = codec.AppendCommandString(nil, "INFO", "keyspace")
	askMemory   = codec.AppendCommandString(nil, "INFO", "memory")
	askSize     = codec.AppendCommandString(nil, "DBSIZE")

	askCommandStats = codec.AppendCommandString(nil, "INFO", "commandstats")

	askStats       = codec.AppendCommandString(nil, "INFO", "stats")
	askPersistence = codec.AppendCommandString(nil, "INFO", "persistence")
)

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

// nodeAnswer waits for one node's answer. It is a backend.Receiver.
type nodeAnswer struct {
	of   *nodesInquiry
	take func(text string)
}

// Reply takes the answer.
func (a *nodeAnswer) Reply(reply, _ []byte, _ int) {
	switch v, err := codec.ParseValue(reply); {
	case bytes.HasPrefix(reply, []byte("-NO")): // NOPERM, NOAUTH
		a.of.refusal = bytes.Clone(reply)
	case err == nil && !v.IsError():
		a.take(v.Text())
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
