package pool

import (
	"net/netip"
	"sync"
)

// Owner is a Holder that can say for which address it asks. The zero address stands for all that
// have none.
type Owner interface{ Owner() netip.Addr }

// party is in whose name a lease of class long is held: a user, and of its clients those of one
// address.
type party struct {
	user string
	from netip.Addr
}

// shares counts what each party of a node holds of the leases of class long, and waits for. No
// client is trusted to leave something for others: one can block on as many keys as it likes. A user
// that has its share, and an address that has its share of the user's, may not have the last
// connections. What is a share depends on who else is there; there is always room for one more.
//
//	mostLong ├──── any ────┤── users or addresses with less than a share ──┤── users with less ──┤
//
// Where nobody else is there, a share is half of all, and the last eighth stays free.
type shares struct {
	mu    sync.Mutex // guards users; nothing else is locked under it
	users map[string]*userShare
}

// userShare is what one user has.
type userShare struct {
	held  int
	addrs map[netip.Addr]int
}

// join counts one more of a party, and returns the class for it. most is how many leases of class
// long there may be; 0: any number.
func (sh *shares) join(p party, most int) class {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.users == nil {
		sh.users = map[string]*userShare{}
	}
	u := sh.users[p.user]
	if u == nil {
		u = &userShare{addrs: map[netip.Addr]int{}}
		sh.users[p.user] = u
	}
	u.held++
	u.addrs[p.from]++
	k := long
	if most > 0 && u.held > most/(len(sh.users)+1) {
		k++
	}
	if most > 0 && u.addrs[p.from] > most/len(sh.users)/(len(u.addrs)+1) {
		k++
	}
	return k
}

// leave is the opposite of join.
func (sh *shares) leave(p party) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	u := sh.users[p.user]
	u.held--
	if u.addrs[p.from]--; u.addrs[p.from] == 0 {
		delete(u.addrs, p.from)
	}
	if u.held == 0 {
		delete(sh.users, p.user)
	}
}
