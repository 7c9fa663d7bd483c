package main

import (
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// A stranger is a client that has given no password where a node wants one. Redis looks anew at each
// of its commands whether a password is still wanted, and so does berth: it asks with a PING on a
// connection that never authenticates. Without an answer, and after NOAUTH, the stranger is refused.
//
//	dispatch: stranger ─▶ knock, hold ··· reply: release ─▶ the same request dispatched again ─▶ NOAUTH, or on

// admission is whether a client may go on without a password.
type admission uint8

const (
	letIn      admission = iota
	turnedAway           // a node has just said NOAUTH
	knocking             // a node is asked; the session waits
)

// vetsFirst reports whether a node turns strangers away before it looks at what they ask for, as
// since Valkey 9.1.
func (srv *server) vetsFirst() bool { return srv.isValkeySince(9, 1) }

// vetRequest reports whether a client may go on with its request: it has given its password, needs none,
// or asks for what needs none. Otherwise taken reports whether it was refused; if not, the request is
// held.
func (s *session) vetRequest(cmd *router.Command, err error) (admitted, taken bool) {
	if err == nil && cmd.Flags.Has(router.NoAuth) {
		return true, false
	}
	switch s.vet() {
	case turnedAway:
		return false, s.refuse(cmd, errNoAuth)
	case knocking:
		return false, false
	}
	return true, false
}

// vet says whether the client may go on without a password. knocking: the request is held.
func (s *session) vet() admission {
	away := s.isTurnedAway
	s.isTurnedAway = false
	switch {
	case !s.stranger():
		return letIn
	case away:
		return turnedAway
	}
	t := s.loop.srv.nodes.Topology()
	shard, text := shardOf(t, noSlot, s.id)
	if text != "" {
		return turnedAway
	}
	if err := s.loop.pipes.Stranger().Shard(t, shard).Send(pingCommand, 1, &knock{s, t.Shards()[shard].Primary}); err != nil {
		return turnedAway
	}
	s.pauseFor(pauseVetting)
	return knocking
}

// knock is a PING for a stranger. It is a backend.Receiver.
type knock struct {
	s    *session
	addr string // of the node
}

// Reply takes the node's answer. Its words are the node's own: no other command travels on this
// connection.
func (k *knock) Reply(reply, _ []byte, _ int) {
	l := k.s.loop
	if text := string(reply[1 : len(reply)-2]); reply[0] != '-' || backend.LetsIn(text) {
		l.srv.nodes.Demands(k.addr, false)
		// The node will answer nothing but PONG on this connection, whatever becomes of passwords.
		l.Post(func() { l.pipes.Stranger().Retire() })
	} else if strings.HasPrefix(text, "NOAUTH ") {
		l.srv.nodes.Demands(k.addr, true)
	}
	k.answered()
}

// Lost says that there is no answer.
func (k *knock) Lost(*backend.LostError, []byte) { k.answered() }

func (k *knock) answered() {
	if s := k.s; !s.closed {
		s.isTurnedAway = s.stranger()
		s.resumeFrom(pauseVetting)
	}
}
