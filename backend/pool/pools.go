package pool

import (
	"maps"
	"sync"

	"github.com/berth-proxy/berth/backend"
)

// Pools are the pools of all nodes, users and credentials, made when first asked for. All loops share them.
type Pools struct {
	settings *Settings
	logins   *backend.Logins

	mu     sync.RWMutex // guards what follows; nothing blocks under it
	pools  map[poolKey]*Pool
	limits map[string]*nodeLimit // by node
	closed bool                  // new pools are closed at once
}

// poolKey is what a pool's connections have in common.
type poolKey struct {
	addr, user string
	credential uint32
}

// NewPools returns an empty set of pools that follow the settings.
func NewPools(settings *Settings, logins *backend.Logins) *Pools {
	return &Pools{settings: settings, logins: logins, pools: map[poolKey]*Pool{}, limits: map[string]*nodeLimit{}}
}

// For returns the pool of a node for the identity's user and credential. The identity's database and protocol do
// not matter.
func (ps *Pools) For(addr string, id backend.Identity) *Pool {
	key := poolKey{addr, id.User, id.Credential}
	ps.mu.RLock()
	p := ps.pools[key]
	ps.mu.RUnlock()
	if p != nil {
		return p
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p = ps.pools[key]; p == nil {
		p = newPool(addr, id, ps.logins, ps.settings, ps.limitOf(addr))
		ps.pools[key] = p
		if ps.closed {
			p.Close()
		}
	}
	return p
}

// limitOf returns the limit of a node. Called with mu locked.
func (ps *Pools) limitOf(addr string) *nodeLimit {
	nl := ps.limits[addr]
	if nl == nil {
		nl = newNodeLimit(ps.settings)
		ps.limits[addr] = nl
	}
	return nl
}

// Learn takes how many clients a node accepts, 0 if the node does not say, and how many it has,
// berth's connections included. While the settings have no MaxTotal, berth makes as many exclusive
// connections to the node as the difference allows, less a margin.
func (ps *Pools) Learn(addr string, maxClients, connected int) {
	ps.mu.Lock()
	nl := ps.limitOf(addr)
	ps.mu.Unlock()
	nl.learn(maxClients, connected)
}

// Limit returns how many exclusive connections berth makes to a node, and how many of them leases
// for blocking commands and for ReasonPin may hold; 0: any number.
func (ps *Pools) Limit(addr string) (all, blocking int) {
	ps.mu.RLock()
	nl := ps.limits[addr]
	ps.mu.RUnlock()
	s := ps.settings.Load()
	if nl == nil {
		nl = &nodeLimit{}
	}
	return nl.most(s), nl.mostLong(s)
}

// Each visits every pool that there is when it begins, with its node and user. visit may use the
// Pools: no lock is held meanwhile.
func (ps *Pools) Each(visit func(addr, user string, p *Pool)) {
	ps.mu.RLock()
	pools := maps.Clone(ps.pools)
	ps.mu.RUnlock()
	for key, p := range pools {
		visit(key.addr, key.user, p)
	}
}

// Reconnect replaces all connections to a node, or to all nodes if addr is "".
func (ps *Pools) Reconnect(addr string) {
	ps.Each(func(at, _ string, p *Pool) {
		if addr == "" || addr == at {
			p.Reconnect()
		}
	})
}

// Forget closes the pools of a user that no client speaks as any more, or of one credential of it.
func (ps *Pools) Forget(user string, credential uint32) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for key, p := range ps.pools {
		if key.user == user && (credential == 0 || credential == key.credential) {
			delete(ps.pools, key)
			p.Close()
		}
	}
}

// Retain closes the pools of nodes that are gone: their idle connections now, their leases when
// they are detached. A node that comes back gets a new pool.
func (ps *Pools) Retain(isNode func(addr string) bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for key, p := range ps.pools {
		if !isNode(key.addr) {
			delete(ps.pools, key)
			p.Close()
		}
	}
	for addr, nl := range ps.limits {
		if !isNode(addr) && nl.total.Load() == 0 { // leases that are left count if the node comes back
			delete(ps.limits, addr)
		}
	}
}

// Close closes every pool. For returns closed ones from then on.
func (ps *Pools) Close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.closed = true
	for _, p := range ps.pools {
		p.Close()
	}
}
