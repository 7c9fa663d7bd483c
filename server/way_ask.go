package main

import (
	"bytes"
	"time"

	"github.com/bytedance/gopkg/util/gopool"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/router"
)

// nodesAsked is a request that goes to several nodes, for a reply to which berth adds something of its
// own. It travels on the client's own pipes: what a user may not ask, the nodes refuse.
//
// Owned by the loop of the client.
type nodesAsked struct {
	answers [][]byte // by pipe; an error of berth's where none came
	left    int
	then    func(answers [][]byte)
}

// askPrimaries asks so many of the primaries. The caller has seen to it that nothing of the client
// is on its way. then runs on the loop, perhaps before askPrimaries returns.
func (s *session) askPrimaries(request []byte, shards int, then func(answers [][]byte)) {
	t := s.loop.srv.nodes.Topology()
	askOn(s.primaries(t)[:min(shards, len(t.Shards()))], request, then)
}

// primaries are the session's pipes to all primaries.
func (s *session) primaries(t *router.Topology) (pipes []*pipe.Pipe) {
	for shard := range t.Shards() {
		pipes = append(pipes, s.pipes.Shard(t, shard))
	}
	return pipes
}

// askOn is askPrimaries for the nodes of some pipes.
func askOn(pipes []*pipe.Pipe, request []byte, then func(answers [][]byte)) {
	p := &nodesAsked{answers: make([][]byte, len(pipes)), left: 1, then: then} // 1: until all is sent; the first may answer at once
	for i, to := range pipes {
		p.left++
		a := &nodeAsked{p, i}
		if err := to.Send(request, 1, a); err != nil {
			a.Lost(err, request)
		}
	}
	p.arrived()
}

func (p *nodesAsked) arrived() {
	if p.left--; p.left == 0 {
		p.then(p.answers)
	}
}

// nodeAsked is owed one node's answer. It is a backend.Receiver.
type nodeAsked struct {
	poll *nodesAsked
	at   int
}

// Reply takes the answer.
func (a *nodeAsked) Reply(reply, _ []byte, _ int) {
	a.poll.answers[a.at] = bytes.Clone(reply)
	a.poll.arrived()
}

// Lost is told that there will be none.
func (a *nodeAsked) Lost(err *backend.LostError, _ []byte) {
	a.poll.answers[a.at] = appendLost(nil, err)
	a.poll.arrived()
}

// firstError is the first error among answers, nil when there is none.
func firstError(answers [][]byte) []byte {
	for _, a := range answers {
		if a[0] == '-' {
			return a
		}
	}
	return nil
}

// askEveryLoop puts a question to every loop and answers the client with what join makes of all the
// answers. This is how one client's command reaches other clients: only its own loop touches a
// session.
//
//	the client's loop ─Post─▶ every loop: question ─Post─▶ the client's loop: with the last answer, join ▶ reply
//
// The client is paused until then. A loop calls answer once, perhaps turns later. question and join
// run when the request's words are gone: they must have copied what they need. join does not run
// when the client has left; the questions are answered all the same.
func askEveryLoop[A any](s *session, cmd *router.Command, question func(l *loop, answer func(A)), join func(answers []A) (reply []byte)) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	askLoopsFor(r, question, join)
	return true
}

// askLoopsFor is askEveryLoop for a request that the client is paused for.
func askLoopsFor[A any](r *request, question func(l *loop, answer func(A)), join func(answers []A) (reply []byte)) {
	s := r.s
	home := s.loop
	loops := home.srv.eachLoop()
	answers := make([]A, 0, len(loops)) // touched by home only
	for _, l := range loops {
		l.Post(func() {
			question(l, func(answer A) {
				home.Post(func() {
					answers = append(answers, answer)
					switch {
					case len(answers) < len(loops):
					case s.closed:
						r.done(nil)
					default:
						r.done(join(answers))
					}
				})
			})
		})
	}
}

// askEverySession has every loop make something of each of its sessions that are wanted, in slices,
// for a request that the client is paused for. join makes the reply of what all loops have made. It
// runs on a goroutine of its own, because it may take long, and must not touch the session.
func askEverySession[A any](r *request, make func(c *session) (made A, wanted bool), join func(all []A) (reply []byte)) {
	eachSession(r.s.loop, make, func(all []A) { r.offLoop(func() []byte { return join(all) }) })
}

// eachSession has every loop make something of each of its sessions that are wanted, in slices. then
// runs on home, with what all loops have made.
func eachSession[A any](home *loop, make func(c *session) (made A, wanted bool), then func(all []A)) {
	loops := home.srv.eachLoop()
	var all []A // touched by home only, and by then
	left := len(loops)
	for _, l := range loops {
		l.Post(func() {
			var some []A
			l.walk(func(c *session) {
				if made, wanted := make(c); wanted {
					some = append(some, made)
				}
			}, func() {
				home.Post(func() {
					all = append(all, some...)
					if left--; left == 0 {
						then(all)
					}
				})
			})
		})
	}
}

// askLoops puts a question to every loop and waits for the answers, no longer than snapshotWait in
// all. silent are the loops that have not answered by then. No loop may call it: it blocks.
func askLoops[A any](srv *server, question func(l *loop) A) (answers []A, silent []*loop) {
	return askLoopsInSlices(srv, func(l *loop, answer func(A)) { answer(question(l)) })
}

// askLoopsInSlices is askLoops for a question that takes a loop more than one turn. The loop calls
// answer once.
func askLoopsInSlices[A any](srv *server, question func(l *loop, answer func(A))) (answers []A, silent []*loop) {
	loops := srv.eachLoop()
	heard := make([]chan A, len(loops))
	for i, l := range loops {
		heard[i] = make(chan A, 1) // a late answer finds room, though nothing reads it
		l.Post(func() { question(l, func(a A) { heard[i] <- a }) })
	}
	late := make(chan struct{})
	timer := time.AfterFunc(snapshotWait, func() { close(late) })
	defer timer.Stop()
	for i, l := range loops {
		select {
		case answer := <-heard[i]:
			answers = append(answers, answer)
			continue
		case <-late:
		}
		select {
		case answer := <-heard[i]: // both were ready
			answers = append(answers, answer)
		default:
			silent = append(silent, l)
		}
	}
	return answers, silent
}

// maxAside is how many bytes a reply may have that is made off the loop: no limit on output holds
// before it is whole, and a client may ask for the same line a million times.
const maxAside = 16 << 20

const errTooLong = "ERR berth: the reply would have more than 16 MB"

// offLoop answers a request with what work returns. work runs on a goroutine of its own and may
// block, which a loop may not. It must not touch the session. The client is paused until then.
func (s *session) offLoop(cmd *router.Command, work func() (reply []byte)) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	r.offLoop(work)
	return true
}

// offLoop answers a request that has been queued already with what work returns.
func (r *request) offLoop(work func() (reply []byte)) {
	home := r.s.loop
	gopool.Go(func() {
		reply := work()
		home.Post(func() { r.done(reply) })
	})
}

// snapshotWait bounds how long a report waits for the loops.
const snapshotWait = time.Second
