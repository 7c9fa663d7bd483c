package main

import (
	"context"

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
	if l.slicing.posted || len(l.slicing.sessions)+len(l.slicing.jobs) == 0 {
		return
	}
	l.slicing.posted = true
	go func() {
		_ = l.el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
			l.Enter()
			l.sliceTurn()
			return nil
		}))
	}()
}

// sliceTurn does a slice of everything.
func (l *loop) sliceTurn() {
	w := &l.slicing
	w.posted = false
	w.turns++
	jobs := w.jobs
	w.jobs = nil
	for _, j := range jobs {
		l.addJob(j)
	}
	l.ready = append(l.ready, w.sessions...)
	clear(w.sessions)
	w.sessions = w.sessions[:0]
	l.turn()
}

// goOnLater has the session go on with its input when the loop has visited all others that are
// ready.
func (s *session) goOnLater() {
	s.isReady = true
	s.loop.slicing.sessions = append(s.loop.slicing.sessions, s)
}

// What a loop does for one client's input before it looks at the others again, in units of about
// 100 ns: some milliseconds at the most, with what a request costs where it goes.
const (
	sliceWork      = 8192
	workPerRequest = 7
	workBytes      = 1 << 10
)

// sliceKeys is how many keys of one request are hashed, or sent, or joined in a slice, and
// sliceChannels how many channels of one client are claimed or left.
const (
	sliceKeys     = 16 << 10
	sliceChannels = 1 << 10
)
