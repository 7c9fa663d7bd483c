package pool

import (
	"sync"
	"sync/atomic"
	"time"
)

// Values are the settings of all pools. The first four are those of the specification, under
// its names.
type Values struct {
	Enabled  bool          // private_conn_pool_enabled: connections are kept for the next holder
	IdleTime time.Duration // private_conn_idle_time_sec: how long one may be idle; 0: closed at detach
	MaxIdle  int           // private_conn_pool_max_idle_per_db: with so many idle, a detached one is closed
	MinIdle  int           // private_conn_pool_min_idle_per_db: so many are kept past IdleTime, and dialled ahead

	MaxTotal        int           // connections of a node, idle, leased and being dialled; 0: derived, see Pools.Learn
	BlockingShare   int           // percent of them that blocking commands and pins may hold
	WaitTimeout     time.Duration // how long a Get may wait before it fails with ErrPoolTimeout; 0: for ever
	HealthCheck     time.Duration // how long a connection may be idle before it has to answer a PING; 0: for ever
	DialTimeout     time.Duration // for a connection and its handshake together; 0: no limit
	DialConcurrency int           // dials of a pool at the same time; 0: no limit
	DialRate        int           // connections dialled ahead for MinIdle per second; 0: none are
}

// DefaultValues are the settings' defaults. The specification's default for Enabled is off;
// berth's is on.
func DefaultValues() Values {
	return Values{
		Enabled:         true,
		IdleTime:        60 * time.Second,
		MaxIdle:         1000,
		BlockingShare:   40, // with all of it in use, what is left to transactions makes them wait less than twice as long
		WaitTimeout:     500 * time.Millisecond,
		HealthCheck:     30 * time.Second,
		DialTimeout:     time.Second,
		DialConcurrency: 16,
		DialRate:        50,
	}
}

// minIdle is MinIdle as far as MaxIdle lets it count.
func (v *Values) minIdle() int { return min(v.MinIdle, v.MaxIdle) }

// Settings are the PoolValues that any number of pools share and that change while they run.
type Settings struct {
	current atomic.Pointer[Values] // swapped as one, so that nobody sees half a change

	mu    sync.Mutex // guards pools, and orders changes
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

// Change lets change edit a copy of the values and puts the copy in force, in every pool at once.
// What has become too much is closed before Change returns; leases in use are never touched.
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
