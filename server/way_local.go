package main

import (
	"strconv"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// localFunc answers a command out of berth's own knowledge: it appends the reply to out.
type localFunc func(s *session, args [][]byte, out []byte) []byte

// sessionFunc runs a command that changes the session, or that needs a node's word first. As dispatch, it returns
// false when the request has to wait.
type sessionFunc func(s *session, cmd *router.Command, raw []byte, args [][]byte) bool

// localFuncs and sessionFuncs hold the handlers of the commands that travel router.Local, by name. A Local command that
// stands in neither goes to a node.
var (
	localFuncs   = map[string]localFunc{}
	sessionFuncs = map[string]sessionFunc{}
)

func init() {
	localFuncs["ping"] = ping
	localFuncs["echo"] = func(_ *session, args [][]byte, out []byte) []byte { return codec.AppendBulk(out, args[1]) }
	localFuncs["time"] = func(s *session, _ [][]byte, out []byte) []byte {
		out = codec.AppendArray(out, 2)
		out = codec.AppendBulkString(out, strconv.FormatInt(s.loop.clock/1e9, 10))
		return codec.AppendBulkString(out, strconv.FormatInt(s.loop.clock%1e9/1e3, 10))
	}
	localFuncs["readonly"] = clusterMode(func(s *session) { s.readonly = true })
	localFuncs["readwrite"] = clusterMode(func(s *session) { s.readonly = false })
	localFuncs["asking"] = clusterMode(func(*session) {})
	sessionFuncs["quit"] = quit
	sessionFuncs["reset"] = reset
	sessionFuncs["auth"] = auth
	sessionFuncs["hello"] = hello
	sessionFuncs["select"] = selectDB
}

// local answers a command itself.
func (s *session) local(cmd *router.Command, raw []byte, args [][]byte) bool {
	if f := sessionFuncs[cmd.Name]; f != nil {
		return f(s, cmd, raw, args)
	}
	if localFuncs[cmd.Name] == nil {
		return s.share(cmd, raw, args)
	}
	return s.answerLocal(cmd, args)
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
	return localFuncs[cmd.Name](s, args, out)
}

// answersItself tells whether no node sees the command.
func (s *session) answersItself(cmd *router.Command) bool {
	if forEmbedded[cmd.Name] && s.loop.srv.nodes.Info().Kind != nodes.Embedded {
		return false
	}
	return cmd.Way == router.Refused && !s.debugs(cmd) || localFuncs[cmd.Name] != nil || sessionFuncs[cmd.Name] != nil
}

var okReply = codec.AppendSimple(nil, "OK")
