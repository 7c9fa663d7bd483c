package main

import (
	"bytes"
	"crypto/sha1"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// A node knows the scripts that were sent to it, and a Cluster has many nodes. berth makes them
// look like one Redis: it remembers the scripts that nodes have accepted, and gives a node that
// lacks one the script before it sends the EVALSHA, or the transaction in which the EVALSHA stands:
//
//	EVALSHA ─▶ in the book? ─┬─ no ─────────────────────────────────────────────────────▶ node
//	                         └─ yes ─▶ at the node? ─┬─ yes ────────────────────────────▶ node
//	                                                 └─ no ─▶ SCRIPT LOAD, hold ··· answer ─▶ node
//
// No request is sent a second time because of NOSCRIPT, for a script chooses the words of its
// errors: one that has run and says NOSCRIPT would run twice. A NOSCRIPT goes to the client as it
// is. It only has berth load the script anew before the next EVALSHA.
//
// A node is believed to have a script from its SCRIPT LOAD or EVAL on, until a pipe to it is lost.
//
// berth loads as the user of the backend's URL, so that a user who may run EVALSHA alone finds what
// another one has loaded, as in one Redis; where that user may not, as the client's own. If neither
// may, the node's NOSCRIPT is the reply.

// runScript sends an EVAL or EVALSHA on its way.
func (s *session) runScript(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	shard, text := s.place(t, cmd, args)
	if text != "" {
		return s.refuse(cmd, text)
	}
	addr := t.Shards()[shard].Primary
	send := func() bool { return s.share(cmd, raw, args) }
	if read, away := s.awayRead(cmd, t, shard, args); away {
		if read.refusal != "" {
			return s.refuse(cmd, read.refusal)
		}
		addr = read.pipe.Addr()
		send = func() bool { return s.sendAway(cmd, read, raw) }
	}
	if !cmd.Is(router.BySHA) {
		return s.evaluate(addr, args, send)
	}
	if sha, ok := parseSHA(args[1]); ok && !s.haveScripts(addr, sha) {
		return false
	}
	return send()
}

// evaluate sends an EVAL, from whose reply berth learns that the node has the script.
func (s *session) evaluate(addr string, args [][]byte, send func() bool) bool {
	book := s.loop.srv.scripts
	body := args[1]
	sc, there := book.same(body, addr)
	if there || len(body) > maxScript {
		return send()
	}
	before := s.tail
	if !send() {
		return false
	}
	r := s.tail
	if r == before || r == nil || r.state != requestWaiting { // no node owes a reply
		return true
	}
	e := &evaluation{script: sc, addr: addr, epoch: book.epoch()}
	if sc == nil {
		e.body = bytes.Clone(body)
		s.owesScript = true
	}
	r.ends = e
	return true
}

// evaluation is an EVAL of a script that the node is not known to have. It is an ender.
type evaluation struct {
	script *knownScript // nil: not known yet
	body   []byte       // of an unknown one
	addr   string       // where it was sent
	epoch  int64
}

func (*evaluation) replies() int  { return 1 }
func (*evaluation) queued([]byte) {}
func (*evaluation) whole() bool   { return false }
func (*evaluation) again() bool   { return true }

// end gives the reply to the client.
func (e *evaluation) end(r *request, reply []byte) {
	if reply[0] != '-' { // an error may say that there is no such script, or that the user may not
		e.accepted(r)
	}
	r.done(reply)
}

// accepted remembers that a node has run the script.
func (e *evaluation) accepted(r *request) {
	book := r.s.loop.srv.scripts
	if e.script == nil {
		e.script = book.accept(e.body, e.epoch)
	}
	if r.hops == 0 && r.piped { // else another node, or one to which there may be no pipe, has run it
		book.arrived(e.script, e.addr, e.epoch)
	}
}

// haveScripts reports whether a request may be sent that needs these scripts at a node: the node
// has those that berth knows, or cannot be given them. Otherwise the session is on hold.
func (s *session) haveScripts(addr string, shas ...scriptSHA) (ready bool) {
	last, unknown := s.bringScripts(addr, shas)
	switch {
	case last != nil:
		last.wait(s)
		return s.hold(pauseLoading)
	case unknown && s.owesScript && s.waiting > 0:
		return s.hold(pauseDraining)
	}
	return true
}

// bringScripts loads what a node is not known to have. last is the load that ends last, nil when
// there is none; unknown reports whether berth does not know one of the scripts.
func (s *session) bringScripts(addr string, shas []scriptSHA) (last *scriptLoad, unknown bool) {
	for _, sha := range shas {
		sc, there := s.loop.srv.scripts.find(sha, addr)
		unknown = unknown || sc == nil
		if sc == nil || there {
			continue
		}
		if load := s.loadScript(sc, addr); load != nil {
			last = load
		}
	}
	s.owesScript = s.owesScript && s.waiting > 0
	return last, unknown
}

// scriptLoads are the loads of one loop. Owned by the loop.
type scriptLoads struct {
	underWay map[scriptPlace]*scriptLoad
	failed   map[scriptPlace]int64 // when, unix nanoseconds
}

// scriptPlace is a script that a user's client needs at a node.
type scriptPlace struct {
	sha  scriptSHA
	addr string
	user string
}

const (
	// loadAgain is how long a load that has failed is not repeated for the same user.
	loadAgain      = time.Second
	maxFailedLoads = 1 << 10
)

// scriptLoad is a SCRIPT LOAD of berth's. It is a backend.Receiver.
type scriptLoad struct {
	l       *loop
	s       *session // whose request began it
	script  *knownScript
	place   scriptPlace
	epoch   int64
	own     bool // as the client's own user
	waiting []*session
}

// loadScript has a node load a script, unless that has failed lately: then it returns nil. Requests
// of one user share a load.
func (s *session) loadScript(sc *knownScript, addr string) *scriptLoad {
	w := &s.loop.scripts
	place := scriptPlace{sc.sha, addr, s.pipes.Identity().User}
	if load := w.underWay[place]; load != nil {
		return load
	}
	if at, failed := w.failed[place]; failed && s.loop.clock-at <= int64(loadAgain) {
		return nil
	}
	load := &scriptLoad{l: s.loop, s: s, script: sc, place: place, epoch: s.loop.srv.scripts.epoch()}
	set := s.loop.pipes.Attach(s.loop.srv.asker(s.pipes.Identity().DB))
	defer set.Detach()
	if !load.send(set) && !load.sendAsClient() {
		load.fail()
		return nil
	}
	if w.underWay == nil {
		w.underWay = map[scriptPlace]*scriptLoad{}
	}
	w.underWay[place] = load
	return load
}

// wait has a session go on when the load ends. Those that have closed meanwhile are dropped before
// more memory is taken for them: a node that stands still must not gather them.
func (load *scriptLoad) wait(s *session) {
	if len(load.waiting) == cap(load.waiting) {
		load.waiting = slices.DeleteFunc(load.waiting, func(s *session) bool { return s.closed })
	}
	load.waiting = append(load.waiting, s)
}

// send reports whether an answer will come.
func (load *scriptLoad) send(set *pipe.Set) bool {
	return set.Node(load.place.addr).Send(load.script.load(), 1, load) == nil
}

// sendAsClient loads as the client's own user, once. The user of the backend's URL may not.
func (load *scriptLoad) sendAsClient() bool {
	s := load.s
	if load.own || s.closed || s.pipes.Identity().User != load.place.user {
		return false
	}
	load.own = true
	return load.send(s.pipes)
}

// Reply takes the node's answer.
func (load *scriptLoad) Reply(reply, _ []byte, _ int) {
	switch {
	case load.script.sha.isLoaded(reply):
		load.l.srv.scripts.arrived(load.script, load.place.addr, load.epoch)
	case load.sendAsClient():
		return
	default:
		load.fail()
	}
	load.end()
}

// Lost learns that no answer comes.
func (load *scriptLoad) Lost(*backend.LostError, []byte) {
	if !load.sendAsClient() {
		load.fail()
		load.end()
	}
}

// fail remembers that the script cannot be loaded.
func (load *scriptLoad) fail() {
	w := &load.l.scripts
	if w.failed == nil || len(w.failed) >= maxFailedLoads {
		w.failed = map[scriptPlace]int64{}
	}
	w.failed[load.place] = load.l.clock
}

// end has the requests dispatched again that wait for the script.
func (load *scriptLoad) end() {
	delete(load.l.scripts.underWay, load.place)
	for _, s := range load.waiting {
		if !s.closed {
			s.resumeFrom(pauseLoading)
		}
	}
	load.waiting = nil
}

// sendScripts puts the scripts that a request needs on a pipe on which the request comes next: it
// was redirected, or is sent again after a loss, and must not wait, because later ones of the same
// client would overtake it. They are loaded as the client's user, and if that may not, the node
// says NOSCRIPT.
func (r *request) sendScripts(to *pipe.Pipe, sent []byte) {
	book := r.s.loop.srv.scripts
	for _, sha := range r.scriptsIn(sent) {
		if sc, there := book.find(sha, to.Addr()); sc != nil && !there {
			ahead := &scriptLoad{l: r.s.loop, s: r.s, script: sc, place: scriptPlace{sc.sha, to.Addr(), ""}, epoch: book.epoch(), own: true}
			_ = to.Send(sc.load(), 1, (*scriptAhead)(ahead)) // the request will fail alike
		}
	}
}

// scriptAhead is a load on whose end no request waits. It is a backend.Receiver.
type scriptAhead scriptLoad

// Reply takes the node's answer.
func (a *scriptAhead) Reply(reply, _ []byte, _ int) {
	if a.script.sha.isLoaded(reply) {
		a.l.srv.scripts.arrived(a.script, a.place.addr, a.epoch)
	}
}

// Lost leaves what is known of the node.
func (*scriptAhead) Lost(*backend.LostError, []byte) {}

// scriptsIn are the scripts that a request's bytes name by their SHA1.
func (r *request) scriptsIn(sent []byte) []scriptSHA {
	if b := r.blob(); b != nil {
		return b.scripts
	}
	if !r.cmd.Is(router.BySHA) {
		return nil
	}
	p := r.s.loop.parser()
	defer r.s.loop.dropParser(p)
	if n, err := p.ParseAll(sent, r.s.loop.srv.limits(true)); n == 0 || err != nil || len(p.Args()) < 2 {
		return nil
	}
	sha, ok := parseSHA(p.Args()[1])
	if !ok {
		return nil
	}
	return []scriptSHA{sha}
}

// noScript begins the error of a node that lacks the script, and perhaps that of a script.
var noScript = []byte("-NOSCRIPT")

// doubtScript takes an error that is no redirect. After NOSCRIPT the node is not believed to have
// the script any more.
func (r *request) doubtScript(reply, sent []byte) {
	if !bytes.HasPrefix(reply, noScript) {
		return
	}
	for _, sha := range r.scriptsIn(sent) {
		r.s.loop.srv.scripts.doubt(sha)
	}
}

// evalInExec is a queued EVAL of a script that is not known yet.
type evalInExec struct {
	at    int // its place among the requests that the node gets
	body  []byte
	epoch int64
}

// maxScriptsNamed is for how many scripts of one request, or transaction, berth looks whether a
// node has them.
const maxScriptsNamed = 1 << 10

// maxEvalPlace bounds how many of EXEC's replies are looked through for those of EVALs.
const maxEvalPlace = 1 << 10

// takesScript reports whether the next queued request is about scripts, and may go to the node of
// the transaction alone: berth gives the others what was loaded there when it is needed, as after
// EVAL.
func (t *transaction) takesScript(cmd *router.Command, args [][]byte) bool {
	switch {
	case cmd.Is(router.LoadsScript):
		return t.sent < maxEvalPlace && len(args[2]) <= maxScript
	case cmd.Is(router.FindsScripts):
		return len(t.scripts)+len(args[2:]) <= maxScriptsNamed
	}
	return false
}

// noteScript notes what the next queued request has to do with scripts.
func (t *transaction) noteScript(book *scriptBook, cmd *router.Command, args [][]byte) {
	switch {
	case cmd.Is(router.BySHA):
		t.needScript(args[1])
	case cmd.Is(router.FindsScripts):
		for _, word := range args[2:] {
			t.needScript(word)
		}
	case cmd.Is(router.LoadsScript):
		t.noteEval(book, args[2])
	case cmd.Way == router.Script:
		t.noteEval(book, args[1])
	case cmd.Is(router.FlushesScripts):
		t.flushes = true
	}
}

// needScript notes that the node needs a script before EXEC.
func (t *transaction) needScript(word []byte) {
	if sha, ok := parseSHA(word); ok && len(t.scripts) < maxScriptsNamed && !slices.Contains(t.scripts[max(0, len(t.scripts)-8):], sha) {
		t.scripts = append(t.scripts, sha)
	}
}

// noteEval notes that the next queued request gives the node a script.
func (t *transaction) noteEval(book *scriptBook, body []byte) {
	if t.sent >= maxEvalPlace || len(body) > maxScript {
		return
	}
	if sc, _ := book.same(body, ""); sc == nil {
		t.evals = append(t.evals, evalInExec{t.sent, bytes.Clone(body), book.epoch()})
		t.held += len(body)
	}
}

// learnScripts learns from EXEC's reply.
func (b *blob) learnScripts(book *scriptBook, reply []byte) {
	if reply[0] != '*' {
		return
	}
	if len(b.scripts) > 0 && bytes.Contains(reply, noScript) {
		for _, sha := range b.scripts {
			book.doubt(sha)
		}
	}
	if b.flushes {
		book.forget()
		return
	}
	rest := reply[bytes.IndexByte(reply, '\n')+1:]
	for at := 0; len(b.evals) > 0; at++ {
		var scanner codec.ReplyScanner
		n, err := scanner.Scan(rest)
		if err != nil || n == 0 { // EXEC has answered nil
			return
		}
		if e := b.evals[0]; e.at == at {
			if rest[0] != '-' {
				book.accept(e.body, e.epoch)
			}
			b.evals = b.evals[1:]
		}
		rest = rest[n:]
	}
}

// manageScripts runs SCRIPT LOAD, EXISTS and FLUSH.
func (s *session) manageScripts(cmd *router.Command, raw []byte, args [][]byte) bool {
	switch {
	case cmd.Is(router.FindsScripts):
		return s.findScripts(cmd, raw, args)
	case cmd.Is(router.LoadsScript) && len(args[2]) > maxScript:
		return s.fanOut(cmd, raw, args)
	case s.waiting > 0:
		return s.hold(pauseDraining)
	}
	t := s.loop.srv.nodes.Topology()
	if len(t.Shards()) == 0 {
		return s.refuse(cmd, errNotServed)
	}
	epoch := s.loop.srv.scripts.epoch()
	var body []byte
	if cmd.Is(router.LoadsScript) {
		body = bytes.Clone(args[2])
	}
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	s.askPrimaries(raw, len(t.Shards()), func(answers [][]byte) {
		if body == nil {
			s.loop.scriptsFlushed(answers)
		} else {
			s.loop.scriptLoaded(body, epoch, t, answers)
		}
		reply := firstError(answers)
		if reply == nil {
			reply = answers[0]
		}
		r.done(reply)
	})
	return true
}

// scriptLoaded takes the answers of all primaries to SCRIPT LOAD.
func (l *loop) scriptLoaded(body []byte, epoch int64, t *router.Topology, answers [][]byte) {
	book := l.srv.scripts
	if firstError(answers) != nil || !scriptSHA(sha1.Sum(body)).isLoaded(answers[0]) {
		return
	}
	sc := book.accept(body, epoch)
	for i, answer := range answers {
		if sc.sha.isLoaded(answer) {
			book.arrived(sc, t.Shards()[i].Primary, epoch)
		}
	}
}

// scriptsFlushed takes the answers of all primaries to SCRIPT FLUSH. If one has refused, the others
// may have forgotten their scripts.
func (l *loop) scriptsFlushed(answers [][]byte) {
	if firstError(answers) == nil {
		l.srv.scripts.forget()
	} else {
		l.srv.scripts.forgetNodes()
	}
}

// findScripts runs SCRIPT EXISTS. The nodes are given the scripts that berth knows before they are
// asked: what is there for EVALSHA is there for SCRIPT EXISTS.
func (s *session) findScripts(cmd *router.Command, raw []byte, args [][]byte) bool {
	if len(args) > maxScriptsNamed {
		return s.fanOut(cmd, raw, args)
	}
	var shas []scriptSHA
	for _, word := range args[2:] {
		if sha, ok := parseSHA(word); ok {
			shas = append(shas, sha)
		}
	}
	for _, shard := range s.loop.srv.nodes.Topology().Shards() {
		if !s.haveScripts(shard.Primary, shas...) {
			return false
		}
	}
	return s.fanOut(cmd, raw, args)
}
