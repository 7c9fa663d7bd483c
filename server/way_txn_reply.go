package main

import (
	"bytes"
	"slices"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// localInBlob is a request of a transaction in which berth has a part. Mostly berth answers it alone: the node gets PING in
// its place. SELECT, AUTH, HELLO and CLIENT TRACKING the node gets, since they change what the requests behind them mean,
// and berth makes of the client what the node has agreed to.
type localInBlob struct {
	at   int // its place among the queued requests
	cmd  *router.Command
	raw  []byte
	args [][]byte
}

func newLocalInBlob(at int, cmd *router.Command, raw []byte, args [][]byte) localInBlob {
	c := localInBlob{at: at, cmd: cmd, raw: bytes.Clone(raw)}
	for _, a := range args {
		c.args = append(c.args, bytes.Clone(a))
	}
	return c
}

// passOn hands the node's reply on.
func passOn(_ *session, _ *localInBlob, reply, out []byte) []byte { return append(out, reply...) }

// onNode reports whether the node gets the request, too.
func (s *session) onNode(c *localInBlob) bool { return s.own(c.cmd).inExec != nil }

// hasPartIn tells whether berth has a part in the command when it stands in a transaction.
func (s *session) hasPartIn(cmd *router.Command) bool {
	return cmd.Way == router.Pinned || s.answersItself(cmd) && !s.own(cmd).nodeInExec
}

// pauseForExec has no further request taken until a transaction's reply, if it may change what requests mean.
func (s *session) pauseForExec(b *blob) {
	for i := range b.locals {
		if c := &b.locals[i]; s.own(c.cmd).answer == nil || s.onNode(c) {
			s.pauseFor(pauseDraining)
			return
		}
	}
}

// splicing is EXEC's reply being put together, from the node's and from berth's own answers. Those that take time run as
// requests behind EXEC, whose replies are taken out of the queue again:
//
//	queue: EXEC ◀─ CLIENT LIST … its reply is parked ─▶ into EXEC's, and on to the next place
//
// Owned by the session's loop; the session takes no request meanwhile.
type splicing struct {
	s       *session
	r       *request // EXEC
	rest    []byte   // the node's replies from place at on
	out     []byte
	at, n   int
	locals  []localInBlob // from place at on
	begun   bool          // the local at this place has been run: its reply is awaited
	running bool          // run is at work: what it calls may answer at once
	mute    bool          // CLIENT REPLY, as it stands at this place
}

// splice ends an EXEC with the node's reply and berth's own.
func (r *request) splice(reply []byte) {
	b, s := r.blob, r.s
	if len(b.locals) == 0 || reply[0] != '*' || bytes.HasPrefix(reply, []byte("*-")) {
		r.done(reply)
		return
	}
	head := bytes.IndexByte(reply, '\n') + 1
	p := &splicing{s: s, r: r, rest: slices.Clone(reply[head:]), n: b.n, locals: b.locals, mute: r.mute}
	if !p.mute {
		p.out = slices.Clone(reply[:head])
	}
	s.splicing = p
	s.waiting-- // EXEC, so that only those before and behind it count
	p.run()
}

// run goes on until a local has to wait.
func (p *splicing) run() {
	s := p.s
	if p.running {
		return
	}
	p.running = true
	for p.at < p.n && !s.closed {
		if len(p.locals) > 0 && p.locals[0].at == p.at {
			if !p.local(&p.locals[0]) {
				p.running = false
				return
			}
			p.locals = p.locals[1:]
			p.next()
		} else if reply := p.next(); !p.mute {
			p.out = append(p.out, reply...)
		}
		p.at++
	}
	s.splicing = nil
	s.endAssembly()
	s.waiting++
	p.r.mute = false // p.out is what is left of it
	p.r.done(p.out)
}

// next takes the node's next reply.
func (p *splicing) next() (reply []byte) {
	var scanner codec.ReplyScanner
	n, err := scanner.Scan(p.rest)
	if err != nil || n == 0 {
		return nil // never so: the reply was whole
	}
	reply, p.rest = p.rest[:n], p.rest[n:]
	return reply
}

// local answers the request at this place; false when it has to wait.
func (p *splicing) local(c *localInBlob) bool {
	s := p.s
	out := p.out
	switch {
	case p.begun:
	case s.onNode(c):
		rest := p.rest
		out = s.own(c.cmd).inExec(s, c, p.next(), out)
		p.rest = rest
		return p.say(out)
	case c.cmd.Is(router.Monitor):
		return p.say(codec.AppendError(out, "ERR MONITOR isn't allowed for DENY BLOCKING client"))
	case c.cmd.Way == router.Refused || s.own(c.cmd).answer != nil:
		return p.say(s.runLocal(c.cmd, c.args, out))
	default:
		s.muteThis = p.mute
		s.beginAssembly()
		if p.begun = p.start(c); !p.begun {
			return false
		}
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

func (p *splicing) start(c *localInBlob) bool {
	if c.cmd.Way == router.Pinned {
		return p.s.subscribe(c.cmd, c.raw, c.args)
	}
	return p.s.runOwn(p.s.own(c.cmd), c.cmd, c.raw, c.args)
}

// say takes what out has become, unless the client does not want to hear it.
func (p *splicing) say(out []byte) bool {
	if !p.mute {
		p.out = out
	}
	return true
}

// collect takes the replies that are parked behind EXEC.
func (p *splicing) collect() {
	s := p.s
	for r := p.r.next; r != nil; r = p.r.next {
		p.out = append(p.out, r.reply...)
		s.loop.drop(r.reply)
		p.r.next = r.next
		s.queued--
		s.loop.dropRequest(r)
	}
	s.tail = p.r
}

// turnedDB follows a SELECT.
func turnedDB(s *session, c *localInBlob, reply, out []byte) []byte {
	if n, ok := parseInt(c.args[1]); ok && reply[0] == '+' {
		id := s.pipes.Identity()
		id.DB = int(n)
		s.becomeTurned(id)
	}
	return append(out, reply...)
}

// turnedUser follows an AUTH.
func turnedUser(s *session, c *localInBlob, reply, out []byte) []byte {
	if reply[0] == '+' {
		id := s.pipes.Identity()
		id.User, id.Password = "", string(c.args[len(c.args)-1])
		if len(c.args) == 3 {
			id.User = string(c.args[1])
		}
		s.becomeTurned(id)
	}
	return append(out, reply...)
}

// turnedHello follows a HELLO.
func turnedHello(s *session, c *localInBlob, reply, out []byte) []byte {
	h := parseHello(c.args, s.resp())
	if h.withName && (reply[0] != '-' || h.wrong != "") {
		s.named().name = h.name
	}
	if reply[0] == '-' {
		return append(out, reply...)
	}
	id := s.pipes.Identity()
	id.RESP = h.resp
	if h.withAuth {
		id.User, id.Password = h.user, h.password
	}
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
