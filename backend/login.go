package backend

import (
	"maps"
	"slices"
	"time"
)

// login is what is known of one user.
type login struct {
	holds       int                   // sets of pipes, over all loops
	credentials []*credential         // accepted, the latest first; at most maxPasswords
	common      *credential           // of clients whose passwords have none of their own; nil: there are none
	refused     map[attemptAt]refusal // nil: no node let nobody in
	nameless    bool                  // a node has said that the user may not name connections
	partial     bool                  // credentials lacks passwords that clients of the user have given
}

// attemptAt is a login of an identity's clients at a node; with a db, the way to that database after
// it.
type attemptAt struct {
	credential uint32
	addr       string
	db         int // 0: the login itself
}

// credential is one password of a user, and what its clients have in common.
type credential struct {
	id       uint32
	password string
	holds    int
	marks    Marks // by node: as it was before the password was accepted there
	moves    int   // how often Logins.Moved was called before a node of the present backend accepted it last
}

// refusal is a node's answer to all that was tried.
type refusal struct {
	text string
	at   time.Time
}

// find returns a credential; nil: it is not known.
func (u *login) find(id uint32) *credential {
	if u == nil || id == 0 {
		return nil
	}
	for _, c := range u.all() {
		if c.id == id {
			return c
		}
	}
	return nil
}

// all are the credentials, the common one last.
func (u *login) all() []*credential {
	if u.common == nil {
		return u.credentials
	}
	return append(slices.Clip(u.credentials), u.common)
}

// accepted makes a known password the latest, and ends the refusals of its clients; nil: it is not
// known. Called with mu locked.
func (u *login) accepted(password string) *credential {
	i := slices.IndexFunc(u.credentials, func(c *credential) bool { return c.password == password })
	if i < 0 {
		return nil
	}
	c := u.credentials[i]
	copy(u.credentials[1:i+1], u.credentials[:i])
	u.credentials[0] = c
	maps.DeleteFunc(u.refused, func(at attemptAt, _ refusal) bool { return at.db == 0 && (at.credential == c.id || at.credential == 0) })
	return c
}

// mark records what a node has said. Called with mu locked.
func (c *credential) mark(addr string, mark UsersMark) {
	if now, has := c.marks[addr]; !has || now != mark {
		c.marks = c.marks.with(addr, mark)
	}
}
