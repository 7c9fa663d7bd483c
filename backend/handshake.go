package backend

import (
	"slices"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/codec"
)

// Handshake makes a fresh connection to a node one of an identity. Its bytes go out before all
// others, and the node's first replies are its own.
//
//	default user:  PING ─▶ let in ─────────────────────▶ over
//	                 └──▶ NOAUTH ─┐                        ▲
//	named user:  ─────────────────┴▶ AUTH (own password) ──┤ accepted
//	                                  └─ refused ─▶ AUTH (another) … ─▶ none is left: LostError.Login
//
// For a client whose password was replaced the next one is tried only after the node has said, to
// berth's own user, that it has deleted nobody meanwhile: see UsersMark.
//
//	refused ─▶ AUTH (berth's own) ─▶ INFO … ─▶ AUTH (another)
//
// Nothing of a client's is sent before the last AUTH is accepted. Each of these commands waits for
// the reply to the one before.
//
// HELLO and SELECT travel after each attempt, so that a login that succeeds costs one round trip. A
// user who may not SELECT is escorted.
type Handshake struct {
	AsksNodeID bool  // the node is asked for its number of the connection
	NodeID     int64 // that number; 0: the node does not say

	logins   *Logins
	addr     string
	id       Identity
	attempt  attempt
	password string   // of the attempt
	untried  []string // passwords for later attempts
	owed     int      // replies to the attempt
	judged   bool     // the reply that decides it has come
	refused  string   // why the node does not let the attempt in; "": it does
	noSelect string   // why the user may not SELECT; "": it may
	escort   *Escort
	proof    *proof // nil: other passwords need none, or it was asked for
	proven   bool
}

// proof is what is asked of a node before another password than the client's own is tried.
type proof struct {
	left      [][]byte // commands that are not sent yet
	auth      bool     // the reply that is owed answers AUTH
	passwords []string
	was, is   UsersMark
}

// attempt is how a handshake tries to be let in.
type attempt uint8

const (
	attemptNothing attempt = iota
	attemptPing            // as the default user, without a password: PING, or what else there is to ask
	attemptAuth
	attemptEscort // let in already: by way of a user who may SELECT
	attemptProof  // refused, as berth's own user: see proof
)

// Handshake returns one for a connection to a node. It has not begun.
func (l *Logins) Handshake(addr string, id Identity) Handshake {
	return Handshake{logins: l, addr: addr, id: id}
}

// Begin returns what to write first. The handshake is over already if there is nothing to write.
func (h *Handshake) Begin() ([]byte, error) {
	switch {
	case h.id.RESP == 0:
		return nil, nil
	case h.id.User == "":
		return h.try(attemptPing), nil
	}
	return h.login("WRONGPASS invalid username-password pair or user is disabled.")
}

// Over reports whether the connection is what it shall be.
func (h *Handshake) Over() bool { return h.owed == 0 }

// login tries the passwords that are known. why is the refusal if there are none.
func (h *Handshake) login(why string) ([]byte, error) {
	passwords, refused := h.logins.known(h.id, h.addr)
	if refused != "" {
		why = refused
	}
	h.refused, h.untried = why, passwords
	return h.next()
}

// next tries the next password.
func (h *Handshake) next() ([]byte, error) {
	if len(h.untried) == 0 {
		return nil, &LostError{Addr: h.addr, Refusal: h.refused, Login: true}
	}
	h.password, h.untried = h.untried[0], h.untried[1:]
	return h.try(attemptAuth), nil
}

// try returns the commands of an attempt.
func (h *Handshake) try(a attempt) (b []byte) {
	h.attempt, h.judged, h.owed, h.refused, h.noSelect = a, false, 0, "", ""
	add := func(words ...string) {
		b = codec.AppendCommandString(b, words...)
		h.owed++
	}
	switch {
	case a == attemptAuth:
		b = AppendAuth(b, h.id.User, h.password)
		h.owed++
	case !h.AsksNodeID: // which does as well as PING
		add("PING")
	}
	if h.id.RESP == 3 {
		add("HELLO", "3")
	}
	if h.id.DB > 0 {
		add("SELECT", strconv.Itoa(h.id.DB))
	}
	if h.AsksNodeID {
		add("CLIENT", "ID")
	}
	return b
}

// AppendAuth appends the AUTH of a user. Redis before 6.0 has the default user alone, and knows no
// name for it.
func AppendAuth(b []byte, user, password string) []byte {
	if user == "" {
		return codec.AppendCommandString(b, "AUTH", password)
	}
	return codec.AppendCommandString(b, "AUTH", user, password)
}

// Reply takes one reply of the node, and returns what to write next. An error ends the connection.
func (h *Handshake) Reply(reply []byte) ([]byte, error) {
	h.owed--
	if h.attempt == attemptEscort {
		next, refused := h.escort.Reply(reply)
		switch {
		case refused:
			return nil, h.refusal(h.escort.Why)
		case next != nil:
			h.owed++
		}
		return next, nil
	}
	if h.attempt == attemptProof {
		return h.prove(reply)
	}
	if err := h.take(reply); err != nil {
		return nil, err
	}
	switch {
	case h.owed > 0:
		return nil, nil
	case h.refused == "" && h.noSelect != "":
		return h.bring()
	case h.refused == "":
		return nil, nil
	}
	if h.attempt == attemptPing {
		return h.login(h.refused)
	}
	if len(h.untried) == 0 {
		if first := h.askProof(); first != nil {
			return first, nil
		}
		h.logins.refuse(h.id, h.addr, h.refused)
	}
	return h.next()
}

// askProof begins the proof that a node needs before it is given another password than the client's
// own, and returns what to write first; nil: there is no other password, or no proof.
func (h *Handshake) askProof() []byte {
	if h.proven {
		return nil
	}
	h.proven = true
	passwords, was := h.logins.others(h.id, h.addr)
	if len(passwords) == 0 {
		return nil
	}
	h.proof = &proof{passwords: passwords, was: was}
	if auth := h.logins.ownLogin(); auth != nil {
		h.proof.left, h.proof.auth = append(h.proof.left, auth), true
	}
	for _, section := range UsersSections {
		h.proof.left = append(h.proof.left, codec.AppendCommandString(nil, "INFO", section))
	}
	h.attempt, h.owed = attemptProof, 1
	first := h.proof.left[0]
	h.proof.left = h.proof.left[1:]
	return first
}

// prove takes a reply of the proof, and goes on: to the other passwords, if the node has deleted nobody.
func (h *Handshake) prove(reply []byte) ([]byte, error) {
	p := h.proof
	if reply[0] != '-' && !p.auth {
		p.is.Take(string(reply))
	}
	p.auth = false
	switch {
	case reply[0] == '-':
	case len(p.left) > 0:
		next := p.left[0]
		p.left = p.left[1:]
		h.owed = 1
		return next, nil
	case p.was.Holds(p.is):
		h.untried = p.passwords
		return h.next()
	}
	h.logins.refuse(h.id, h.addr, h.refused)
	return h.next()
}

// bring has a connection that is let in escorted to its database.
func (h *Handshake) bring() (commands []byte, err error) {
	if h.escort, commands = h.logins.Escort(h.id, h.id.DB, h.noSelect); h.escort == nil {
		return nil, h.refusal(h.noSelect)
	}
	h.attempt, h.owed = attemptEscort, 1
	return commands, nil
}

// take reads one reply. The first one decides whether the node lets the attempt in.
func (h *Handshake) take(reply []byte) error {
	text := ""
	if reply[0] == '-' {
		text = string(reply[1 : len(reply)-2])
	}
	if !h.judged {
		h.judged = true
		switch {
		case h.attempt == attemptAuth:
			return h.judgeAuth(text)
		case strings.HasPrefix(text, "NOAUTH "):
			h.refused = text
			h.logins.demands(true)
			return nil
		}
		h.logins.demands(false)
		if !h.AsksNodeID {
			if text != "" && !LetsIn(text) {
				return h.refusal(text)
			}
			return nil
		}
	}
	switch {
	case h.refused != "":
	case h.AsksNodeID && h.owed == 0: // a node that does not know the question says so
		if reply[0] == ':' {
			h.NodeID, _ = strconv.ParseInt(string(reply[1:len(reply)-2]), 10, 64)
		}
	case h.id.DB > 0 && strings.HasPrefix(text, "NOPERM "): // SELECT's: everybody may HELLO
		h.noSelect = text
	case text != "":
		return h.refusal(text)
	}
	return nil
}

// judgeAuth takes the reply to AUTH; text is that of an error.
func (h *Handshake) judgeAuth(text string) error {
	switch {
	case text == "":
		h.logins.worked(h.id.User, h.password)
	case strings.HasPrefix(text, "WRONGPASS "), strings.HasPrefix(text, "ERR invalid password"): // since 6.0, and before
		h.refused = text
	default:
		return h.refusal(text)
	}
	return nil
}

// refusal is the error for a connection that the node does not want to be what it shall be.
func (h *Handshake) refusal(text string) error {
	return &LostError{Addr: h.addr, Refusal: text}
}

// LetsIn reports whether an error that answers PING comes from a node that has let the connection
// in: it forbids PING, or is not ready to serve.
func LetsIn(text string) bool {
	word, _, _ := strings.Cut(text, " ")
	return slices.Contains([]string{"NOPERM", "LOADING", "MASTERDOWN", "BUSY", "MISCONF"}, word)
}
