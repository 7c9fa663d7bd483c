package feed

import "maps"

// named holds values by name. Go's maps keep the memory of the most entries they ever had: one that
// has become nearly empty is copied to a new one. The zero value is empty.
type named[V any] struct {
	of   map[string]V // nil: empty. Read it as you like, change it with put and remove alone
	peak int          // most entries since of was made
}

// namedKept is how many entries a map may have had without being copied.
const namedKept = 4096

// put enters a value.
func (n *named[V]) put(name string, v V) {
	if n.of == nil {
		n.of = map[string]V{}
	}
	n.of[name] = v
	n.peak = max(n.peak, len(n.of))
}

// remove takes a name out. A range over of that is under way may still meet what is removed.
func (n *named[V]) remove(name string) {
	delete(n.of, name)
	if n.peak <= namedKept || len(n.of) >= n.peak/8 {
		return
	}
	fewer := make(map[string]V, len(n.of))
	maps.Copy(fewer, n.of)
	n.of, n.peak = fewer, len(fewer)
}
