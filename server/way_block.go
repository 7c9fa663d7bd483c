package main

import (
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// block has the client wait with others for the same elements. While it watches or tracks keys, and
// when it keeps its connections, the command goes on its own. So do MIGRATE and commands of a
// module without a timeout: they work while they block, so a lane must not send them a second time.
func (s *session) block(cmd *router.Command, raw []byte, args [][]byte) bool {
	cfg := s.loop.srv.config()
	_, timed := cmd.Timeout(args)
	if !timed || s.stay != nil && s.stay.watching || s.tracking != nil || !cfg.PoolEnabled {
		return s.blockAlone(cmd, raw, args)
	}
	t := s.loop.srv.nodes.Topology()
	shard, text := s.place(t, cmd, args)
	if text != "" {
		return s.refuse(cmd, text)
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	s.side, s.topology = onLease, t
	by := lane.Asker{ID: s.id, Addr: s.remote(), Identity: s.pipes.Identity(), Slot: s.slotOf(cmd, args)} // the nodes may be a Cluster later
	if s.label != nil {
		by.Name = s.label.name
	}
	r := s.newRequest(cmd)
	s.charge(r, blockingCopies*len(raw))
	by.Client = (*blockedRequest)(r)
	w := s.loop.lanes.NewWaiter(by, cmd, args)
	s.blocked = w
	s.pauseFor(pauseBlocked)
	if cmd.Is(router.Broadcast) {
		last := &lastEntries{s: s, ids: map[int]string{}, done: func(ids map[int]string) { joinResolved(w, ids) }}
		if last.ask(t.Shards()[shard].Primary, cmd, w.Words()); last.asked > 0 {
			return true
		}
	}
	w.Join()
	return true
}

// waitsWithOthers reports whether a blocking command may wait on a lane that another client's
// command has begun. The node has judged that command, perhaps by an older rule of the user.
func waitsWithOthers(cmd *router.Command, args [][]byte) bool {
	if cmd.Way != router.Blocking {
		return false
	}
	t, ok := cmd.Timeout(args)
	return ok && !t.Opaque
}

// blockingQuestion has a node say whether it lets the user run a blocking command: with a timeout
// that is none, the command does nothing.
func blockingQuestion(cmd *router.Command, args [][]byte) *question {
	t, _ := cmd.Timeout(args)
	words := slices.Clone(args)
	words[t.Arg] = []byte("berth")
	return &question{words: codec.AppendCommand(nil, words...), n: 1}
}

// blockingCopies is how many times a waiting command is held: its words, the name of its group, and
// what its lane sends and may have to send again.
const blockingCopies = 4

// joinResolved goes on when the nodes have said what each `$` stands for.
func joinResolved(w *lane.Waiter, ids map[int]string) {
	if !w.Waits() { // the client has left
		return
	}
	for at, id := range ids {
		w.Words()[at] = []byte(id)
	}
	w.Join()
}

// blockedRequest is a request whose client waits with others. It is a lane.Client.
type blockedRequest request

// Answer ends the request with its reply.
func (b *blockedRequest) Answer(reply []byte) {
	r := (*request)(b)
	r.s.blocked = nil
	r.done(reply)
}

// leaveGroup ends the blocking command of a client that is gone.
func (s *session) leaveGroup() {
	if s.blocked == nil {
		return
	}
	b := s.blocked.Leave().(*blockedRequest) // it has no reply yet: otherwise the session would not be blocked
	s.blocked = nil
	s.loop.dropRequest((*request)(b))
}

// asUser returns the identity of the pipes on which berth itself asks a node something in a user's
// name.
func (srv *server) asUser(id backend.Identity) backend.Identity {
	return backend.Identity{User: id.User, Credential: id.Credential, DB: srv.nodes.Target().DB, RESP: 2}
}

// shortened returns a blocking request with its timeout reduced by the time that has passed:
// however often it is redirected, the client waits no longer than it asked for.
func (s *session) shortened(r *request) []byte {
	l := s.loop
	p := l.parser()
	defer l.dropParser(p)
	if n, err := p.ParseAll(r.sent, l.srv.limits(true)); n == 0 || err != nil {
		return r.sent
	}
	return withTimeLeft(r.cmd, r.sent, p.Args(), time.Duration(l.clock-r.start), nil)
}

// withTimeLeft returns a blocking request with its timeout reduced by the time that has gone, and
// with other words in some places. raw is what the words were parsed from.
func withTimeLeft(cmd *router.Command, raw []byte, args [][]byte, gone time.Duration, words map[int]string) []byte {
	timeout, ok := cmd.Timeout(args)
	reduced := ok && timeout.Asked > 0 && gone >= time.Millisecond
	if !reduced && len(words) == 0 {
		return raw
	}
	out := codec.AppendArray(nil, len(args))
	for i, a := range args {
		word, other := words[i]
		switch {
		case i == timeout.Arg && reduced:
			out = codec.AppendBulk(out, timeout.AppendLeft(nil, timeout.Asked-gone))
		case other:
			out = codec.AppendBulkString(out, word)
		default:
			out = codec.AppendBulk(out, a)
		}
	}
	return out
}
