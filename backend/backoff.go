package backend

import (
	"math/rand/v2"
	"time"
)

// BackOff is the pause before something that failed is tried again. Each failure doubles the pause.
// A random half is taken off, so that many do not try in the same instant. The zero value is no
// pause.
//
// Owned by the event loop.
type BackOff struct {
	pause time.Duration // of the latest failure, before the random part was taken off
	until int64         // when the pause is over, unix nanoseconds
}

// The first and the longest pause.
const (
	BackOffMin = 50 * time.Millisecond
	BackOffMax = 2 * time.Second
)

// Over reports whether the next attempt may begin.
func (b *BackOff) Over(now int64) bool { return now >= b.until }

// Failed begins a pause, twice as long as the one before.
func (b *BackOff) Failed(now int64) {
	b.pause = min(max(2*b.pause, BackOffMin), BackOffMax)
	b.until = now + int64(b.pause)/2 + rand.Int64N(int64(b.pause)/2)
}

// Worked makes the next failure count as the first. A pause that has begun is not cut short.
func (b *BackOff) Worked() { b.pause = 0 }
