package backend

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
)

// Link is one connection of a loop to a node, without its socket: how it begins, why it ended, and
// when it may begin again. Each pipe and each feed has one. The socket, and what travels on it, are
// the owner's.
//
//	Down ──Begin──▶ Dialing ──Opened──▶ Shaking ──last Shaken──▶ Up
//	  ▲                │                   │                      │
//	  └────────────────┴─────── Lost ──────┴──────────────────────┘
//
// Begin must wait for the back-off. Opened goes on to Up at once if no handshake is needed.
//
// Owned by the event loop.
type Link struct {
	kind    string // of the owner, "pipe" or "feed", for the log
	addr    string // of the node
	state   LinkState
	shake   Handshake
	backOff BackOff
	lastErr *LostError // why the link was lost last; nil: it never was
	lostAt  int64      // when it was lost last, unix nanoseconds
	since   int64      // when it went up, or down from there or first, unix nanoseconds; 0: it never was either
}

// LinkState is how far a link has come.
type LinkState uint8

const (
	Down    LinkState = iota // there is no connection
	Dialing                  // a goroutine connects
	Shaking                  // AUTH, HELLO or SELECT are sent; a reply is owed
	Up                       // the owner's bytes may travel
)

// linkMoves lists where each state leads.
var linkMoves = [...][]LinkState{Down: {Dialing}, Dialing: {Shaking, Down}, Shaking: {Up, Down}, Up: {Down}}

// move is the only write of a link's state.
func (k *Link) move(to LinkState) {
	if !slices.Contains(linkMoves[k.state], to) {
		panic("a link moved to a state that does not follow from the one before")
	}
	k.state = to
}

// NewLink returns a link that is down. kind names its owner in the log.
func NewLink(kind, addr string) Link { return Link{kind: kind, addr: addr} }

// Addr is the node's address.
func (k *Link) Addr() string { return k.addr }

// State is how far the link has come.
func (k *Link) State() LinkState { return k.state }

// Err is why the link was lost last, and when, unix nanoseconds. nil: it never was.
func (k *Link) Err() (err *LostError, at int64) { return k.lastErr, k.lostAt }

// Since is when the link went up, or when it went down from there or failed first, unix nanoseconds.
// 0: it never did.
func (k *Link) Since() int64 { return k.since }

// MayBegin reports whether the link may be dialled now.
func (k *Link) MayBegin(now int64) bool { return k.state == Down && k.backOff.Over(now) }

// Begin is the owner's word that it dials.
func (k *Link) Begin() { k.move(Dialing) }

// Opened is the owner's word that the socket is connected. It returns what to write first, or why the
// connection must end. The link is up at once if no handshake is needed. opened is false if the link
// was given up while it was dialled: the owner must close the socket.
func (k *Link) Opened(shake Handshake, now int64) (first []byte, opened bool, err error) {
	if k.state != Dialing {
		return nil, false, nil
	}
	k.move(Shaking)
	k.shake = shake
	k.shake.Kind = k.kind
	if first, err = k.shake.Begin(); err == nil && k.shake.Over() {
		k.up(now)
	}
	return first, true, err
}

// Shaken takes one reply of the handshake, and returns what to write next. The last one brings the
// link up.
func (k *Link) Shaken(reply []byte, now int64) (next []byte, err error) {
	if next, err = k.shake.Reply(reply); err == nil && k.shake.Over() {
		k.up(now)
	}
	return next, err
}

// levelVerbose is that of the option loglevel.
const levelVerbose = slog.LevelDebug + 2

// up ends the handshake. The log has one line when the first link of its kind to a node is up for a user,
// one each time a link goes down from there, and one when the node is back. That others are up is for
// debugging.
func (k *Link) up(now int64) {
	k.move(Up)
	k.since = now
	level := slog.LevelDebug
	id := k.shake.id
	if k.shake.logins.told.meets(k.kind, k.addr, id) {
		level = levelVerbose
	}
	if k.shake.logins.told.isBack(k.addr) {
		slog.Info("node back", "node", k.addr)
	}
	slog.Log(context.Background(), level, k.kind+" up", "node", k.addr, "user", cmp.Or(id.User, "default"), "db", id.DB)
}

// Lost ends the link, however far it had come, and returns err in the words for those who are owed
// a reply. The back-off begins unless the link has worked. details go to the log.
func (k *Link) Lost(err error, worked bool, now int64, details ...any) *LostError {
	why, ok := errors.AsType[*LostError](err)
	if !ok {
		why = &LostError{Addr: k.addr, Err: err}
	}
	if k.state == Up && !EndedByBerth(err) {
		slog.Warn(k.kind+" down", append([]any{"node", k.addr, "why", why}, details...)...)
		k.shake.logins.told.lost(k.addr)
	}
	switch {
	case EndedByBerth(err): // it was not lost
		k.since = 0
	default:
		if k.state == Up || k.since == 0 {
			k.since = now
		}
		k.lastErr, k.lostAt = why, now
	}
	if k.state != Down { // berth shuts down: the dial of a link that was ended has failed as well
		k.move(Down)
	}
	k.shake = Handshake{}
	if worked || why.Login { // Logins paces what is tried again, and ends the pause when a password is accepted
		k.backOff.Worked()
	} else {
		k.backOff.Failed(now)
	}
	return why
}

// EndedByBerth reports whether err says that berth itself ended the link.
func EndedByBerth(err error) bool {
	return errors.Is(err, ErrRetired) || errors.Is(err, ErrShutdown)
}

// HangUp returns why a socket was closed: err, or that the node closed it.
func HangUp(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return ErrHungUp
	}
	return err
}
