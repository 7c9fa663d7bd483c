package backend

import (
	"bytes"
	"maps"
	"slices"
	"strconv"

	"github.com/berth-proxy/berth/codec"
)

// Escort brings a connection into a database that its user may not SELECT. A client may be in such
// a database: another user has selected it, and AUTH keeps it. berth does as the client did. The
// connection logs in as a user that may SELECT, selects, and logs in as its own user again before
// the first command of a client is sent.
//
//	SELECT ─▶ NOPERM ─▶ AUTH another ─▶ SELECT ··· the next ─▶ AUTH the user ─▶ there, or refused
//
// Each command waits for the reply to the one before, because some nodes leave out the refusal of
// an AUTH that is sent together with others: see package pipe.
type Escort struct {
	Why string // what the node has said to SELECT, above all to the user's own

	left  [][]byte // commands that are not sent yet: the last one is the AUTH of the user
	auth  bool     // the reply that is owed answers an AUTH
	there bool     // a SELECT has succeeded
}

// Escort returns one for a user and the password with which the connection has logged in, and its
// first command; nil: there is no user to do it. The
// candidates are the users as which berth itself logs in, and the default user. why is what the
// node has said to the user's own SELECT.
func (l *Logins) Escort(user, password string, db int, why string) (e *Escort, first []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	others := maps.Clone(l.own)
	if others == nil {
		others = map[string]string{}
	}
	if _, has := others[""]; !has && !l.demanded {
		others[""] = anyPassword
	}
	if password, known := l.password(Identity{Credential: l.anyone}); known {
		others[""] = password
	}
	delete(others, user)
	if len(others) == 0 {
		return nil, nil
	}
	e = &Escort{Why: why, auth: true}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		e.left = append(e.left, namedAuth(name, others[name]), codec.AppendCommandString(nil, "SELECT", strconv.Itoa(db)))
	}
	first, e.left = e.left[0], append(e.left[1:], namedAuth(user, password)) // "" is anyPassword
	return e, first
}

// Reply takes a reply, and returns what to write next; nil after the last one. refused is true then
// if the connection has not become what it shall be, and must end.
func (e *Escort) Reply(reply []byte) (next []byte, refused bool) {
	ok := reply[0] == '+'
	switch {
	case e.auth:
	case ok:
		e.there = true
	case !bytes.HasPrefix(reply, []byte("-NOPERM ")): // BUSY
		e.Why = string(reply[1 : len(reply)-2])
	}
	e.auth = !e.auth
	if len(e.left) == 0 {
		return nil, !ok || !e.there
	}
	next, e.left = e.left[0], e.left[1:]
	return next, false
}

// anyPassword is the password of a default user that needs none and takes any.
const anyPassword = ""

// namedAuth returns an AUTH that names the default user as well: without its name a node that wants
// no password refuses one.
func namedAuth(user, password string) []byte {
	if user == "" {
		user = "default"
	}
	return codec.AppendCommandString(nil, "AUTH", user, password)
}
