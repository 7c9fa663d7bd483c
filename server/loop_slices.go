package main

import (
	"context"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// slicing is the loop's work that is too much for one turn: sessions with more input than a slice,
// and jobs. Each gets one slice in a turn of their own. The sockets that are ready meanwhile have
// their turn between two slices.
//
// Owned by the loop.
type slicing struct {
	sessions []*session
	jobs     []job
	sharing  int  // how many sessions had a slice in the latest turn for them, or wait for one
	worked   int  // by sessions, since that turn began
	posted   bool // a turn for them is on its way
	turns    int  // there have been
}

// job is work in slices.
type job interface {
	slice() (done bool)
}

// addJob begins a job with its first slice.
func (l *loop) addJob(j job) {
	if !j.slice() {
		l.slicing.jobs = append(l.slicing.jobs, j)
	}
}

// postpone posts the turn for the sessions and jobs that go on. gnet runs what a task posts before it
// looks at any socket, so a goroutine posts the turn.
func (l *loop) postpone() {
	w := &l.slicing
	if w.posted || len(w.sessions)+len(w.jobs) == 0 {
		w.sharing = min(w.sharing, len(w.sessions))
		return
	}
	w.posted = true
	go func() {
		_ = l.el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
			l.Enter()
			l.sliceTurn()
			return nil
		}))
	}()
}

// sliceTurn does a slice of every job, and of the sessions as many as have the work of one slice
// together. The others are the first ones next time.
func (l *loop) sliceTurn() {
	w := &l.slicing
	w.posted = false
	w.turns++
	w.sharing = len(w.sessions)
	jobs := w.jobs
	w.jobs = nil
	for _, j := range jobs {
		l.addJob(j)
	}
	sessions := w.sessions
	w.sessions, w.worked = nil, 0
	for len(sessions) > 0 && w.worked < sliceWork {
		sessions[0].resume()
		sessions = sessions[1:]
	}
	w.sessions = append(sessions, w.sessions...)
	l.turn()
}

// goOnLater has the session go on with its input when the loop has visited all others that are
// ready.
func (s *session) goOnLater() {
	s.isReady = true
	s.loop.slicing.sessions = append(s.loop.slicing.sessions, s)
}

// What a loop does for one client's input before it looks at the others again, in units of about
// 100 ns: some milliseconds at the most, with what a request costs where it goes. Clients that go on
// in the same turn share it.
const (
	sliceWork      = 8192
	sliceLeast     = 256
	workPerRequest = 7
	workBytes      = 1 << 10
	workUnit       = 100 * time.Nanosecond
)

// size is how much the next slice of a session is.
func (w *slicing) size() int {
	if w.sharing+len(w.sessions) == 0 {
		return sliceWork
	}
	return max(sliceWork/(1+max(w.sharing, len(w.sessions))), sliceLeast)
}

// sliceKeys is how many keys of one request are hashed, or sent, or joined in a slice, and
// sliceChannels how many channels of one client are claimed or left.
const (
	sliceKeys     = 16 << 10
	sliceChannels = 1 << 10
)
