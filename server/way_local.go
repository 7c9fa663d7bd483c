package main

import (
	"cmp"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// local runs a command of berth's own. One without a row goes to a node.
func (s *session) local(cmd *router.Command, raw []byte, args [][]byte) bool {
	if !s.runOwn(cmd, raw, args) {
		return false
	}
	s.monitored(cmd, args)
	return true
}

// runOwn runs it. It returns false if the request has to wait.
func (s *session) runOwn(cmd *router.Command, raw []byte, args [][]byte) bool {
	own := s.own(cmd)
	if !s.isOurs(own) {
		// A health check begins with PING. The user's rights are asked for with it: later there may
		// be no node that says what an administrator may run.
		s.refreshRights(s.loop.srv.rights.of(s.user()))
		return s.share(cmd, raw, args)
	}
	began := time.Now()
	defer func() { s.loop.replied += int(time.Since(began)/workUnit) * workBytes }()
	switch {
	case own.run != nil:
		return own.run(s, cmd, raw, args)
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

// Errors of Redis that berth gives itself.
const (
	errNoAuth     = "NOAUTH Authentication required."
	errCredential = "ERR berth: a user name or password has more than 16384 bytes"
	errWrongPass  = "WRONGPASS invalid username-password pair or user is disabled."
	errCrossSlot  = "CROSSSLOT Keys in request don't hash to the same slot"
	errNotServed  = "CLUSTERDOWN Hash slot not served"
	errManyShards = "ERR berth: '%s' speaks of all shards and cannot run inside MULTI"
)

// noMulti is what the nodes say to a command that is not allowed inside MULTI.
func (srv *server) noMulti(cmd *router.Command) string {
	if srv.isValkeySince(9, 0) {
		return "ERR Command '" + cmd.Name + "' not allowed inside a transaction"
	}
	return "ERR Command not allowed inside a transaction"
}

// refuse answers a request with an error of ours; inside MULTI the transaction is spoilt. A refused
// EXEC ends it, in Redis' words for that.
func (s *session) refuse(cmd *router.Command, text string) bool {
	if text == errNotServed {
		text = s.loop.srv.notServed()
	}
	switch {
	case cmd != nil && cmd.Is(router.Exec):
		s.endUnsent()
		if !strings.HasPrefix(text, "EXECABORT") { // wrong arity: the table has the whole sentence
			text = "EXECABORT Transaction discarded because of: " + strings.TrimPrefix(text, "ERR ")
		}
	case s.txn != nil:
		s.txn.spoilt = true
	}
	l := s.loop
	l.scratch = codec.AppendError(l.scratch[:0], text)
	s.answer(cmd, l.scratch)
	return true
}

// notServed is why a request has no node: berth has reached none yet, or none serves the slot.
func (srv *server) notServed() string {
	return cmp.Or(srv.unreached(), errNotServed)
}

// notReached is how the error begins of a berth that has reached no node since it began.
const notReached = "TRYAGAIN berth: " + nodes.NotReached

// unreached is that error, with the reason; "": a node was reached.
func (srv *server) unreached() string {
	h := srv.nodes.Health()
	if h.Err == nil || !h.At.IsZero() {
		return ""
	}
	why := h.Err.Error()
	return notReached + " (" + strings.ToValidUTF8(why[:min(len(why), maxWhy)], "") + "), command not executed"
}

// maxWhy is how many bytes of a reason a client is told: there may be many addresses.
const maxWhy = 256

// say answers with a simple string.
func (s *session) say(cmd *router.Command, text string) bool {
	l := s.loop
	l.scratch = codec.AppendSimple(l.scratch[:0], text)
	s.answer(cmd, l.scratch)
	return true
}

// sayError answers with an error that does not spoil a transaction.
func (s *session) sayError(cmd *router.Command, text string) bool {
	l := s.loop
	l.scratch = codec.AppendError(l.scratch[:0], text)
	s.answer(cmd, l.scratch)
	return true
}
