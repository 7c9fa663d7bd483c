package main

import (
	"slices"
	"sync/atomic"

	"github.com/berth-proxy/berth/server/telemetry"
)

// weights bound what all clients together make berth hold: input, output, queued requests. When it
// is more than maxmemory-clients, the client that holds most is closed, then the next, as Redis
// does. No client is trusted to stay within its own limits: many that do are too much as well.
//
// Each loop weighs its own sessions, ten times a second and whenever much has come. A session that
// holds nothing costs nothing. Owned by the loop, but for sum and most.
type weights struct {
	sessions []*session // that may hold something
	grown    int        // bytes that came since they were weighed
	soon     int        // bytes after which they are weighed before the next tick

	// What the sessions hold, and the heaviest that may be closed, when they were weighed last. The loop stores
	// them, and other loops load them: they may be a tick old.
	sum, most atomic.Int64
}

// weighLater has the session weighed with the others.
func (s *session) weighLater() {
	if !s.isWeighed {
		s.isWeighed = true
		s.loop.weights.sessions = append(s.loop.weights.sessions, s)
	}
}

// grew enters bytes that a session holds from here on.
func (s *session) grew(n int) {
	s.weighLater()
	w := &s.loop.weights
	if w.grown += n; w.grown > w.soon {
		s.loop.Wake()
	}
}

// soonest is how much must come before sessions are weighed out of turn.
const soonest = 1 << 20

// weigh weighs the sessions, and closes the heaviest while all clients hold too much.
func (l *loop) weigh() {
	w := &l.weights
	limit := l.srv.clientMemory()
	w.grown, w.soon = 0, max(soonest, limit/16)
	kept := w.sessions[:0]
	sum, most := 0, 0
	for _, s := range w.sessions {
		n := s.weight()
		if n == 0 {
			s.isWeighed = false
			continue
		}
		kept = append(kept, s)
		sum += n
		if !s.noEvict {
			most = max(most, n)
		}
	}
	clear(w.sessions[len(kept):])
	w.sessions = kept
	w.sum.Store(int64(sum))
	w.most.Store(int64(most))
	l.srv.memory.hold(l.srv.heldByClients())
	if limit > 0 && l.srv.heldByClients() > limit {
		l.evict(limit)
	}
}

// evict closes the loop's heaviest clients until all clients hold less than the limit, or another
// loop has a heavier one. Who asked for CLIENT NO-EVICT stays.
func (l *loop) evict(limit int) {
	w := &l.weights
	byWeight := slices.DeleteFunc(slices.Clone(w.sessions), func(s *session) bool { return s.noEvict })
	slices.SortFunc(byWeight, func(a, b *session) int { return b.weight() - a.weight() })
	others := l.srv.heaviest(l)
	for _, s := range byWeight {
		n := s.weight()
		if l.srv.heldByClients() <= limit || n < others {
			break
		}
		l.stats.Limit(telemetry.LimitClientMemory)
		s.kill(telemetry.ClientMemoryLimit, "bytes", n, "limit", limit)
		w.sum.Add(int64(-n))
	}
}

// heldByClients is what the clients of all loops hold.
func (srv *server) heldByClients() (n int) {
	for _, l := range srv.eachLoop() {
		n += int(l.weights.sum.Load())
	}
	return n
}

// heaviest is what the heaviest client of all other loops holds.
func (srv *server) heaviest(but *loop) (n int) {
	for _, l := range srv.eachLoop() {
		if l != but {
			n = max(n, int(l.weights.most.Load()))
		}
	}
	return n
}

// clientMemory is maxmemory-clients in bytes, 0: no limit.
func (srv *server) clientMemory() int { return srv.config().MaxMemoryClients.Of(machineMemory()) }
