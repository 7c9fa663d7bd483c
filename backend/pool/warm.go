package pool

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// maxWarmPause bounds how long the warmer leaves a node alone that refuses connections.
const maxWarmPause = 5 * time.Second

// warmer dials ahead, at DialRate, while there are fewer idle connections than MinIdle.
type warmer struct {
	pool *Pool
	// working is raced for by all who notice that connections are missing; the losers rely on the
	// winner's timer.
	working atomic.Bool
	timer   *time.Timer
	refused atomic.Int32 // dials of the pool that failed since one succeeded
}

func (w *warmer) init(p *Pool) {
	w.pool = p
	w.timer = idleTimer(w.work)
}

// look starts the timer if connections are missing.
func (w *warmer) look() {
	if w.missing() && w.working.CompareAndSwap(false, true) {
		w.timer.Reset(w.pause())
	}
}

func (w *warmer) missing() bool {
	p := w.pool
	s := p.settings.Load()
	return s.MinIdle > 0 && s.DialRate > 0 && s.Enabled && !p.shut.Load() && int(p.idle.Load()) < s.minIdle() &&
		!p.limit.full(s)
}

// pause is how long to wait before the next dial: the rate's interval, longer after refusals,
// jittered so that pools and proxies that lost the same node do not come back in step.
func (w *warmer) pause() time.Duration {
	rate := max(1, w.pool.settings.Load().DialRate)
	d := min(time.Second/time.Duration(rate)<<min(w.refused.Load(), 16), maxWarmPause)
	return d/2 + rand.N(d+1)
}

// work is the timer's: one dial, and the timer again while more are missing.
func (w *warmer) work() {
	p := w.pool
	if w.missing() {
		s := p.settings.Load()
		p.limit.mu.Lock()
		// Not idle and dialing: a connection between the two would be in neither.
		if free := int(p.total.Load() - p.leased[brief].Load() - p.leased[long].Load()); free < s.minIdle() && p.mayDial(s) && !p.limit.full(s) {
			p.startDial(nil, backend.Identity{RESP: 2})
		}
		p.limit.mu.Unlock()
		w.timer.Reset(w.pause())
		return
	}
	w.working.Store(false)
	w.look() // what went missing between the two lines above found working still set
}

// dialed tells how a dial of the pool went.
func (w *warmer) dialed(err error) {
	if err == nil {
		w.refused.Store(0)
		return
	}
	w.refused.Add(1)
}

func (w *warmer) stop() { w.timer.Stop() }
