package pipe

import (
	"bytes"

	"github.com/berth-proxy/berth/backend"
)

// A client's AUTH is verified on connections that carry AUTHs and nothing else: a reply depends on
// its AUTH alone, so all clients can share them. No other command must run there: it would run as
// the user of the latest AUTH.
//
// Such a connection carries one AUTH at a time. A node that refuses an AUTH while the reply before
// is not written yet leaves the refusal out (seen of Redis 8.0, Valkey 8.0 and 8.1). Every AUTH
// after it would get the reply to the next one, and a wrong password would be let in. So what comes
// meanwhile takes another connection, and waits when there are maxVerifiers:
//
//	Verify ─▶ a connection that owes nothing ─▶ reply ─▶ the oldest that waits for this node
//	   └────▶ waiting ────────────────────────────────────────┘

// maxVerifiers is how many AUTHs a loop has under way at one node.
const maxVerifiers = 8

// verifier is the identity of such a connection. The database says which one it is.
func verifier(i int) backend.Identity { return backend.Identity{DB: -3 - i} }

// Applicant is who waits for the reply to an AUTH.
type Applicant interface {
	backend.Receiver
	// Left reports that nobody waits any more. An AUTH that is not sent then is forgotten, without
	// Lost.
	Left() bool
}

// waitingAuth is an AUTH for which there is no connection.
type waitingAuth struct {
	request []byte
	to      Applicant
}

// waitingAuths is the AUTHs that wait for one node. Anybody can send one and leave, again and again,
// while the node is silent: so there are never more than sweepMin, or two for each client that is
// there.
type waitingAuths struct {
	backend.Ring[waitingAuth]
	sweepAt int // how many there may be before those whose clients have left are looked for
}

// sweepMin is the least sweepAt.
const sweepMin = 64

func (q *waitingAuths) push(w waitingAuth) {
	if q.Len() >= max(q.sweepAt, sweepMin) {
		for range q.Len() {
			if old := q.Pop(); !old.to.Left() {
				q.Push(old)
			}
		}
		q.sweepAt = 2 * q.Len()
	}
	q.Push(w)
}

// Verify asks the node at addr whether it accepts an AUTH. The bytes are copied. An error means
// that nothing was sent and Lost will not be called.
func (ps *Pipes) Verify(addr string, request []byte, to Applicant) *backend.LostError {
	if p := ps.freeVerifier(addr); p != nil {
		return p.Send(request, 1, &verification{p, to})
	}
	q := ps.waiting[addr]
	if q == nil {
		q = &waitingAuths{}
		ps.waiting[addr] = q
	}
	q.push(waitingAuth{bytes.Clone(request), to})
	return nil
}

// freeVerifier returns a connection on which nothing is owed; nil: there are maxVerifiers.
func (ps *Pipes) freeVerifier(addr string) *Pipe {
	for i := range maxVerifiers {
		if p := ps.unattached(verifier(i)).Node(addr); p.owed.Len() == 0 {
			return p
		}
	}
	return nil
}

// verifyNext sends what waits for the node, as far as there are connections.
func (ps *Pipes) verifyNext(addr string) {
	for q := ps.waiting[addr]; q != nil && q.Len() > 0; {
		p := ps.freeVerifier(addr)
		if p == nil {
			return
		}
		next := q.Pop()
		if next.to.Left() {
			continue
		}
		if err := p.Send(next.request, 1, &verification{p, next.to}); err != nil {
			next.to.Lost(err, next.request)
		}
	}
	delete(ps.waiting, addr)
}

// loseWaiting tells all who wait for the node that they wait in vain.
func (ps *Pipes) loseWaiting(addr string, why *backend.LostError) {
	q := ps.waiting[addr]
	delete(ps.waiting, addr)
	for q != nil && q.Len() > 0 {
		next := q.Pop()
		next.to.Lost(why, next.request)
	}
}

// verification is the one AUTH on a connection.
type verification struct {
	pipe *Pipe
	to   backend.Receiver
}

// Reply hands the node's answer on.
func (v *verification) Reply(reply, sent []byte, more int) {
	v.to.Reply(reply, sent, more)
	v.pipe.set.pipes.verifyNext(v.pipe.Addr())
}

// Lost gives up a connection on which the node is silent, for its place in the queue would keep the
// connection from being free, and those who wait for the same node.
func (v *verification) Lost(err *backend.LostError, sent []byte) {
	ps, addr := v.pipe.set.pipes, v.pipe.Addr()
	v.to.Lost(err, sent)
	if err.Timeout() {
		v.pipe.end(errSilent)
		ps.loseWaiting(addr, err)
		return
	}
	ps.verifyNext(addr)
}
