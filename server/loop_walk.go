package main

import "slices"

// walk visits every session of a loop, in slices: a list of all clients may be long, and the others
// on the loop have their turn meanwhile. Sessions that begin after the walk are not visited. It is a
// job.
//
// Owned by the loop.
type walk struct {
	loop  *loop
	next  *session // nil: all have been visited
	visit func(s *session)
	end   func()
}

// sliceSessions is how many sessions a slice visits.
const sliceSessions = 256

// walk visits every session and calls end after the last.
func (l *loop) walk(visit func(s *session), end func()) {
	w := &walk{loop: l, next: l.first, visit: visit, end: end}
	l.walks = append(l.walks, w)
	l.addJob(w)
}

func (w *walk) slice() (done bool) {
	for range sliceSessions {
		s := w.next
		if s == nil {
			break
		}
		w.next = s.next
		w.visit(s)
	}
	if w.next != nil {
		return false
	}
	w.loop.walks = slices.DeleteFunc(w.loop.walks, func(other *walk) bool { return other == w })
	w.end()
	return true
}

// leaves takes a session that is gone out of the walk.
func (w *walk) leaves(s *session) {
	if w.next == s {
		w.next = s.next
	}
}
