package pool

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// warmer dials ahead, at DialRate, while there are fewer idle connections than MinIdle.
type warmer struct {
	pool *Pool
	// All goroutines that notice missing connections race for working. The losers rely on the
	// winner's timer.
	working atomic.Bool
	timer   *time.Timer
	failed  atomic.Int32 // dials of the pool that have failed since the last one that succeeded
}

// maxWarmPause bounds the pause between two dials ahead to a node that refuses connections.
const maxWarmPause = 5 * time.Second

func (w *warmer) init(p *Pool) {
	w.pool = p
	w.timer = stoppedTimer(w.work)
}

// look starts the timer if connections are missing.
func (w *warmer) look() {
	if w.missing() && w.working.CompareAndSwap(false, true) {
		w.timer.Reset(w.pause())
	}
}

// missing reports whether the settings want more idle connections than there are.
func (w *warmer) missing() bool {
	p := w.pool
	s := p.settings.Load()
	return s.MinIdle > 0 && s.DialRate > 0 && s.Enabled && !p.shut.Load() && int(p.idle.Load()) < s.minIdle() &&
		!p.limit.full(s)
}

// pause is how long to wait before the next dial: the interval of DialRate, longer after failures,
// and random so that pools and proxies that lost the same node do not come back together.
func (w *warmer) pause() time.Duration {
	rate := max(1, w.pool.settings.Load().DialRate)
	d := min(time.Second/time.Duration(rate)<<min(w.failed.Load(), 16), maxWarmPause)
	return d/2 + rand.N(d+1)
}

// work runs when the timer fires: it dials once, and sets the timer again while more are missing.
func (w *warmer) work() {
	p := w.pool
	if w.missing() {
		s := p.settings.Load()
		p.limit.mu.Lock()
		// Count total less leased: a connection between dialling and idle counts in neither of those.
		free := int(p.total.Load()) - sum(&p.leased)
		if free < s.minIdle() && p.mayDial(s) && !p.limit.full(s) {
			p.startDial(nil, backend.Identity{RESP: 2})
		}
		p.limit.mu.Unlock()
		w.timer.Reset(w.pause())
		return
	}
	w.working.Store(false)
	w.look() // a look between missing and the line above found working set
}

// dialed records how a dial of the pool ended.
func (w *warmer) dialed(err error) {
	if err == nil {
		w.failed.Store(0)
		return
	}
	w.failed.Add(1)
}

func (w *warmer) stop() { w.timer.Stop() }
