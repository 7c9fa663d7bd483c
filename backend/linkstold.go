package backend

import "sync"

// linksTold is what the log has told of links to nodes, so that it tells it once. All loops and pools share
// it. The zero value has told nothing.
type linksTold struct {
	mu   sync.Mutex       // guards what follows
	met  map[meeting]bool // which links were up; at most maxMet
	gone map[string]bool  // nodes to which links were lost, none of them up since; at most maxMet
}

// meeting is a kind of link of a user and a database with a node.
type meeting struct {
	kind, addr, user string
	db               int
}

// maxMet is how many links are remembered. Those beyond count as known.
const maxMet = 4096

// meets reports whether a link of a kind is the first one that is up between an identity's user, in its
// database, and a node.
func (t *linksTold) meets(kind, addr string, id Identity) bool {
	m := meeting{kind, addr, id.User, id.DB}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.met[m] || len(t.met) >= maxMet {
		return false
	}
	if t.met == nil {
		t.met = map[meeting]bool{}
	}
	t.met[m] = true
	return true
}

// lost enters that a link to a node is lost.
func (t *linksTold) lost(addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone == nil || len(t.gone) >= maxMet {
		t.gone = map[string]bool{}
	}
	t.gone[addr] = true
}

// isBack reports whether a link that is up now is the first one since links to the node were lost.
func (t *linksTold) isBack(addr string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	back := t.gone[addr]
	delete(t.gone, addr)
	return back
}
