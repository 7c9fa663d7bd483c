package pipe

import (
	"errors"
	"log/slog"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// A pipe can be stopped up: by a script that runs for long, by a module's command that waits, by a
// reply of many megabytes, by a connection that has died and says nothing. Whatever is sent on it
// waits for that. So berth asks the node on a second connection. When the node answers there, be it
// with an error, the second pipe takes what is sent from then on:
//
//	current ─┬─stopped──▶ PING on the second one ──any reply──┬─▶ the second one
//	         └─a script runs for HeldFor────────────────────────┘   is current
//
// A node that runs a script reads no connection for seconds, and then answers each with BUSY. It
// goes on to read nothing from the script's own connection. So berth does not ask a node that runs a
// script: what waits on the second one is answered in time, which may be dialled only then. If it is not
// connected in the end, what waits goes back to the first one.
//
// A node that is busy with a script refuses the SELECT of the second one. The refusal is an answer,
// too: the second one is current, and requests on it are answered with the node's words. It gives
// way as soon as the first one is not stopped up any more.
//
// Both change places again when the second one is stopped up and the first one owes nothing. There
// is no third one: what stops both up is the node itself, or clients that would stop up any number.
// A session that is owed replies by one pipe sends nothing on the other: see Set.Turns.

const (
	stoppedAfter  = time.Second     // a reply that is owed for longer stops a pipe up
	longReply     = 1 << 20         // so does a reply of more bytes, while it arrives
	probePatience = 5 * time.Second // for the PING; then the second connection is dialled anew
)

// errSilent is why a second pipe is closed.
var errSilent = errors.New("the node does not answer on it")

// pingCommand is the question to the node. Its reply says only that the node reads the connection.
var pingCommand = []byte("*1\r\n$4\r\nPING\r\n")

// stopped reports whether what is sent on the pipe would wait for long.
func (p *Pipe) stopped(now int64) bool {
	return p.link.State() == backend.Up && p.owed.Len() > 0 &&
		(p.asks(now) || p.runs(now))
}

// asks reports whether the pipe has been stopped up for so long that the node is asked.
func (p *Pipe) asks(now int64) bool {
	return p.long || now-p.owed.At(0).queuedAt > int64(stoppedAfter)
}

// runs reports whether a script seems to have been running on the pipe for long. Replies to requests
// before it may be held back until it ends.
func (p *Pipe) runs(now int64) bool {
	return p.owed.Len() > 0 && p.heldFor(now) >= int64(HeldFor) && p.hasScript()
}

// lookedThrough is how many of the oldest requests are looked through for a script.
const lookedThrough = 64

// hasScript reports whether a script is among the oldest requests.
func (p *Pipe) hasScript() bool { return p.script() >= 0 }

// script is the place of the first script among the oldest requests, -1 if there is none.
func (p *Pipe) script() int {
	if isScript := p.set.pipes.IsScript; isScript != nil {
		for i := range min(p.owed.Len(), lookedThrough) {
			if isScript(p.owed.At(i).to) {
				return i
			}
		}
	}
	return -1
}

// heldFor is for how long the node has answered nothing on the pipe, though it owes a reply.
func (p *Pipe) heldFor(now int64) int64 {
	return now - max(p.heardAt, p.owed.At(0).queuedAt)
}

// HeldFor is for how long a reply keeps those after it waiting before OnHold hears of it.
const HeldFor = 50 * time.Millisecond

// checkHold reports a reply that keeps others waiting: for so long the node has said nothing.
func (p *Pipe) checkHold(now int64) {
	if p.owed.Len() < 2 || p.heldFor(now) < int64(HeldFor) {
		return
	}
	if onHold := p.set.pipes.OnHold; onHold != nil && p.link.State() == backend.Up {
		onHold(p.owed.At(0).to)
	}
}

// haveSecond sees to it that there is a second pipe.
func (p *Pipe) haveSecond() {
	if p.second == nil {
		p.second = &Pipe{set: p.set, link: backend.NewLink(p.set.kind(), p.Addr()), second: p, retired: p.retired, figures: p.figures}
	}
}

// Scripted is the word of who has sent a script: the pipe is passed by when it has run for HeldFor. The
// loop's ticks come later.
func (p *Pipe) Scripted() {
	if p.looksAfter || p.link.State() == backend.Down || p.set.byAddr[p.Addr()] != p {
		return
	}
	p.looksAfter = true
	loop := p.set.pipes.loop
	time.AfterFunc(HeldFor, func() {
		loop.Post(func() {
			p.looksAfter = false
			switch {
			case p.link.State() != backend.Up || p.owed.Len() == 0:
			case p.stopped(loop.Now()):
				p.relieve()
			case p.hasScript():
				p.Scripted()
			}
		})
	})
}

// relieve asks the node on the second pipe, if a current pipe has none that is stopped up as well. A
// node that runs a script is not asked.
func (p *Pipe) relieve() {
	if p.probing || p.leaving || p.set.byAddr[p.Addr()] != p || p.set.identity.Tracks {
		return
	}
	p.haveSecond()
	switch runs := p.runs(p.set.pipes.loop.Now()); {
	case p.second.owed.Len() > 0:
	case runs && p.second.begins():
		p.passBy()
	case p.asks(p.set.pipes.loop.Now()):
		p.probing = p.second.Send(pingCommand, 1, (*probe)(p)) == nil
	}
}

// begins reports whether the pipe is connected, or may come to be.
func (p *Pipe) begins() bool {
	p.Ready()
	return p.link.State() != backend.Down
}

// probe is a current pipe as the Receiver of what the node says on the second one.
type probe Pipe

// Reply learns that the node reads the second one.
func (b *probe) Reply(_, _ []byte, _ int) {
	(*Pipe)(b).passBy()
}

// Lost learns that the node refuses the second one because it is busy. Anything else leaves all as
// it is, and the next tick asks again.
func (b *probe) Lost(err *backend.LostError, _ []byte) {
	b.probing = false
	if err.IsBusy() {
		(*Pipe)(b).passBy()
	}
}

// passBy has the two pipes change places, unless the current one is well again.
func (p *Pipe) passBy() {
	p.probing = false
	ps := p.set.pipes
	if now := ps.loop.Now(); p.set.byAddr[p.Addr()] == p && p.stopped(now) {
		slog.Debug("pipe passed by", "node", p.Addr(), "owed", p.owed.Len(), "oldest_ms", (now-p.owed.At(0).queuedAt)/int64(time.Millisecond))
		ps.stats.Passed++
		p.giveWay()
		p.handOver()
	}
}

// Mover is a Receiver whose request may be run twice, and later than it was sent, if Move says so: the
// earlier reply is swallowed.
type Mover interface {
	backend.Receiver
	Move() bool
}

// handOver sends on the second pipe, which has taken the place of p, what was sent on p after a script
// and may be: else it would wait for the end of the script, which may have none.
func (p *Pipe) handOver() {
	script := p.script()
	if script < 0 {
		return
	}
	for i := script + 1; i < p.owed.Len(); i++ {
		place := p.owed.At(i)
		m, moves := place.to.(Mover)
		if moves && place.left == 1 && m.Move() && p.second.Send(place.request.bytes(), 1, place.to) == nil {
			place.to = swallow{}
		}
	}
}

// wellAgain returns the pipe that was passed by, if it is well again while p, which took its place,
// is down. It is the current one again then.
func (p *Pipe) wellAgain() *Pipe {
	q := p.second
	if q == nil || q.link.State() != backend.Up || q.stopped(p.set.pipes.loop.Now()) {
		return nil
	}
	if p.set.byAddr[p.Addr()] == p {
		p.giveWay()
	}
	return q
}

// heir returns the pipe that was passed by, for what p could not send because p did not connect. It is
// the current one again then. A node that is busy refuses p, and what it says is the answer.
func (p *Pipe) heir(why *backend.LostError) *Pipe {
	q := p.second
	if q == nil || q.link.State() != backend.Up || why.IsBusy() || p.set.byAddr[p.Addr()] != p {
		return nil
	}
	p.giveWay()
	return q
}

// giveWay makes the second pipe the current one.
func (p *Pipe) giveWay() {
	p.set.byAddr[p.Addr()] = p.second
	p.set.forget()
	p.set.turns++
	p.second.turn = p.set.turns
}

// tickSecond gives up a PING that is not answered, and on a pipe that was passed by the replies
// that no client waits for. A second pipe that has been idle for long is closed.
func (p *Pipe) tickSecond(now int64) {
	q := p.second
	if q == nil {
		return
	}
	switch {
	case p.probing && now-q.owed.At(0).queuedAt > int64(probePatience),
		q.owed.Len() > 0 && q.expired == q.owed.Len():
		q.end(errSilent)
	case q.idle(now):
		p.dropSecond(backend.ErrRetired)
	}
}

// dropSecond closes the second pipe.
func (p *Pipe) dropSecond(why error) {
	if q := p.second; q != nil {
		p.second = nil
		q.close(why)
	}
}
