package redistest

import (
	"sync"
	"time"
)

// quickStart is how long a redis-server takes to answer PING on a machine that is not busy.
const quickStart = 50 * time.Millisecond

// maxPatience is the largest factor: a test that waits in vain has to end.
const maxPatience = 10

// slowness is the factor of Patience.
var slowness struct {
	sync.Mutex
	factor time.Duration
}

// measure learns from how long a server took to start.
func measure(took time.Duration) {
	slowness.Lock()
	defer slowness.Unlock()
	slowness.factor = min(max(slowness.factor, took/quickStart), maxPatience)
}

// Patience is d on a machine that is not busy, and up to ten times d on one whose slowest start of a redis-server has
// shown that it starves this process.
func Patience(d time.Duration) time.Duration {
	slowness.Lock()
	defer slowness.Unlock()
	return max(slowness.factor, 1) * d
}
