package main

import (
	"bytes"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// ownInExec is a queued command that berth answers itself. The node receives nothing in its place:
// there is no command that every user may run and that does nothing.
// SELECT, AUTH, HELLO and CLIENT TRACKING are sent to the node as well, because they change the
// meaning of the commands after them; berth then makes of the client what the node has agreed to.
type ownInExec struct {
	at   int // its place among the queued requests
	cmd  *router.Command
	raw  []byte
	args [][]byte
}

func newOwnInExec(at int, cmd *router.Command, raw []byte, args [][]byte) ownInExec {
	c := ownInExec{at: at, cmd: cmd, raw: bytes.Clone(raw)}
	for _, a := range args {
		c.args = append(c.args, bytes.Clone(a))
	}
	return c
}

// held is how many bytes berth holds for it.
func (c *ownInExec) held() int {
	return 2*len(c.raw) + int(unsafe.Sizeof(*c)) + cap(c.args)*int(unsafe.Sizeof(c.raw))
}

// passOn hands the node's reply on.
func passOn(_ *session, _ *ownInExec, reply, out []byte) []byte { return append(out, reply...) }

// onNode reports whether the node gets the request, too.
func (s *session) onNode(c *ownInExec) bool { return s.own(c.cmd).inExec != nil }

// hasPartIn reports whether berth has a part in the command when it stands in a transaction.
func (s *session) hasPartIn(cmd *router.Command) bool {
	return cmd.Way == router.Pinned || s.answersItself(cmd) && !s.own(cmd).nodeInExec
}

// pauseForExec has no further request taken until a transaction's reply, if berth has a part in it:
// what it runs may change what requests mean, and a node may have to be asked whether the user may
// run it. An EVALSHA after it may need a script of its EVALs.
func (s *session) pauseForExec(b *blob) {
	if len(b.own) > 0 || len(b.evals) > 0 {
		s.pauseFor(pauseDraining)
	}
}

// execReply is EXEC's reply while it is put together from the node's answers and berth's own. A
// command that takes time runs as a request after EXEC, and its reply is taken out of the queue
// again:
//
//	queue: EXEC ◀─ CLIENT LIST … its reply is parked ─▶ into EXEC's, and on to the next place
//
// A client may queue a million commands with long replies: they are run in slices, and what they
// have answered counts as output.
//
// Owned by the session's loop. The session takes no request until the reply is complete.
type execReply struct {
	s       *session
	r       *request // EXEC
	rest    []byte   // the node's replies from place at on
	out     []byte
	at, n   int
	own     int         // bytes that berth holds for the locals
	weighed int         // bytes of out that the session's weight has grown by
	locals  []ownInExec // from place at on
	begun   bool        // the local at this place has been run: its reply is awaited
	running bool        // run is at work: what it calls may answer at once
	mute    bool        // CLIENT REPLY, as it stands at this place
}

// assemble ends an EXEC with the node's reply and berth's own answers.
func (b *blob) assemble(r *request, reply []byte) {
	s := r.s
	if len(b.own) == 0 || reply[0] != '*' || bytes.HasPrefix(reply, []byte("*-")) {
		r.done(reply)
		return
	}
	head := bytes.IndexByte(reply, '\n') + 1
	p := &execReply{s: s, r: r, rest: slices.Clone(reply[head:]), n: b.n, locals: b.own, own: b.held, mute: r.mute}
	if !p.mute {
		p.out = codec.AppendArray(nil, b.n)
	}
	s.execReply = p
	s.waiting-- // EXEC, so that only those before and after it count
	p.run()
}

// run goes on until a local has to wait.
func (p *execReply) run() {
	s := p.s
	if p.running {
		return
	}
	p.running = true
	for until := time.Now().Add(execSlice); p.at < p.n && !s.closed; {
		if time.Now().After(until) {
			p.running = false
			p.goOnLater()
			return
		}
		if len(p.locals) > 0 && p.locals[0].at == p.at {
			if !p.local(&p.locals[0]) {
				p.running = false
				return
			}
			p.locals = p.locals[1:]
		} else if reply := p.next(); !p.mute {
			p.out = append(p.out, reply...)
		}
		p.at++
	}
	if s.closed { // gone has dropped EXEC
		return
	}
	s.execReply = nil
	s.endAssembly()
	s.waiting++
	p.r.mute = false // p.out is what is left of it
	p.r.done(p.out)
}

// execSlice is how long a loop puts one EXEC's reply together before it looks at the other clients.
const execSlice = 2 * time.Millisecond

// goOnLater has the assembly go on when the loop has visited all others that are ready, unless the
// reply is longer than the client may leave unread.
func (p *execReply) goOnLater() {
	s := p.s
	if limit := s.loop.srv.outputLimit(s).Hard; limit > 0 && len(p.out) > limit {
		s.loop.stats.Limit(telemetry.LimitOutputBuffer)
		s.kill(telemetry.OutputHardLimit, "bytes", len(p.out), "limit", limit)
		return
	}
	s.grew(len(p.out) - p.weighed)
	p.weighed = len(p.out)
	s.beginAssembly()
	if !s.isReady {
		s.goOnLater()
	}
}

// held is how many bytes berth holds for it.
func (p *execReply) held() int { return cap(p.rest) + cap(p.out) + p.own }

// next takes the node's next reply.
func (p *execReply) next() (reply []byte) {
	var scanner codec.ReplyScanner
	n, err := scanner.Scan(p.rest)
	if err != nil || n == 0 { // an error within the reply goes on after its line
		return shortReply
	}
	reply, p.rest = p.rest[:n], p.rest[n:]
	return reply
}

var shortReply = []byte("-ERR berth: the node's reply to EXEC is not whole\r\n")

// local answers the request at this place; false when it has to wait.
func (p *execReply) local(c *ownInExec) bool {
	s := p.s
	out := p.out
	if refusal, ready := p.judge(c); !ready {
		return false
	} else if refusal != "" {
		return p.say(codec.AppendError(out, refusal))
	}
	switch {
	case p.begun:
	case s.onNode(c):
		return p.say(s.own(c.cmd).inExec(s, c, p.next(), out))
	case c.cmd.Is(router.Monitor):
		return p.say(codec.AppendError(out, "ERR MONITOR isn't allowed for DENY BLOCKING client"))
	case c.cmd.Way == router.Refused || s.own(c.cmd).answer != nil:
		out = s.runLocal(c.cmd, c.args, out)
		s.monitored(c.cmd, c.args)
		return p.say(out)
	default:
		s.muteThis = p.mute
		s.beginAssembly()
		if p.begun = p.start(c); !p.begun {
			return false
		}
		s.monitored(c.cmd, c.args)
		p.mute = p.mute && s.muteThis || s.muteAll // CLIENT REPLY has changed them
		s.muteNext = min(s.muteNext, 1)            // EXEC comes after it, too
	}
	if s.waiting > 0 {
		return false
	}
	p.begun = false
	p.collect()
	return true
}

// judge is session.judge for a queued command: since then the rules may have changed, or the user.
func (p *execReply) judge(c *ownInExec) (refusal string, ready bool) {
	s := p.s
	if p.begun || s.onNode(c) || !s.answersItself(c.cmd) || c.cmd.Flags.Has(router.NoAuth) {
		return "", true
	}
	s.beginAssembly() // it may have to wait
	refusal, ready = s.judge(c.cmd, c.args)
	if strings.HasPrefix(refusal, "NOPERM ") {
		refusal = errRulesChanged
	}
	return refusal, ready
}

// errRulesChanged is what Redis says in EXEC for a command that the user may no longer run.
const errRulesChanged = "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. " +
	"This command is no longer allowed for the following reason: no permission to execute the command or subcommand"

func (p *execReply) start(c *ownInExec) bool {
	if c.cmd.Way == router.Pinned {
		return p.s.subscribe(c.cmd, c.raw, c.args)
	}
	return p.s.own(c.cmd).run(p.s, c.cmd, c.raw, c.args)
}

// say takes what out has become, unless the client does not want to hear it.
func (p *execReply) say(out []byte) bool {
	if !p.mute {
		p.out = out
	}
	return true
}

// collect takes the replies that are parked after EXEC.
func (p *execReply) collect() {
	s := p.s
	for r := p.r.next; r != nil; r = p.r.next {
		p.out = append(p.out, r.reply...)
		r.dropReply()
		p.r.next = r.next
		s.queued--
		s.owed -= r.cost
		s.loop.dropRequest(r)
	}
	s.tail = p.r
}

// turnedDB follows a SELECT.
func turnedDB(s *session, c *ownInExec, reply, out []byte) []byte {
	if n, ok := parseInt(c.args[1]); ok && reply[0] == '+' {
		id := s.pipes.Identity()
		id.DB = int(n)
		s.becomeTurned(id)
	}
	return append(out, reply...)
}

// turnedHello follows a HELLO.
func turnedHello(s *session, c *ownInExec, reply, out []byte) []byte {
	h := s.parseHello(c.args)
	if h.withName && (reply[0] != '-' || h.wrong != "") {
		s.named().name = h.name
	}
	if reply[0] == '-' {
		return append(out, reply...)
	}
	id := s.pipes.Identity()
	id.RESP = h.resp
	s.becomeTurned(id)
	return s.appendHello(out)
}

// becomeTurned is become for a client whose lease has been turned already, by its own words.
func (s *session) becomeTurned(id backend.Identity) {
	if s.stay != nil {
		s.stay.identity = id
	}
	s.become(id)
}
