package pool

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// Values are the settings of all pools at one moment. The first four have the names of the
// specification.
type Values struct {
	Enabled  bool          // private_conn_pool_enabled: connections are kept for the next holder
	IdleTime time.Duration // private_conn_idle_time_sec: how long one may be idle; 0: closed at detach
	MaxIdle  int           // private_conn_pool_max_idle_per_db: if so many are idle, a detached one is closed
	MinIdle  int           // private_conn_pool_min_idle_per_db: so many are kept past IdleTime, and dialled ahead

	MaxTotal        int           // connections to a node: idle, leased, being dialled; 0: see Pools.Learn
	BlockingShare   int           // percent of MaxTotal that blocking commands and ReasonPin may hold
	WaitTimeout     time.Duration // how long a Get may wait before it fails with ErrTimeout; 0: for ever
	HealthCheck     time.Duration // how long a connection may be idle before it must answer a PING; 0: for ever
	DialTimeout     time.Duration // for a connection and its handshake together; 0: no limit
	DialConcurrency int           // dials of a pool at the same time; 0: no limit
	DialRate        int           // connections dialled ahead for MinIdle, per second; 0: none
}

// DefaultValues returns the defaults. The specification's default for Enabled is off; berth's is on.
func DefaultValues() Values {
	return Values{
		Enabled:         true,
		IdleTime:        60 * time.Second,
		MaxIdle:         1000,
		BlockingShare:   40, // even if all of it is in use, transactions wait less than twice as long
		WaitTimeout:     500 * time.Millisecond,
		HealthCheck:     30 * time.Second,
		DialTimeout:     time.Second,
		DialConcurrency: 16,
		DialRate:        50,
	}
}

// minIdle is MinIdle, but at most MaxIdle.
func (v *Values) minIdle() int { return min(v.MinIdle, v.MaxIdle) }

// Settings are Values that any number of pools share and that change while the pools run.
type Settings struct {
	Dialer *backend.Dialer // set before the first pool is made

	current atomic.Pointer[Values] // swapped as one, so that half a change is never seen

	mu    sync.Mutex // guards pools, and orders changes; held while pools apply a change
	pools map[*Pool]struct{}
}

// NewSettings returns settings that begin with v.
func NewSettings(v Values) *Settings {
	s := &Settings{pools: make(map[*Pool]struct{})}
	s.current.Store(&v)
	return s
}

// Load returns the values in force. They are shared and must not be written.
func (s *Settings) Load() *Values { return s.current.Load() }

// Change lets change edit a copy of the values, and puts the copy in force in every pool. Idle
// connections that have become too many are closed before Change returns. Leases are never touched.
func (s *Settings) Change(change func(v *Values)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := *s.current.Load()
	change(&v)
	s.current.Store(&v)
	for p := range s.pools {
		p.apply()
	}
}

func (s *Settings) add(p *Pool) {
	s.mu.Lock()
	s.pools[p] = struct{}{}
	s.mu.Unlock()
}

func (s *Settings) remove(p *Pool) {
	s.mu.Lock()
	delete(s.pools, p)
	s.mu.Unlock()
}
