package main

import (
	"bytes"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// A node's MOVED or ASK sends a request to another node. What is believed of it stands at
// backend.Follow. A request that is sent to a node of which berth has not heard from the nodes
// waits for a round, and all later redirects of the same client after it:
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
	w := &l.stranded
	before := w.of[s] // they must not be overtaken
	if how == backend.Followed && before == nil {
		l.followed(to, d, sent)
		return true
	}
	size := len(words) + len(reply) + len(sent)
	if len(before) >= maxStranded || w.bytes+size > maxStrandedBytes {
		return false
	}
	if w.of == nil {
		w.of = map[*session][]stranded{}
	}
	w.bytes += size
	w.of[s] = append(before, stranded{d, bytes.Clone(words), bytes.Clone(reply), bytes.Clone(sent), l.clock})
	return true
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
		slot: slotOfRedirected(s, r, sent), hops: &r.hops,
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
	}
	if to.Ask {
		return pipe.SendAsking(raw, replies, receiver)
	}
	return pipe.Send(raw, replies, receiver)
}
