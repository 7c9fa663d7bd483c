package main

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// memory sees to it that what long requests and replies needed is given back soon. Go's collector
// runs when the heap has doubled: with one value of 500 MB in it that would be when there are two.
//
// Loops add to the counters; whoever brings a counter over its bound starts the work, and no other
// does.
type memory struct {
	garbage atomic.Int64 // bytes dropped since the last collection
	used    atomic.Int64 // bytes that went through long requests and replies since memory was last released
	busyAt  atomic.Int64 // when the last of them did, unix nanoseconds
	at      atomic.Int64 // when memory was last released, unix nanoseconds
}

const (
	collectEvery = 64 << 20         // bytes of garbage
	releaseFrom  = 16 << 20         // bytes used; less is not worth the work
	releaseQuiet = time.Second      // so long nothing long has come, nor gone
	releasePause = 10 * time.Second // between two releases
)

// pass enters bytes of a long reply or request that are on their way.
func (m *memory) pass(n int, now int64) {
	m.used.Add(int64(n))
	m.busyAt.Store(now)
}

// drop enters bytes that are garbage from here on.
func (m *memory) drop(n int) {
	if before := m.garbage.Add(int64(n)); before >= collectEvery && m.garbage.CompareAndSwap(before, 0) {
		go runtime.GC()
	}
}

// tick gives the memory of a burst that is over back to the system.
func (m *memory) tick(now int64) {
	used, at := m.used.Load(), m.at.Load()
	if used < releaseFrom || now-m.busyAt.Load() < int64(releaseQuiet) || now-at < int64(releasePause) {
		return
	}
	if m.used.CompareAndSwap(used, 0) {
		m.at.Store(now)
		go func() {
			runtime.GC() // what a sync.Pool holds survives one
			debug.FreeOSMemory()
		}()
	}
}
