package main

import (
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// leaseWait is a blocking command that waits for its lease. For its client the command blocks from
// the beginning: the time it waits is taken off its timeout, and the `$` of an XREAD, which means
// the last entry when the command arrives, is looked up at once. Owned by the session's loop.
type leaseWait struct {
	since  int64          // when the command came, unix nanoseconds
	ids    map[int]string // by argument: the entry that a `$` stands for
	asking bool           // a node has still to say them
}

// beginLeaseWait notes that the session's blocking command waits for a lease from now on.
func (s *session) beginLeaseWait(cmd *router.Command, args [][]byte) {
	st := s.stay
	if st.leaseWait != nil {
		return
	}
	w := &leaseWait{since: s.loop.clock}
	st.leaseWait = w
	if !cmd.Is(router.Broadcast) {
		return
	}
	last := &lastEntries{s: s, ids: map[int]string{}, done: func(ids map[int]string) {
		w.ids, w.asking = ids, false
		// With the lease attached already, or lost again, the session goes on: then it asks for
		// another.
		if !s.closed && s.pause == pauseLeasing && (s.stay != st || st.waiter == nil) {
			s.resumeFrom(pauseLeasing)
		}
	}}
	last.ask(st.addr, cmd, args)
	w.asking = last.asked > 0
}

// lastEntries finds out, when an XREAD arrives, which entry each `$` in it stands for. Owned by the
// session's loop.
type lastEntries struct {
	s     *session
	ids   map[int]string // by argument
	asked int            // that a node has still to say
	done  func(ids map[int]string)
}

// ask puts the questions; done is called when the last has been answered, unless there are none.
func (l *lastEntries) ask(addr string, cmd *router.Command, args [][]byte) {
	keys, err := cmd.Keys(args, nil)
	if err != nil {
		return
	}
	for _, key := range keys {
		at := key + len(keys)
		if at >= len(args) || string(args[at]) != "$" {
			continue
		}
		question := codec.AppendCommand(nil, []byte("XREVRANGE"), args[key], []byte("+"), []byte("-"), []byte("COUNT"), []byte("1"))
		if err := l.s.pipes.Node(addr).Send(question, 1, &lastEntry{lastEntries: l, at: at, slot: int(router.Slot(args[key]))}); err == nil {
			l.asked++
		}
	}
}

// lastEntry takes a node's word on one stream. What it cannot say stays a `$`.
type lastEntry struct {
	*lastEntries
	at   int // the argument
	slot int // of the stream
	hops uint8
}

// Reply takes XREVRANGE's.
func (e *lastEntry) Reply(reply, sent []byte, _ int) {
	if reply[0] == '-' && e.redirect(reply, sent) {
		return
	}
	e.take(reply)
}

// redirect follows a redirect of the question.
func (e *lastEntry) redirect(reply, sent []byte) bool {
	return e.s.redirected(reply, reply, sent, detour{
		slot: e.slot, hops: &e.hops,
		send: func(to router.Redirect, sent []byte) {
			if e.s.sendTo(to, sent, 1, e) != nil {
				e.answered()
			}
		},
		keep: e.take,
	})
}

// take takes the answer.
func (e *lastEntry) take(reply []byte) {
	v, err := codec.ParseValue(reply)
	switch {
	case err != nil || v.Type != '*' || v.Null:
	case len(v.Elems) == 0:
		e.ids[e.at] = "0-0"
	case len(v.Elems[0].Elems) > 0:
		e.ids[e.at] = string(v.Elems[0].Elems[0].Str)
	}
	e.answered()
}

// Lost is told that the node will not say.
func (e *lastEntry) Lost(*backend.LostError, []byte) { e.answered() }

func (e *lastEntry) answered() {
	if e.asked--; e.asked == 0 {
		e.done(e.ids)
	}
}

// blockAlone sends a blocking command on the session's own lease and takes no further request until
// its reply.
func (s *session) blockAlone(cmd *router.Command, raw []byte, args [][]byte) bool {
	ready, taken := s.attach(cmd, args, pool.ReasonBlock)
	switch {
	case !ready && taken: // refused
		if s.stay != nil {
			s.stay.leaseWait = nil
		}
		return true
	case !ready:
		if s.pause == pauseLeasing {
			s.beginLeaseWait(cmd, args)
		}
		return false
	}
	if w := s.stay.leaseWait; w != nil {
		if w.asking {
			return s.hold(pauseLeasing)
		}
		s.stay.leaseWait = nil
		raw = withTimeLeft(cmd, raw, args, time.Duration(s.loop.clock-w.since), w.ids)
	}
	s.sendOnStay(cmd, raw, args)
	s.pauseFor(pauseBlocked)
	return true
}
