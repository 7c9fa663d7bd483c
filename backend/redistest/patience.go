package redistest

import (
	"sync"
	"time"
)

// Time limits that adapt to a busy machine.

// quickStart is how long a redis-server takes to answer PING on an idle machine.
const quickStart = 50 * time.Millisecond

// maxPatience is the largest factor, so that a test that waits in vain ends.
const maxPatience = 10

// slowness is the factor of Patience.
var slowness struct {
	sync.Mutex
	factor time.Duration
}

// measure adapts the factor to how long a server took to start.
func measure(took time.Duration) {
	slowness.Lock()
	defer slowness.Unlock()
	slowness.factor = min(max(slowness.factor, took/quickStart), maxPatience)
}

// Patience returns d on an idle machine, and up to ten times d on a busy one. The factor follows
// from the slowest start of a redis-server so far.
func Patience(d time.Duration) time.Duration {
	slowness.Lock()
	defer slowness.Unlock()
	return max(slowness.factor, 1) * d
}
