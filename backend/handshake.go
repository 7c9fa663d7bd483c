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
// A client whose password was replaced is let in with another one only if the node says, to berth's
// own user and in the same moment, that it has deleted nobody meanwhile: see UsersMark.
//
//	refused ─▶ AUTH (another) ─▶ accepted ─▶ AUTH (berth's own) ─▶ MULTI, INFO …, AUTH (another), EXEC ─▶ let in
//	              └─ refused ─▶ AUTH (yet another) …
//
// Nothing of a client's is sent before EXEC's reply has said so. Each AUTH waits for the reply to
// what is before it: some nodes leave out the refusal of one that does not.
//
// HELLO and SELECT travel after each attempt, so that a login that succeeds costs one round trip. A
// user who may not SELECT is escorted. So does the connection's name, which the node may refuse.
type Handshake struct {
	Kind       string // of connection: see Naming
	AsksNodeID bool   // the node is asked for its number of the connection
	NodeID     int64  // that number; 0: the node does not say

	logins   *Logins
	marks    Marks // as they were before anything was sent
	moves    int   // how often Logins.Moved was called before it began
	addr     string
	id       Identity
	attempt  attempt
	password string   // of the attempt; at the end, of the connection. "": it needs none
	untried  []string // passwords for later attempts
	owed     int      // replies to the attempt
	naming   int      // of them, the last ones: they answer what names the connection
	judged   bool     // the reply that decides it has come
	refused  string   // why the node does not let the attempt in; "": it does
	noSelect string   // why the user may not SELECT; "": it may
	escort   *Escort
	proof    *proof // nil: it has not begun
}

// proof is how a client is let in with another password than its own.
type proof struct {
	step      proofStep
	passwords []string // not tried yet
	why       string   // the node's words to the client's own password
	was       UsersMark
	selects   bool // in the transaction, since the user may not SELECT
}

// proofStep says which reply is owed.
type proofStep uint8

const (
	proofAuth proofStep = iota // to AUTH with another password
	proofOwn                   // to AUTH as berth's own user
	proofExec                  // to the transaction
)

// attempt is how a handshake tries to be let in.
type attempt uint8

const (
	attemptNothing attempt = iota
	attemptPing            // as the default user, without a password: PING, or what else there is to ask
	attemptAuth
	attemptEscort // let in already: by way of a user who may SELECT
	attemptProof  // refused: see proof
	attemptEnter  // let in already, as the user: what else there is to ask
)

// Handshake returns one for a connection to a node. It has not begun.
func (l *Logins) Handshake(addr string, id Identity) Handshake {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Handshake{logins: l, marks: l.marks, moves: l.moves, addr: addr, id: id}
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

// Password is the one with which the node has let the connection in.
func (h *Handshake) Password() string { return h.password }

// Over reports whether the connection is what it shall be.
func (h *Handshake) Over() bool { return h.owed == 0 }

// login tries the passwords that are known. why is the refusal if there are none.
func (h *Handshake) login(why string) ([]byte, error) {
	passwords, refused := h.logins.known(h.id, h.addr, h.moves)
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
	case a == attemptEnter:
		h.judged = true
	case !h.AsksNodeID: // which does as well as PING
		add("PING")
	}
	if h.id.RESP == 3 {
		add("HELLO", "3")
	}
	if h.id.Replica == ReplicaOfShard {
		add("READONLY")
	}
	if h.id.DB > 0 && !(h.proof != nil && h.proof.selects) {
		add("SELECT", strconv.Itoa(h.id.DB))
	}
	if h.AsksNodeID {
		add("CLIENT", "ID")
	}
	h.naming = 0
	if h.logins.mayName(h.id.User) {
		b, h.naming = h.logins.Naming.Append(b, h.Kind)
	}
	h.owed += h.naming
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
			return nil, h.noWay(h.escort.Why)
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
		return h.beginProof()
	}
	return h.next()
}

// beginProof tries the passwords of the user's other clients.
func (h *Handshake) beginProof() ([]byte, error) {
	passwords, was := h.logins.others(h.id, h.addr)
	h.proof = &proof{passwords: passwords, why: h.refused, was: was}
	h.attempt = attemptProof
	return h.tryOther()
}

// tryOther tries the next one.
func (h *Handshake) tryOther() ([]byte, error) {
	p := h.proof
	if len(p.passwords) == 0 {
		return nil, h.unproven()
	}
	h.password, p.passwords = p.passwords[0], p.passwords[1:]
	p.step, h.owed = proofAuth, 1
	return AppendAuth(nil, h.id.User, h.password), nil
}

// prove takes a reply of the proof, and returns what to write next.
func (h *Handshake) prove(reply []byte) ([]byte, error) {
	p, refused := h.proof, reply[0] == '-'
	switch {
	case p.step == proofAuth && refused:
		return h.tryOther()
	case refused:
		return nil, h.unproven()
	case p.step == proofAuth:
		p.step, h.owed = proofOwn, 1
		return h.logins.ownAuth(), nil
	case p.step == proofOwn:
		p.step = proofExec
		return h.transaction(), nil
	case h.owed > 0: // OK, QUEUED
		return nil, nil
	}
	v, err := codec.ParseValue(reply)
	said := v.Elems
	if p.selects && len(said) > 0 {
		if said[0].IsError() {
			return nil, h.noWay(said[0].Text())
		}
		said = said[1:]
	}
	if err != nil || len(said) != len(UsersSections)+1 {
		return nil, h.unproven()
	}
	var is UsersMark
	for i := range UsersSections {
		is.Take(said[i].Text())
	}
	if in := said[len(UsersSections)]; in.IsError() || in.Text() != "OK" || !p.was.Holds(is) {
		return nil, h.unproven()
	}
	h.logins.worked(h.id.User, h.password, h.addr, h.marks[h.addr])
	return h.try(attemptEnter), nil
}

// transaction returns the commands that have the node say in one moment that it has deleted nobody,
// and let the user in.
func (h *Handshake) transaction() (b []byte) {
	b = codec.AppendCommandString(b, "MULTI")
	h.owed = len(UsersSections) + 3
	if h.proof.selects {
		b = codec.AppendCommandString(b, "SELECT", strconv.Itoa(h.id.DB))
		h.owed++
	}
	for _, section := range UsersSections {
		b = codec.AppendCommandString(b, "INFO", section)
	}
	b = AppendAuth(b, h.id.User, h.password)
	return codec.AppendCommandString(b, "EXEC")
}

// unproven is the error for a connection that no password opens.
func (h *Handshake) unproven() error {
	h.logins.refuse(h.id, h.addr, h.proof.why, 0)
	return &LostError{Addr: h.addr, Refusal: h.proof.why, Login: true}
}

// bring has a connection that is let in escorted to its database. One that needed a proof is not what
// it was when it comes back: the proof begins anew, with the SELECT in it.
func (h *Handshake) bring() (commands []byte, err error) {
	if p := h.proof; p != nil {
		p.step, p.selects = proofOwn, true
		h.attempt, h.owed = attemptProof, 1
		return h.logins.ownAuth(), nil
	}
	if h.escort, commands = h.logins.Escort(h.id.User, h.password, h.id.DB, h.noSelect); h.escort == nil {
		return nil, h.noWay(h.noSelect)
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
			h.demands(true)
			return nil
		}
		h.demands(false)
		if !h.AsksNodeID {
			if text != "" && !LetsIn(text) {
				return h.refusal(text)
			}
			return nil
		}
	}
	switch {
	case h.refused != "":
	case h.owed < h.naming:
		if strings.HasPrefix(text, "NOPERM ") {
			h.logins.nameless(h.id.User)
		}
	case h.AsksNodeID && h.owed == h.naming: // a node that does not know the question says so
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

// demands says whether the node wants a password. Clients are asked for one if their primary does.
func (h *Handshake) demands(wanted bool) {
	if h.id.Replica == NoReplica {
		h.logins.demands(h.addr, wanted)
	}
}

// judgeAuth takes the reply to AUTH; text is that of an error.
func (h *Handshake) judgeAuth(text string) error {
	switch {
	case text == "":
		h.logins.worked(h.id.User, h.password, h.addr, h.marks[h.addr])
	case strings.HasPrefix(text, "WRONGPASS "), strings.HasPrefix(text, "ERR invalid password"): // since 6.0, and before
		h.refused = text
	default:
		return h.refusal(text)
	}
	return nil
}

// noWay is the error for a connection that nobody can bring to its database.
func (h *Handshake) noWay(why string) error {
	h.logins.refuse(h.id, h.addr, why, h.id.DB)
	return h.refusal(why)
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
