package main

import (
	"bytes"
	"slices"
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// Which commands a user may run only the nodes know. What berth answers itself no node sees; so
// before an administrative command one is sent to a node, on the client's own pipe, in words that
// do nothing there: a user without the permission gets NOPERM before the words are looked at.
//
//	dispatch: no verdict ─▶ ask, hold ··· reply: verdict, release ─▶ the same request dispatched again ─▶ run, or refuse

// question is how a node is asked whether a user may run a command.
type question struct {
	request []byte
	replies int    // that the request is owed
	about   string // the command whose permission counts
}

// verdict is what a node said about the request that the session holds.
type verdict struct {
	s       *session
	cmd     *router.Command
	asked   string // the command that the node was asked about
	refusal string // "": the user may
}

// permitted runs a command for a user who may run it.
func (s *session) permitted(ask *question, run runFunc, cmd *router.Command, raw []byte, args [][]byte) (taken bool) {
	v := s.verdict
	switch {
	case v == nil && s.waiting > 0:
		return s.hold(pauseDraining)
	case v == nil:
		s.askPermission(ask, cmd)
		return false
	case v.refusal != "":
		s.verdict = nil
		return s.refuse(cmd, v.refusal)
	}
	taken = run(s, cmd, raw, args)
	if taken {
		s.verdict = nil
	}
	return taken
}

// askPermission pauses the session before the current request until a node has said whether the
// user may run the command. When no node can say, the user may: these are the commands by which
// people find out why.
func (s *session) askPermission(ask *question, cmd *router.Command) {
	v := &verdict{s: s, cmd: cmd, asked: ask.about}
	s.verdict = v
	s.pauseFor(pauseVetting)
	t := s.loop.srv.nodes.Topology()
	shard, text := shardOf(t, noSlot, s.id)
	if text != "" {
		s.resumeFrom(pauseVetting)
		return
	}
	if err := s.pipes.Shard(t, shard).Send(ask.request, ask.replies, v); err != nil {
		v.Lost(err, nil)
	}
}

// mayTransact asks whether a user may run MULTI. A refused EXEC ends the transaction too.
var mayTransact = &question{append(slices.Clone(multiCommand), execCommand...), 2, "multi"}

// userOf is whom permissions belong to.
func userOf(id backend.Identity) backend.Identity {
	return backend.Identity{User: id.User}
}

// Reply is a backend.Receiver's: any answer but NOPERM says that the user may.
func (v *verdict) Reply(reply, _ []byte, more int) {
	if v.refusal == "" && bytes.HasPrefix(reply, []byte("-NO")) { // NOPERM, NOAUTH
		text := string(reply[1 : len(reply)-2])
		v.refusal = strings.Replace(text, "'"+v.asked+"'", "'"+v.cmd.Name+"'", 1)
	}
	if more == 0 {
		v.ended()
	}
}

// Lost says that there is no answer.
func (v *verdict) Lost(err *backend.LostError, _ []byte) {
	v.refusal = err.Refusal
	v.ended()
}

func (v *verdict) ended() {
	if !v.s.closed {
		v.s.resumeFrom(pauseVetting)
	}
}
