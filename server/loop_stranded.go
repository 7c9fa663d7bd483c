package main

import (
	"maps"
	"slices"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// stranded is a request that waits for berth to learn of a node.
type stranded struct {
	detour
	words []byte     // the redirect
	left  string     // in place of words: the address of a node that is the primary no more
	read  *readAgain // in place of both
	reply []byte     // what the client gets if it is not followed
	sent  []byte     // the request
	since int64      // unix nanoseconds
}

// readAgain is a read, or a part of one, that no node has answered: it waits in loop.stranded.
type readAgain struct {
	r    *request
	slot int
	to   backend.Receiver // r, or the part
	away *bool            // of the same
}

// detour is one request on its way by redirects.
type detour struct {
	r    *request // or whose part it is; nil: berth asks on behalf of the session
	slot int
	hops *uint8
	may  func(to router.Redirect) bool         // whether it overtakes nobody there
	send func(to router.Redirect, sent []byte) // sends the request to the node
	keep func(reply []byte)                    // ends the request with the reply as it is
}

// strandedRequests are those of one loop, oldest first by client. Owned by the loop.
type strandedRequests struct {
	of    map[*session][]stranded
	bytes int
}

// Bounds of what waits for a node to become known: a script makes its client wait at will. A redirect
// beyond them is the client's.
const (
	maxStranded      = 1 << 10 // of one client
	maxStrandedBytes = 32 << 20
)

// followed sends a request to where a redirect leads.
func (l *loop) followed(s *session, to router.Redirect, d detour, sent []byte) {
	*d.hops++
	s.detoured, s.detouredAt = to, s.numbered
	l.stats.Redirected(to)
	d.send(to, sent)
}

// tickStranded sends what may go now, and gives up what has waited for too long.
func (l *loop) tickStranded() {
	for _, s := range slices.Collect(maps.Keys(l.stranded.of)) { // settle may strand another request
		l.settleAll(s)
	}
}

// settleAll ends the waits of a client's requests that can end, in its order.
func (l *loop) settleAll(s *session) {
	w := &l.stranded
	all := w.of[s]
	delete(w.of, s)
	for len(all) > 0 && l.settle(s, &all[0]) {
		w.bytes -= all[0].size()
		all[0] = stranded{}
		all = all[1:]
	}
	for _, r := range w.of[s] { // stranded meanwhile
		all = inOrder(all, r)
	}
	if len(all) > 0 {
		w.of[s] = all
	} else {
		delete(w.of, s)
	}
}

func (r *stranded) size() int { return len(r.words) + len(r.reply) + len(r.sent) }

// settle ends the wait of one request if it can. It reports whether it has.
func (l *loop) settle(s *session, r *stranded) bool {
	if r.read != nil {
		return l.settleRead(s, r)
	}
	if r.left != "" {
		return l.settleDemoted(s, r)
	}
	to, how := backend.Follow(r.words, r.slot, *r.hops, l.srv.config().MaxRedirects, l.srv.nodes)
	switch {
	case s.closed, how == backend.NotFollowed:
		r.keep(r.reply)
	case how == backend.Followed:
		if !r.may(to) {
			return false
		}
		l.followed(s, to, r.detour, r.sent)
	case l.clock-r.since < int64(backend.LearnPatience):
		return false
	default:
		r.keep(r.reply)
	}
	return true
}

// settleDemoted is settle for a write that waits for another primary.
func (l *loop) settleDemoted(s *session, r *stranded) bool {
	now := l.srv.nodes.Topology().Primary(0)
	switch {
	case s.closed:
		r.keep(r.reply)
	case now != r.left && now != "":
		l.followed(s, router.Redirect{Addr: now}, r.detour, r.sent)
	case l.clock-r.since < int64(l.srv.config().BackendConnectTimeout):
		l.srv.nodes.Refresh()
		return false
	default:
		r.keep(r.reply)
	}
	return true
}

// inOrder adds a request to those of its client, which wait in the client's order.
func inOrder(all []stranded, r stranded) []stranded {
	at := len(all)
	for at > 0 && r.r != nil && all[at-1].r != nil && r.r.number < all[at-1].r.number {
		at--
	}
	return slices.Insert(all, at, r)
}
