package main

import (
	"slices"
	"time"
)

// walk visits every session of a loop, in slices: how many clients there are is theirs to choose, and
// the others on the loop have their turn meanwhile. No command and no report visits them otherwise.
// Sessions that begin after the walk are not visited. It is a job.
//
// Owned by the loop.
type walk struct {
	loop  *loop
	next  *session // nil: all have been visited
	visit func(s *session)
	end   func()
}

// A slice visits no more than sliceSessions, and ends after sliceTime: closing a session takes a
// hundred times as long as counting it.
const (
	sliceSessions = 256
	sliceTime     = 500 * time.Microsecond
	sliceCheck    = 4 // sessions between two looks at the clock
)

// walk visits every session and calls end after the last.
func (l *loop) walk(visit func(s *session), end func()) {
	w := &walk{loop: l, next: l.first, visit: visit, end: end}
	l.walks = append(l.walks, w)
	l.addJob(w)
}

func (w *walk) slice() (done bool) {
	began := time.Now()
	for n := range sliceSessions {
		s := w.next
		if s == nil || n > 0 && n%sliceCheck == 0 && time.Since(began) > sliceTime {
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
