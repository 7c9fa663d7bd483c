package main

import (
	"sync"
	"time"
)

// notedNodes are nodes of which several, loops or pipes, have found the same. All loops share it.
type notedNodes struct {
	mu    sync.Mutex // guards nodes; nothing blocks under it
	nodes map[string]*notedNode
}

// notedNode is one of them.
type notedNode struct {
	by    int // how many find it so
	since time.Time
}

// note takes the word of one that finds a node so, or no longer. It reports whether that is the first one, and
// when it is the last one, for how long the node was found so. since is when that began. Called with mu locked.
func (n *notedNodes) note(addr string, is bool, since time.Time) (begins, ends bool, after time.Duration) {
	node := n.nodes[addr]
	switch {
	case is && node == nil:
		if n.nodes == nil {
			n.nodes = map[string]*notedNode{}
		}
		n.nodes[addr] = &notedNode{by: 1, since: since}
		return true, false, 0
	case is:
		node.by++
	case node != nil:
		if node.by--; node.by == 0 {
			delete(n.nodes, addr)
			return false, true, time.Since(node.since)
		}
	}
	return false, false, 0
}
