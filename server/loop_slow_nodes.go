package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// slowNodes are the nodes that have owed a reply for longer than a second. All loops share it.
type slowNodes struct {
	n     atomic.Int32 // how many there are
	mu    sync.Mutex   // guards nodes; nothing blocks under it
	nodes map[string]*slowNode
}

// slowNode is one of them.
type slowNode struct {
	pipes int // that wait for it
	since time.Time
}

// note takes the word of a pipe: see pipe.Pipes.OnSlow.
func (n *slowNodes) note(addr string, slow bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer func() { n.n.Store(int32(len(n.nodes))) }()
	node := n.nodes[addr]
	switch {
	case slow && node == nil:
		if n.nodes == nil {
			n.nodes = map[string]*slowNode{}
		}
		n.nodes[addr] = &slowNode{pipes: 1, since: time.Now().Add(-time.Second)}
		slog.Warn("node slow", "node", addr, "why", "it has owed a reply for a second")
	case slow:
		node.pipes++
	case node == nil:
	default:
		if node.pipes--; node.pipes == 0 {
			delete(n.nodes, addr)
			slog.Info("node no longer slow", "node", addr, "after", time.Since(node.since).Round(time.Millisecond))
		}
	}
}

// is reports whether a node is one of them.
func (n *slowNodes) is(addr string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[addr] != nil
}

// String says which nodes are slow, "" if none is.
func (n *slowNodes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var words []string
	for addr, node := range n.nodes {
		words = append(words, fmt.Sprintf("%s has owed a reply for %v", addr, time.Since(node.since).Round(100*time.Millisecond)))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}
