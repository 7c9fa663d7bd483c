package pool

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Reason is why a session wants a connection of its own.
type Reason uint8

const (
	ReasonTxn   Reason = iota // WATCH … EXEC
	ReasonBlock               // a blocking command
	ReasonLarge               // a long request, or a read whose reply is expected to be long
	ReasonPin                 // SUBSCRIBE, MONITOR, CLIENT TRACKING, PSYNC: until the client goes
	numReasons
)

func (r Reason) String() string { return [numReasons]string{"watch", "blocking", "large", "pinned"}[r] }

// Reasons lists every Reason, for metrics.
func Reasons() []Reason { return []Reason{ReasonTxn, ReasonBlock, ReasonLarge, ReasonPin} }

// Buckets are the upper bounds of a DurationHistogram's buckets. One more bucket, without a bound,
// follows.
var Buckets = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 60 * time.Second,
}

// DurationHistogram counts durations by Buckets.
type DurationHistogram struct {
	Counts [len(Buckets) + 1]uint64 // not cumulative
	Sum    time.Duration
}

// Stats is a pool at one moment. Each number is exact; together they may be a moment apart.
type Stats struct {
	Idle, Leased, Dialing int           // connections
	Waiting               int           // Waiters
	LeasedLong            int           // of Leased, those for blocking commands and for ReasonPin
	WaitingLong           int           // of Waiting, those for blocking commands and for ReasonPin
	Limit, LimitLong      int           // of the node, for all its pools together; 0: none
	OldestWait            time.Duration // for how long the oldest Waiter has waited

	Hits        uint64            // Gets that got an idle connection at once
	Misses      uint64            // the other Gets
	Dials       uint64            // begun
	DialErrors  uint64            // dials that failed, the handshake included
	Evictions   uint64            // connections closed because they were idle for IdleTime
	Waits       uint64            // Waiters that were answered, with a lease or an error
	WaitTimeout uint64            // of Waits, those that got ErrTimeout
	DialErr     error             // why a dial failed last; nil: none failed
	DialErrAt   time.Time         // when it failed
	Closes      map[string]uint64 // connections closed, by reason

	Hold [numReasons]DurationHistogram // for how long leases were held
	Wait [numReasons]DurationHistogram // for how long Waiters waited
}

// metrics is what a pool counts. The exclusive path can afford atomics.
type metrics struct {
	hits, misses, dials, dialErrors, evictions, waits, waitTimeouts atomic.Uint64

	hold, wait [numReasons]histogram

	mu        sync.Mutex // guards what follows; nothing blocks under it
	closes    map[string]uint64
	dialErr   error
	dialErrAt time.Time
}

func (m *metrics) dialFailed(err error) {
	m.dialErrors.Add(1)
	m.mu.Lock()
	m.dialErr, m.dialErrAt = err, time.Now()
	m.mu.Unlock()
}

func (m *metrics) closed(why string) {
	m.mu.Lock()
	if m.closes == nil {
		m.closes = make(map[string]uint64)
	}
	m.closes[why]++
	m.mu.Unlock()
}

func (m *metrics) snapshot() Stats {
	s := Stats{
		Hits: m.hits.Load(), Misses: m.misses.Load(),
		Dials: m.dials.Load(), DialErrors: m.dialErrors.Load(),
		Evictions: m.evictions.Load(),
		Waits:     m.waits.Load(), WaitTimeout: m.waitTimeouts.Load(),
	}
	for r := range numReasons {
		s.Hold[r], s.Wait[r] = m.hold[r].snapshot(), m.wait[r].snapshot()
	}
	m.mu.Lock()
	s.Closes = maps.Clone(m.closes)
	s.DialErr, s.DialErrAt = m.dialErr, m.dialErrAt
	m.mu.Unlock()
	return s
}

type histogram struct {
	counts [len(Buckets) + 1]atomic.Uint64
	sum    atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(Buckets) && d > Buckets[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

func (h *histogram) snapshot() (s DurationHistogram) {
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
	}
	s.Sum = time.Duration(h.sum.Load())
	return s
}
