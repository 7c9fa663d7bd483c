package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// slowNodes are the nodes that have owed a reply for longer than a second. All loops share it.
type slowNodes struct {
	notedNodes
	n atomic.Int32 // how many there are
}

// note takes the word of a pipe: see pipe.Pipes.OnSlow.
func (n *slowNodes) note(addr string, slow bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	begins, ends, after := n.notedNodes.note(addr, slow, time.Now().Add(-time.Second))
	n.n.Store(int32(len(n.nodes)))
	switch {
	case begins:
		slog.Warn("node slow", "node", addr, "why", "it has owed a reply for a second")
	case ends:
		slog.Info("node no longer slow", "node", addr, "after", after.Round(time.Millisecond))
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
