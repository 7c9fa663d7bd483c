package backend

import (
	"bytes"
	"maps"
	"slices"
	"strconv"

	"github.com/berth-proxy/berth/codec"
)

// Escort brings a connection into a database that its user may not SELECT. A client may be in one all
// the same: another user has selected it, and AUTH keeps it. So berth does as the client did: the
// connection is that of a user who may for a moment, and of its own user again before the first
// command of a client is sent.
//
//	SELECT ─▶ NOPERM ─▶ AUTH another, SELECT … AUTH the user ─▶ there, or refused
type Escort struct {
	Why string // what the node has said to SELECT, above all to the user's own

	owed  int  // replies to its commands
	auth  bool // the next reply answers an AUTH
	there bool // a SELECT has succeeded
}

// Escort returns one for a user, and its commands; nil: there is nobody to do it. Those who may be able
// to are the users with whose password berth itself logs in, and the default user. why is what the
// node has said to the user's own SELECT.
func (l *Logins) Escort(user string, db int, why string) (e *Escort, commands []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	others := maps.Clone(l.own)
	if others == nil {
		others = map[string]string{}
	}
	if _, has := others[""]; !has && !l.demanded {
		others[""] = anyPassword
	}
	if u := l.users[""]; u != nil && len(u.passwords) > 0 {
		others[""] = u.passwords[0]
	}
	delete(others, user)
	if len(others) == 0 {
		return nil, nil
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		commands = appendNamedAuth(commands, name, others[name])
		commands = codec.AppendCommandString(commands, "SELECT", strconv.Itoa(db))
	}
	password := l.own[user] // "" is anyPassword
	if u := l.users[user]; u != nil && len(u.passwords) > 0 {
		password = u.passwords[0]
	}
	return &Escort{Why: why, owed: 2*len(others) + 1, auth: true}, appendNamedAuth(commands, user, password)
}

// Owed is how many replies are to come.
func (e *Escort) Owed() int { return e.owed }

// Reply takes one reply. refused is true if the connection has not become what it shall be: then it
// must end.
func (e *Escort) Reply(reply []byte) (refused bool) {
	e.owed--
	ok := reply[0] == '+'
	switch {
	case e.auth:
	case ok:
		e.there = true
	case !bytes.HasPrefix(reply, []byte("-NOPERM ")): // BUSY
		e.Why = string(reply[1 : len(reply)-2])
	}
	e.auth = !e.auth
	return e.owed == 0 && !(ok && e.there)
}

// anyPassword is for a default user of whom no password is wanted, who takes any. It is nobody's.
const anyPassword = ""

// appendNamedAuth appends an AUTH that names the default user as well: without its name a node that
// wants no password refuses one.
func appendNamedAuth(b []byte, user, password string) []byte {
	if user == "" {
		user = "default"
	}
	return codec.AppendCommandString(b, "AUTH", user, password)
}
