package backend

import (
	"slices"
	"sync"
	"time"
)

// Logins knows how to log in to the nodes as each user of whom there are clients: with the passwords
// that nodes have accepted from clients, the latest first. All loops and pools share it. The zero
// value knows no user.
//
// Trusted are a node's replies to AUTH and PING on connections that carry no other command of a
// client: to AUTH when a client authenticates, to AUTH and PING when a connection of berth's begins.
// No other reply changes what Logins knows, because a script chooses the words of its errors.
type Logins struct {
	// OnFree is called when there is no connection and no client of a user any more. It must not
	// call Logins. nil: nothing has to be done.
	OnFree func(user string)
	// OnDemand is called when a node has said whether it wants a password from a new connection.
	// nil: it does not matter.
	OnDemand func(wanted bool)

	mu       sync.Mutex // guards what follows; OnFree alone is called under it
	users    map[string]*login
	own      map[string]string // berth's own passwords, by user: tried last
	demanded bool              // a node has said last that it wants a password
}

// login is what is known of one user.
type login struct {
	holds     int                // sets of pipes, over all loops
	passwords []string           // accepted, the latest first; at most maxPasswords
	refused   map[string]refusal // by node: it accepted none of them; nil: none did so
}

// refusal is a node's answer to all passwords of a user.
type refusal struct {
	text string
	at   time.Time
}

const (
	// maxPasswords is how many passwords are known of a user: a password that is being replaced is
	// accepted by some nodes only, and is needed there.
	maxPasswords = 3

	// MaxCredential is how many bytes a user name or a password may have. A new connection may not
	// send more in one argument to Redis before it has authenticated, so a longer one opens none.
	MaxCredential = 16 << 10

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

// Hold keeps a user known until Release.
func (l *Logins) Hold(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(user).holds++
}

// Release is the opposite of Hold. With the last one the user's passwords are forgotten.
func (l *Logins) Release(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[user]
	if u.holds--; u.holds > 0 {
		return
	}
	delete(l.users, user)
	if l.OnFree != nil {
		l.OnFree(user) // under mu: a client that becomes this user now gets what is made after it
	}
}

// Accepted records that a node has accepted a user's password. The caller holds the user, or is
// about to.
func (l *Logins) Accepted(user, password string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(user).accepted(password)
}

// worked is Accepted for a password with which berth has logged in. The user may have been forgotten
// meanwhile.
func (l *Logins) worked(user, password string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.users[user]; u != nil {
		u.accepted(password)
	}
}

// accepted makes a password the latest. Called with mu locked.
func (u *login) accepted(password string) {
	u.refused = nil
	if len(u.passwords) > 0 && u.passwords[0] == password {
		return
	}
	known := slices.DeleteFunc(u.passwords, func(p string) bool { return p == password })
	known = known[:min(len(known), maxPasswords-1)]
	u.passwords = slices.Insert(known, 0, password)
}

// Latest returns the password of a user that a node accepted last.
func (l *Logins) Latest(user string) (password string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[user]
	if u == nil || len(u.passwords) == 0 {
		return "", false
	}
	return u.passwords[0], true
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

// known returns the passwords to try at a node. If the node has refused them all lately, it returns
// the node's words instead.
func (l *Logins) known(user, addr string) (passwords []string, refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[user]
	if u == nil {
		return nil, ""
	}
	if r, has := u.refused[addr]; has && time.Since(r.at) < refusalKept {
		return nil, r.text
	}
	passwords = slices.Clone(u.passwords)
	if own, has := l.own[user]; has && !slices.Contains(passwords, own) {
		passwords = append(passwords, own)
	}
	return passwords, ""
}

// Refused returns why a node that has refused all passwords of a user lately need not be dialled; nil:
// it may be.
func (l *Logins) Refused(user, addr string) *LostError {
	if _, text := l.known(user, addr); text != "" && user != "" { // the default user may need no password any more
		return &LostError{Addr: addr, Refusal: text, Login: true}
	}
	return nil
}

// refuse records that a node has refused all passwords of a user.
func (l *Logins) refuse(user, addr, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[user]
	if u == nil {
		return
	}
	if u.refused == nil {
		u.refused = map[string]refusal{}
	}
	u.refused[addr] = refusal{text, time.Now()}
}

// demands records whether a node wants a password.
func (l *Logins) demands(wanted bool) {
	l.mu.Lock()
	l.demanded = wanted
	l.mu.Unlock()
	if l.OnDemand != nil {
		l.OnDemand(wanted)
	}
}
