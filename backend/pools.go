package backend

import "sync"

// Pools are the pools of all nodes and users, made when first asked for. All loops share them.
type Pools struct {
	settings *PoolSettings

	mu     sync.RWMutex // guards pools and closed; nothing blocks under it
	pools  map[poolKey]*Pool
	closed bool
}

// poolKey is what a pool's connections have in common.
type poolKey struct{ addr, user, password string }

// NewPools makes an empty set of pools that follow the settings.
func NewPools(settings *PoolSettings) *Pools {
	return &Pools{settings: settings, pools: map[poolKey]*Pool{}}
}

// For is the pool of a node for the identity's user; its database and protocol are no matter.
func (ps *Pools) For(addr string, id Identity) *Pool {
	key := poolKey{addr, id.User, id.Password}
	ps.mu.RLock()
	p := ps.pools[key]
	ps.mu.RUnlock()
	if p != nil {
		return p
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p = ps.pools[key]; p == nil {
		p = NewPool(addr, id.User, id.Password, ps.settings)
		ps.pools[key] = p
		if ps.closed {
			p.Close()
		}
	}
	return p
}

// Each visits every pool, with its node and user.
func (ps *Pools) Each(visit func(addr, user string, p *Pool)) {
	ps.mu.RLock()
	defer ps.mu.RUnlock()
	for key, p := range ps.pools {
		visit(key.addr, key.user, p)
	}
}

// Retain closes the pools of nodes that are gone: their idle connections now, their leases when they are detached. A
// node that comes back gets a new pool.
func (ps *Pools) Retain(is func(addr string) bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for key, p := range ps.pools {
		if !is(key.addr) {
			delete(ps.pools, key)
			p.Close()
		}
	}
}

// Close closes every pool there is and will be.
func (ps *Pools) Close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.closed = true
	for _, p := range ps.pools {
		p.Close()
	}
}
