package main

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/router"
)

// pauseGate is where requests stop while CLIENT PAUSE holds. A session that stops there has pause
// pauseGated; when the gate opens every loop is told, and looks for them among its own.
type pauseGate struct {
	// closed is loaded by every loop at every request, and stored by who changes the pause. A loop
	// that still saw the gate closed has paused its session when the word that it is open reaches
	// it.
	closed atomic.Pointer[clientPause] // nil: open

	mu    sync.Mutex  // guards changes of closed, and timer
	timer *time.Timer // opens the gate; nil before the first pause
}

// clientPause is one CLIENT PAUSE, immutable.
type clientPause struct {
	until      time.Time
	writesOnly bool
}

// stops reports whether a session's request has to wait at the gate.
func (g *pauseGate) stops(s *session, cmd *router.Command, args [][]byte) bool {
	p := g.closed.Load()
	return p != nil && (!p.writesOnly || s.mayReplicate(cmd, args))
}

// left returns for how long the gate stops requests, 0 if it is open.
func (g *pauseGate) left() time.Duration {
	if p := g.closed.Load(); p != nil {
		return max(0, time.Until(p.until))
	}
	return 0
}

// stopped is the word of INFO for what the gate stops.
func (g *pauseGate) stopped() string {
	if p := g.closed.Load(); p != nil && !p.writesOnly {
		return "all"
	}
	return "write"
}

// pauseClients closes the gate. A second pause makes the first one longer and wider, never shorter
// or narrower.
func (srv *server) pauseClients(d time.Duration, writesOnly bool) {
	g := &srv.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	next := &clientPause{until: time.Now().Add(d), writesOnly: writesOnly}
	if old := g.closed.Load(); old != nil {
		next.writesOnly = writesOnly && old.writesOnly
		if old.until.After(next.until) {
			next.until = old.until
		}
	}
	g.closed.Store(next)
	if g.timer == nil {
		g.timer = time.AfterFunc(time.Until(next.until), srv.pauseEnds)
	} else {
		g.timer.Reset(time.Until(next.until))
	}
}

// pauseEnds is called by the timer, which may have been late while the pause was made longer.
func (srv *server) pauseEnds() {
	g := &srv.gate
	g.mu.Lock()
	p := g.closed.Load()
	over := p != nil && !time.Now().Before(p.until)
	if over {
		g.closed.Store(nil)
	}
	g.mu.Unlock()
	if over {
		srv.letGo()
	}
}

// unpauseClients opens the gate.
func (srv *server) unpauseClients() {
	g := &srv.gate
	g.mu.Lock()
	if g.timer != nil {
		g.timer.Stop()
	}
	g.closed.Store(nil)
	g.mu.Unlock()
	srv.letGo()
}

// letGo has all sessions go on that stopped at the gate.
func (srv *server) letGo() {
	if srv.stopping.Load() {
		return
	}
	for _, l := range srv.eachLoop() {
		l.Post(func() {
			l.walk(func(s *session) {
				if s.pause == pauseGated {
					s.resumeFrom(pauseGated)
				}
			}, func() {})
		})
	}
}

// mayReplicate tells what CLIENT PAUSE WRITE holds: commands that write, the ones that would be
// passed on to replicas without writing, and an EXEC of any of them. (Redis has a flag for the
// second kind that COMMAND does not show.) A script that says no-writes in its first line is none of
// them. Of a function berth does not know what its library says.
func (s *session) mayReplicate(cmd *router.Command, args [][]byte) bool {
	if cmd.Is(router.Exec) {
		return s.txn != nil && s.queuedMayReplicate()
	}
	if cmd.Is(router.Replicates) {
		return !s.writesNothing(cmd, args)
	}
	return cmd.Flags.Has(router.Write)
}

// writesNothing reports whether a request runs a script whose first line says no-writes.
func (s *session) writesNothing(cmd *router.Command, args [][]byte) bool {
	var body []byte
	switch {
	case cmd.Is(router.TakesCode):
		body = args[1]
	case cmd.Is(router.BySHA):
		sha, _ := parseSHA(args[1])
		if sc, _ := s.loop.srv.scripts.find(sha, ""); sc != nil {
			body = sc.body
		}
	}
	line, _, _ := bytes.Cut(body, []byte("\n"))
	if !bytes.HasPrefix(line, []byte("#!")) {
		return false
	}
	for word := range bytes.FieldsSeq(line) {
		if flags, ok := bytes.CutPrefix(word, []byte("flags=")); ok && slices.Contains(strings.Split(string(flags), ","), "no-writes") {
			return true
		}
	}
	return false
}

// queuedMayReplicate is mayReplicate for what was queued since MULTI.
func (s *session) queuedMayReplicate() bool {
	p := s.loop.parser()
	defer s.loop.dropParser(p)
	for rest := s.txn.bytes; len(rest) > 0; {
		n, err := p.ParseAll(rest, s.loop.srv.limits(true))
		if err != nil || n == 0 {
			return true // never so: berth has written these bytes, or has parsed them before
		}
		if cmd, err := s.loop.srv.table().Lookup(p.Args()); err == nil && !cmd.Is(router.Exec) && s.mayReplicate(cmd, p.Args()) {
			return true
		}
		p.Reset()
		rest = rest[n:]
	}
	return false
}

// maxPause keeps the end of a pause within what time can count: longer than anybody waits.
const maxPause = 100 * 365 * 24 * time.Hour

func pauseCommand(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	writesOnly := false
	if len(args) > 4 && !s.loop.srv.isValkeySince(8, 1) { // which ignores the words after the fourth
		return s.refuse(cmd, wrongSubcommand(args[1]))
	}
	if len(args) >= 4 {
		switch strings.ToLower(string(args[3])) {
		case "write":
			writesOnly = true
		case "all":
		default:
			return s.refuse(cmd, "ERR CLIENT PAUSE mode must be WRITE or ALL")
		}
	}
	ms, ok := parseInt(args[2])
	switch {
	case !ok:
		return s.refuse(cmd, "ERR timeout is not an integer or out of range")
	case ms < 0:
		return s.refuse(cmd, "ERR timeout is negative")
	}
	s.loop.srv.pauseClients(time.Duration(min(ms, maxPause.Milliseconds()))*time.Millisecond, writesOnly)
	return s.say(cmd, "OK")
}

func unpauseCommand(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	s.loop.srv.unpauseClients()
	return s.say(cmd, "OK")
}

// wrongSubcommand is what Redis says to a subcommand with words too many.
func wrongSubcommand(name []byte) string {
	return "ERR unknown subcommand or wrong number of arguments for '" + string(name) + "'. Try CLIENT HELP."
}
