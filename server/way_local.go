package main

import (
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// local runs a command of berth's own. One without a row goes to a node.
func (s *session) local(cmd *router.Command, raw []byte, args [][]byte) bool {
	own := s.own(cmd)
	switch {
	case !s.isOurs(own):
		return s.share(cmd, raw, args)
	case own.run != nil:
		return s.runOwn(own, cmd, raw, args)
	case own.answer != nil:
		return s.answerLocal(cmd, args)
	}
	return s.share(cmd, raw, args)
}

// answerLocal answers with berth's own reply.
func (s *session) answerLocal(cmd *router.Command, args [][]byte) bool {
	l := s.loop
	s.forgetCaching(cmd)
	l.scratch = s.runLocal(cmd, args, l.scratch[:0])
	s.answer(cmd, l.scratch)
	return true
}

// runLocal appends berth's own reply to a command.
func (s *session) runLocal(cmd *router.Command, args [][]byte, out []byte) []byte {
	if cmd.Way == router.Refused {
		return codec.AppendError(out, s.refusal(cmd))
	}
	return s.own(cmd).answer(s, args, out)
}

var okReply = codec.AppendSimple(nil, "OK")
