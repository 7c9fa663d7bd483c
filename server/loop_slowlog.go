package main

import (
	"math"
	"sync"

	"github.com/berth-proxy/berth/server/config"
)

// slowLog is the latest requests that took long: PROXY SLOWLOG. All loops share it.
type slowLog struct {
	mu      sync.Mutex  // guards what follows; nothing blocks under it
	entries []slowEntry // oldest first
	next    int64       // the number of the next one
	most    int
}

// slowEntry is one request.
type slowEntry struct {
	id            int64
	at            int64 // when it was answered, unix nanoseconds
	held          int64 // nanoseconds in berth before it was sent
	node          int64 // nanoseconds until the node's reply
	words         []string
	from, to      string // the client's address, and the node's
	client, owner string // the client's name, and its user
}

// Redis shows so much of a request in its SLOWLOG.
const (
	slowWords    = 32
	slowWordSize = 128
)

// slowFrom is how long a request must take to be kept, in nanoseconds.
func slowFrom(cfg *config.Config) int64 {
	if cfg.SlowlogSlowerThan < 0 {
		return math.MaxInt64
	}
	return int64(cfg.SlowlogSlowerThan) * 1e3
}

// resize bounds the log.
func (g *slowLog) resize(most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most = most
	g.trim()
}

func (g *slowLog) trim() {
	if over := len(g.entries) - g.most; over > 0 {
		g.entries = append([]slowEntry(nil), g.entries[over:]...)
	}
}

// add keeps a request.
func (g *slowLog) add(e slowEntry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e.id = g.next
	g.next++
	g.entries = append(g.entries, e)
	if len(g.entries) > 2*g.most {
		g.trim()
	}
}

// latest returns at most n entries, the newest first; n < 0: all.
func (g *slowLog) latest(n int) (all []slowEntry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.entries[max(len(g.entries)-g.most, 0):]
	if n < 0 || n > len(kept) {
		n = len(kept)
	}
	for i := range n {
		all = append(all, kept[len(kept)-1-i])
	}
	return all
}

// len is how many entries are kept.
func (g *slowLog) len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return min(len(g.entries), g.most)
}

// reset forgets all entries.
func (g *slowLog) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entries = nil
}
