package backend

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"
)

// LinkState is how far a link has come.
//
//	Down ──Begin──▶ Dialing ──Opened──▶ Shaking ──Up──▶ Up
//	  ▲                │                   │            │
//	  └────────────────┴────── Lost ───────┴────────────┘
type LinkState uint8

const (
	Down    LinkState = iota // no connection
	Dialing                  // a goroutine connects
	Shaking                  // HELLO, AUTH, SELECT are sent
	Up
)

// linkMoves lists where each state leads.
var linkMoves = [...][]LinkState{Down: {Dialing}, Dialing: {Shaking, Down}, Shaking: {Up, Down}, Up: {Down}}

// Link is what pipes and feeds have in common: how a connection of a loop to a node begins, why it
// ended, and when it may begin again. The socket, and what travels on it, are its owner's.
//
// Owned by the event loop.
type Link struct {
	kind    string // "pipe" or "feed", for the log
	addr    string // of the node
	state   LinkState
	shake   int           // handshake replies to come
	retryAt int64         // not dialled again before, unix nanoseconds
	backOff time.Duration // of the latest failure
	lastErr *LostError
	lostAt  int64 // when lastErr was, unix nanoseconds
	since   int64 // when it went up, or down from there, unix nanoseconds; 0: it never was either
	told    bool  // the log says that it is up
}

// NewLink returns a link that is down. kind is its owner's in the log.
func NewLink(kind, addr string) Link { return Link{kind: kind, addr: addr} }

// The first and the longest pause before a node that failed is dialled again. Each failure doubles
// it and a random half is taken off, so that many links do not come back in one instant.
const (
	BackOffMin = 50 * time.Millisecond
	BackOffMax = 2 * time.Second
)

// Addr is the node's address.
func (k *Link) Addr() string { return k.addr }

// State is how far the link has come.
func (k *Link) State() LinkState { return k.state }

// MayBegin reports whether the link may be dialled now.
func (k *Link) MayBegin(now int64) bool { return k.state == Down && now >= k.retryAt }

// Err is why the link was lost last, and when, unix nanoseconds. nil: it never was.
func (k *Link) Err() (err *LostError, at int64) { return k.lastErr, k.lostAt }

// Since is when the link went up, or down from there, unix nanoseconds. 0: it never was either.
func (k *Link) Since() int64 { return k.since }

// move is the only write of a link's state.
func (k *Link) move(to LinkState) {
	if !slices.Contains(linkMoves[k.state], to) {
		panic("link: a state that does not follow from the one before")
	}
	k.state = to
}

// Begin says that the owner dials.
func (k *Link) Begin() { k.move(Dialing) }

// Opened says that the socket is connected, and returns what to write on it first. The link is up
// at once when there is nothing to write. opened is false for a link that was given up meanwhile:
// the socket is to be closed.
func (k *Link) Opened(id Identity) (hello []byte, opened bool) {
	if k.state != Dialing {
		return nil, false
	}
	k.move(Shaking)
	hello, k.shake = Handshake(id)
	return hello, true
}

// Shakes reports whether replies of the handshake are still to come.
func (k *Link) Shakes() bool { return k.shake > 0 }

// Shaken takes one reply of the handshake. The owner calls Up after the last one.
func (k *Link) Shaken(reply []byte) (last bool, err error) {
	if reply[0] == '-' {
		return false, &LostError{Addr: k.addr, Refusal: string(reply[1 : len(reply)-2])}
	}
	k.shake--
	return k.shake == 0, nil
}

// Up says that the handshake is over.
func (k *Link) Up(now int64) {
	k.move(Up)
	k.since = now
	if !k.told {
		k.told = true
		slog.Info(k.kind+" up", "node", k.addr)
	}
}

// Lost ends the link, however far it had come, and returns err in the words for those who are owed
// a reply. A link that has worked may begin again at once, another one after a pause. details go to
// the log.
func (k *Link) Lost(err error, worked bool, now int64, details ...any) *LostError {
	why, ok := errors.AsType[*LostError](err)
	if !ok {
		why = &LostError{Addr: k.addr, Err: err}
	}
	if k.told && !Given(err) {
		slog.Warn(k.kind+" down", append([]any{"node", k.addr, "why", why}, details...)...)
	}
	k.told = false
	k.lastErr, k.lostAt = why, now
	if k.state == Up || k.since == 0 {
		k.since = now
	}
	if k.state != Down {
		k.move(Down)
	}
	k.shake = 0
	if worked {
		k.backOff = 0
		return why
	}
	k.backOff = min(max(2*k.backOff, BackOffMin), BackOffMax)
	k.retryAt = now + int64(k.backOff)/2 + rand.Int64N(int64(k.backOff)/2)
	return why
}

// Given reports whether err says that berth gave the link up itself.
func Given(err error) bool { return errors.Is(err, ErrRetired) || errors.Is(err, ErrShutdown) }
