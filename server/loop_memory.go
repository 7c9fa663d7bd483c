package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// memory is all that berth tells Go about memory. What long requests and replies needed, what slow
// clients left unread and what many subscriptions took is given back soon. Go's collector runs when the heap has doubled: with
// one value of 500 MB in it that would be when there are two; and when nothing more is allocated, it
// does not run for minutes.
//
// Loops add to the counters; whoever brings a counter over its bound starts the work, and no other
// does.
type memory struct {
	garbage atomic.Int64 // bytes dropped since the last collection
	used    atomic.Int64 // bytes of long requests and replies, and of ended subscriptions, since memory was last released
	busyAt  atomic.Int64 // when the last of them did, unix nanoseconds
	at      atomic.Int64 // when memory was last released, unix nanoseconds
	peak    atomic.Int64 // most bytes that clients have held since memory was last released
	held    atomic.Int64 // bytes that clients hold
}

const (
	collectEvery = 64 << 20        // bytes of garbage
	releaseFrom  = 16 << 20        // bytes used; less is not worth the work
	releaseQuiet = time.Second     // so long nothing long has come, nor gone
	releasePause = 5 * time.Second // between two releases: each marks the heap once or twice
)

// pass enters bytes of a long reply or request that are on their way, or of a subscription that ends.
func (m *memory) pass(n int, now int64) {
	m.used.Add(int64(n))
	m.busyAt.Store(now)
}

// hold enters what clients hold. The loops race to raise the peak, and the loser tries again.
func (m *memory) hold(n int) {
	m.held.Store(int64(n))
	for peak := m.peak.Load(); int64(n) > peak && !m.peak.CompareAndSwap(peak, int64(n)); {
		peak = m.peak.Load()
	}
}

// drop enters bytes that are garbage from here on.
func (m *memory) drop(n int) {
	if before := m.garbage.Add(int64(n)); before >= collectEvery && m.garbage.CompareAndSwap(before, 0) {
		go runtime.GC()
	}
}

// tick gives the memory of a burst that is over back to the system.
func (m *memory) tick(now int64) {
	if m.due(now) {
		go func() {
			runtime.GC() // what a sync.Pool holds survives one
			debug.FreeOSMemory()
		}()
	}
}

// due reports whether a burst is over: nothing long has come for a while, or clients hold less than
// half of what they did.
func (m *memory) due(now int64) bool {
	if now-m.at.Load() < int64(releasePause) {
		return false
	}
	used, peak, held := m.used.Load(), m.peak.Load(), m.held.Load()
	switch quiet := now-m.busyAt.Load() >= int64(releaseQuiet); {
	case used >= releaseFrom && quiet && m.used.CompareAndSwap(used, 0):
	case peak-held >= releaseFrom && held < peak/2 && m.peak.CompareAndSwap(peak, held):
	default:
		return false
	}
	m.at.Store(now)
	return true
}

// limitMemory has Go collect more often when the memory that berth may have is nearly full, unless
// GOMEMLIMIT says otherwise.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(machineMemory()) / 10 * 9)
	}
}

// machineMemory is how many bytes the process may have: the limit of its control group or of one
// above, or what the machine has.
var machineMemory = sync.OnceValue(func() int {
	least := int(math.MaxInt64 / 100)
	if n := fieldAfter("/proc/meminfo", "MemTotal:"); n > 0 {
		least = n << 10
	}
	groups, _ := os.ReadFile("/proc/self/cgroup")
	for line := range bytes.Lines(groups) {
		id, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		kinds, path, _ := bytes.Cut(rest, []byte(":"))
		root, file := "/sys/fs/cgroup", "memory.max"
		if string(kinds) == "memory" {
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if string(id) != "0" {
			continue
		}
		for dir := filepath.Clean("/" + string(path)); ; dir = filepath.Dir(dir) {
			if n := fieldAfter(filepath.Join(root, dir, file), ""); n > 0 {
				least = min(least, n)
			}
			if dir == "/" {
				break
			}
		}
	}
	return least
})

// fieldAfter is the number after a name in a file of the kernel, 0 if there is none.
func fieldAfter(path, name string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	_, after, _ := bytes.Cut(text, []byte(name))
	words := bytes.Fields(after)
	if len(words) == 0 {
		return 0
	}
	n, err := strconv.Atoi(string(words[0]))
	if err != nil {
		return 0
	}
	return n
}
