package main

import (
	"bytes"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// A node's MOVED or ASK sends a request to another node. What is believed of it stands at
// backend.Follow. A request that is sent to a node of which berth has not heard from the nodes
// waits for a round, and all later redirects of the same client after it. A request whose redirect leads
// elsewhere than that of one before it waits for that: it must not overtake. So does a write that was
// refused by a primary that has become a replica:
//
//	reply ─▶ redirected ─┬─ no redirect, none to follow ─────────▶ the client
//	                     ├─ known node ──────────────────────────▶ send
//	                     └─ unknown ─▶ stranded ─tick─┬─ learned ─▶ send
//	                                                  └─ too late ─▶ the client

// redirected follows a redirect: words, which are mostly the reply itself. false: it is not
// followed. Nothing but words, reply and sent is used after redirected has returned.
func (s *session) redirected(words, reply, sent []byte, d detour) bool {
	if s.closed {
		return false
	}
	l := s.loop
	to, how := backend.Follow(words, d.slot, *d.hops, l.srv.config().MaxRedirects, l.srv.nodes)
	if how == backend.NotFollowed {
		return false
	}
	l.forgetSlot(d.slot)
	d.may = func(to router.Redirect) bool { return s.keepsOrder(to, d.r) }
	if how == backend.Followed && l.stranded.allow(s, d) && d.may(to) {
		l.followed(s, to, d, sent)
		return true
	}
	return l.stranded.add(s, stranded{detour: d, words: bytes.Clone(words), reply: bytes.Clone(reply), sent: bytes.Clone(sent), since: l.clock})
}

// demoted has a write wait that a single node has refused as a replica, until the name of the node, or
// its Sentinels, lead to another one. The node has not executed it. It reports whether the write
// waits. The client sends nothing meanwhile: a later read must not run before it.
func (r *request) demoted(reply, sent []byte) bool {
	s := r.s
	nodes := s.loop.srv.nodes
	target := nodes.Target()
	if !bytes.HasPrefix(reply, []byte("-READONLY ")) || nodes.Topology().Sharded() || !target.Named() && target.Master == "" {
		return false
	}
	nodes.Refresh()
	// A script may have written, and then have chosen these words.
	if r.cmd.MayQuote() || r.ends != nil || s.closed || s.tail != r || s.pause != pauseNone ||
		int(r.hops) >= s.loop.srv.config().MaxRedirects {
		return false
	}
	d := detour{
		r: r, hops: &r.hops,
		send: func(to router.Redirect, sent []byte) {
			if err := s.sendTo(to, sent, 1, r); err != nil {
				r.lost(err)
			}
		},
		keep: r.deliver,
	}
	if !s.loop.stranded.add(s, stranded{detour: d, left: s.topology.Primary(0), reply: bytes.Clone(reply), sent: bytes.Clone(sent), since: s.loop.clock}) {
		return false
	}
	s.pauseFor(pauseDraining)
	return true
}

// keepsOrder reports whether a request may be sent where a redirect leads. One that came before it may be
// on its way by more redirects than this one, and must not be overtaken. So only the oldest request
// goes anywhere; others go after the latest that was redirected, or wait.
func (s *session) keepsOrder(to router.Redirect, r *request) bool {
	return s.head == r || to == s.detoured || !s.unanswered(s.detouredAt) || s.side != onPipes
}

// add has a request of the client wait. It returns false if too much waits already.
func (w *strandedRequests) add(s *session, r stranded) bool {
	before := w.of[s]
	if len(before) >= maxStranded || w.bytes+r.size() > maxStrandedBytes {
		return false
	}
	if w.of == nil {
		w.of = map[*session][]stranded{}
	}
	w.bytes += r.size()
	w.of[s] = inOrder(before, r)
	return true
}

// allow reports whether no request waits that a redirected one would overtake.
func (w *strandedRequests) allow(s *session, d detour) bool {
	before := w.of[s]
	return len(before) == 0 || d.r != nil && before[0].r != nil && d.r.number < before[0].r.number
}

// redirect follows -MOVED and -ASK: the request goes to where the node says. It reports whether the
// reply was one that is followed.
func (r *request) redirect(reply, sent []byte) bool {
	s, words, b := r.s, reply, r.blob()
	if b.abortedByRedirect(reply) {
		words = b.moved
	}
	if !isRedirect(words) {
		r.doubtScript(reply, sent)
		return false
	}
	return s.redirected(words, reply, sent, detour{
		r: r, slot: slotOfRedirected(s, r, sent), hops: &r.hops,
		send: func(to router.Redirect, sent []byte) {
			b.rewind()
			if err := s.sendTo(to, sent, r.replies(), r); err != nil {
				r.lost(err)
			}
		},
		keep: func(reply []byte) { r.deliver(s.withForgetAll(r, reply)) },
	})
}

// isRedirect reports whether an error begins as a redirect.
func isRedirect(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("-MOVED ")) || bytes.HasPrefix(reply, []byte("-ASK "))
}

// slotOfRedirected is the slot that a redirect of the request may be about.
func slotOfRedirected(s *session, r *request, sent []byte) int {
	if r.cmd.KeysUnknown() {
		return backend.AnySlot
	}
	return slotOfRaw(s, r, sent)
}

// sendTo sends a request on the pipe to the node of a redirect.
func (s *session) sendTo(to router.Redirect, raw []byte, replies int, receiver backend.Receiver) *backend.LostError {
	pipe := s.pipes.Since(s.pipeTurns, s.pipes.Node(to.Addr))
	if r, ok := receiver.(*request); ok {
		r.sendScripts(pipe, raw)
		r.pipe = pipe
	}
	if to.Ask {
		return pipe.SendAsking(raw, replies, receiver)
	}
	return pipe.Send(raw, replies, receiver)
}
