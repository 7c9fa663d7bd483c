package backend

import (
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"
)

// Logins knows how to log in to the nodes as each user of whom there are clients: with the passwords
// that nodes have accepted from clients. All loops and pools share it. The zero value knows no user.
//
// A client logs in again with its own password, as it would without berth. One that was replaced is
// refused then. Its client is served on all the same, with a later one, if it is sure that the node
// has deleted no user since: else the node may have a new user of the same name by now, of whom the
// client knows no password.
//
//	own password ─▶ accepted
//	    └─ refused ─▶ the node's UsersMark is what it was ─▶ another password of the user ─▶ accepted
//	                   └─ it is not, or is not known ─▶ refused: the client is told and closed
//
// Trusted are a node's replies to AUTH and PING on connections that carry no other command of a
// client: to AUTH when a client authenticates, to AUTH, PING and INFO when a connection of berth's
// begins. No other reply changes what Logins knows, because a script chooses the words of its errors.
type Logins struct {
	// OnFree is called when there is no connection and no client any more that uses a user's
	// credential; with credential 0, none that uses any of them. It must not call Logins. nil:
	// nothing has to be done.
	OnFree func(user string, credential uint32)
	// OnDemand is called when a node has said whether it wants a password from a new connection.
	// nil: it does not matter.
	OnDemand func(addr string, wanted bool)
	// Naming names connections. It is set before the first one begins; nil: they have no names.
	Naming *Naming

	told linksTold

	mu       sync.Mutex // guards what follows; OnFree alone is called under it
	users    map[string]*login
	last     uint32            // the latest credential of any user
	moves    int               // how often Moved was called
	anyone   uint32            // the credential of the default user's clients: see Moved
	own      map[string]string // berth's own passwords, by user: tried last
	marks    Marks             // by node, as said last
	marked   time.Time         // when the first node was asked; zero: none was
	demanded bool              // a node has said last that it wants a password
}

// Marks are the nodes' marks as they were at a moment. Nobody changes them.
type Marks map[string]UsersMark

const (
	// maxPasswords is how many passwords are known of a user. The clients of one more, while connections
	// of all are open, have the common credential.
	maxPasswords = 16

	// maxTries is how many of them are tried at a node, the latest first.
	maxTries = 3

	// MaxCredential is how many bytes a user name or a password may have. A new connection may not
	// send more in one argument to Redis before it has authenticated, so a longer one opens none.
	MaxCredential = 16 << 10

	// maxMarks is of how many nodes the marks are known, those that are gone included.
	maxMarks = 4096

	// firstMarks is for how long after the first one a node's first mark is believed of the time before,
	// too. That is the time when berth begins, and clients come before all nodes have been asked.
	firstMarks = 2 * time.Second

	// refusalKept is for how long a node that has refused all passwords is not asked again.
	refusalKept = time.Second
)

// of returns what is known of a user. Called with mu locked.
func (l *Logins) of(user string) *login {
	u := l.users[user]
	if u == nil {
		if l.users == nil {
			l.users = map[string]*login{}
		}
		u = &login{}
		l.users[user] = u
	}
	return u
}

// Hold keeps an identity's user and credential known until Release.
func (l *Logins) Hold(id Identity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.of(id.User)
	u.holds++
	if c := u.find(id.Credential); c != nil {
		c.holds++
	}
}

// Release is the opposite of Hold. With the last one the user's passwords are forgotten.
func (l *Logins) Release(id Identity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[id.User]
	if c := u.find(id.Credential); c != nil {
		if c.holds--; c.holds == 0 {
			l.free(id.User, c.id)
		}
	}
	if u.holds--; u.holds == 0 {
		delete(l.users, id.User)
		l.free(id.User, 0)
	}
}

// free calls OnFree: under mu, so that a client that takes the credential now gets what is made
// after it.
func (l *Logins) free(user string, credential uint32) {
	if l.OnFree != nil {
		l.OnFree(user, credential)
	}
}

// Accepted records that a node has accepted a client's password, and returns the Credential of the
// client's Identity, which is held: the caller releases it. any reports that the node takes any
// password of this user: those that its clients make up must cost nothing, so they all have the
// common credential. The default user has none. No node deletes it, so each of its clients may be
// served with any password of it.
//
// before is what Marks was when the node was asked.
func (l *Logins) Accepted(user, password string, any bool, before Marks) (held Identity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.of(user)
	c := u.accepted(password)
	if c == nil {
		c = l.add(u, password, before)
	}
	if c == nil || any {
		c = l.commonOf(u, before)
	}
	c.moves = l.moves
	u.holds++
	held.User, held.Credential = user, l.anyone
	if user != "" {
		held.Credential = c.id
		c.holds++
	}
	return held
}

// Proven reports whether the present backend has let in an identity's clients.
func (l *Logins) Proven(id Identity) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.users[id.User].find(id.Credential)
	return id.User == "" || c != nil && c.moves == l.moves
}

// Prove records that it has let in a connection of theirs.
func (l *Logins) Prove(id Identity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.users[id.User].find(id.Credential); c != nil {
		c.moves = l.moves
	}
}

// newCredential makes one that no client has yet. Called with mu locked.
func (l *Logins) newCredential(password string, before Marks) *credential {
	l.last++
	return &credential{id: l.last, password: password, marks: before}
}

// add makes a credential of a password, and takes the place of one that nobody uses; nil: all are in
// use. Called with mu locked.
func (l *Logins) add(u *login, password string, before Marks) *credential {
	if len(u.credentials) == maxPasswords {
		u.partial = true
		i := maxPasswords - 1
		for ; u.credentials[i].holds > 0; i-- {
			if i == 0 {
				return nil
			}
		}
		u.credentials = slices.Delete(u.credentials, i, i+1)
	}
	c := l.newCredential(password, before)
	u.credentials = slices.Insert(u.credentials, 0, c)
	u.refused = nil // it may do for others
	return c
}

// commonOf returns the credential of clients whose passwords are not told apart. Its own password is
// nobody's: a node accepts it only while it takes any, and else wants the proof that others need.
// Called with mu locked.
func (l *Logins) commonOf(u *login, before Marks) *credential {
	if u.common == nil {
		u.common = l.newCredential(rand.Text(), before)
	}
	return u.common
}

// worked records that berth has logged in at a node with a password: the password's own clients are
// known there now. The node's mark was this before. The user may have been forgotten meanwhile.
func (l *Logins) worked(user, password, addr string, mark UsersMark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[user]
	if u == nil {
		return
	}
	c := u.accepted(password)
	if c == nil && u.common != nil && u.common.password == password {
		c = u.common
	}
	if mark.known() && c != nil {
		c.mark(addr, mark)
	}
}

// with returns the marks with another one.
func (m Marks) with(addr string, mark UsersMark) Marks {
	if m = maps.Clone(m); m == nil {
		m = Marks{}
	}
	m[addr] = mark
	return m
}

// mayName reports whether a user may name its connections, as far as is known. A node is not asked again
// and again for what it enters into its ACL LOG.
func (l *Logins) mayName(user string) bool {
	if l.Naming == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[user]
	return u == nil || !u.nameless
}

// nameless records that a user may not.
func (l *Logins) nameless(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.users[user]; u != nil {
		u.nameless = true
	}
}

// Password returns the one with which the clients of an identity have logged in, or the one of its
// user that a node accepted last.
func (l *Logins) Password(id Identity) (password string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.password(id)
}

func (l *Logins) password(id Identity) (password string, known bool) {
	u := l.users[id.User]
	if c := u.find(id.Credential); c != nil {
		return c.password, true
	}
	if u == nil || id.Credential != l.base(id.User) || len(u.credentials) == 0 {
		return "", false
	}
	return u.credentials[0].password, true
}

// Knows reports whether clients of the user log in with this password.
func (l *Logins) Knows(user, password string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[user]
	return u != nil && slices.ContainsFunc(u.credentials, func(c *credential) bool { return c.holds > 0 && c.password == password })
}

// base is the Credential of those who log in as a user with any password of it. Called with mu locked.
func (l *Logins) base(user string) uint32 {
	if user == "" {
		return l.anyone
	}
	return 0
}

// Default is the Credential of the default user's clients.
func (l *Logins) Default() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.anyone
}

// DefaultPasswords returns the passwords that the clients of the default user have given. whole is false
// if there are others.
func (l *Logins) DefaultPasswords() (passwords []string, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[""]
	if u == nil {
		return nil, true
	}
	for _, c := range u.all() {
		passwords = append(passwords, c.password)
	}
	return passwords, !u.partial
}

// Moved says that another backend has taken the place of the present one, with a user and password of
// berth's own. What the old nodes have let in is nothing to the new ones: each connection of a named user
// logs in there with the password of its clients, and no other one.
//
// The clients of the default user share one Credential, and berth may log in for it with a password of its
// own. So they keep it only if keeps says that they may: else there is a new one, and connections of the
// old one log in with no password at all.
func (l *Logins) Moved(user, password string, keeps bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moves++
	l.own = nil
	if password != "" {
		l.own = map[string]string{user: password}
	}
	l.marked = time.Unix(1, 0) // what a new node says first is not believed of the time before
	for _, u := range l.users {
		u.refused = nil
	}
	if keeps {
		return
	}
	l.last++
	l.anyone = l.last
	if u := l.users[""]; u != nil {
		u.credentials, u.common, u.partial = nil, nil, false
	}
}

// Own has berth log in with a password of its own as well, after those of the user's clients. It lets
// no client in: a node judges each client's AUTH.
func (l *Logins) Own(user, password string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.own == nil {
		l.own = map[string]string{}
	}
	l.own[user] = password
}

// Marks returns the nodes' marks of now.
func (l *Logins) Marks() Marks {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.marks
}

// Seen records a node's mark, also one that says nothing. Credentials that were there before the
// node's first one take it while berth begins. Later the node may have had other users before: a
// replica that was promoted.
func (l *Logins) Seen(addr string, mark UsersMark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.marks) >= maxMarks {
		l.marks = nil
	}
	l.marks = l.marks.with(addr, mark)
	if l.marked.IsZero() {
		l.marked = time.Now()
	}
	if time.Since(l.marked) > firstMarks {
		return
	}
	for _, u := range l.users {
		for _, c := range u.all() {
			if _, has := c.marks[addr]; !has {
				c.mark(addr, mark)
			}
		}
	}
}

// known returns the passwords to try at a node on a connection that began after so many moves: a node
// of the backend before is told none of those for the present one. If the node has refused them all lately,
// it returns the node's words instead.
func (l *Logins) known(id Identity, addr string, moves int) (passwords []string, refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[id.User]
	if u == nil || moves != l.moves {
		return nil, ""
	}
	if r, has := u.refused[attemptAt{id.Credential, addr, 0}]; has && time.Since(r.at) < refusalKept {
		return nil, r.text
	}
	if c := u.find(id.Credential); c != nil {
		return []string{c.password}, ""
	}
	if id.Credential != l.base(id.User) {
		return nil, ""
	}
	for _, c := range u.credentials {
		passwords = append(passwords, c.password)
	}
	passwords = passwords[:min(len(passwords), maxTries)]
	if own, has := l.own[id.User]; has && !slices.Contains(passwords, own) {
		passwords = append(passwords, own)
	}
	return passwords, ""
}

// others returns the passwords by which an identity whose own one was refused may be let in at a
// node, and what the node's mark must be for that. There are none if that is not known.
func (l *Logins) others(id Identity, addr string) (passwords []string, mark UsersMark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[id.User]
	own := u.find(id.Credential)
	if own == nil {
		return nil, mark
	}
	if mark = own.marks[addr]; !mark.known() {
		return nil, mark
	}
	for _, c := range u.credentials {
		if c != own {
			passwords = append(passwords, c.password)
		}
	}
	return passwords[:min(len(passwords), maxTries)], mark
}

// ownAuth returns the AUTH with which a connection becomes one of berth's own user. Without one of its
// own berth is the default user.
func (l *Logins) ownAuth() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	for user, password := range l.own {
		return namedAuth(user, password)
	}
	password, known := l.password(Identity{Credential: l.anyone})
	if !known {
		password = anyPassword
	}
	return namedAuth("", password)
}

// Refused returns why a node that has refused an identity lately need not be dialled; nil: it may be.
func (l *Logins) Refused(id Identity, addr string) *LostError {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[id.User]
	if u == nil || id.User == "" { // the default user may need no password any more
		return nil
	}
	if r, has := u.refused[attemptAt{id.Credential, addr, 0}]; has && time.Since(r.at) < refusalKept {
		return &LostError{Addr: addr, Refusal: r.text, Login: true}
	}
	if r, has := u.refused[attemptAt{id.Credential, addr, id.DB}]; has && time.Since(r.at) < refusalKept {
		return &LostError{Addr: addr, Refusal: r.text}
	}
	return nil
}

// refuse records that a node has refused all passwords of an identity; with a db, that it lets nobody
// into that database.
func (l *Logins) refuse(id Identity, addr, text string, db int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[id.User]
	if u == nil {
		return
	}
	if u.refused == nil {
		u.refused = map[attemptAt]refusal{}
	}
	u.refused[attemptAt{id.Credential, addr, db}] = refusal{text, time.Now()}
}

// demands records whether a node wants a password.
func (l *Logins) demands(addr string, wanted bool) {
	l.mu.Lock()
	l.demanded = wanted
	l.mu.Unlock()
	if l.OnDemand != nil {
		l.OnDemand(addr, wanted)
	}
}
