package pool

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/netpoll"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
)

// soaker is one event loop with one session on it, which attaches, uses and detaches for ever. Its loop is its own
// goroutine: it drains its inbox when it has nothing else to do.
type soaker struct {
	t      *testing.T
	pool   *Pool
	owners *sync.Map // *exclusive → *atomic.Pointer[soaker]
	wake   chan struct{}
	inbox  *Inbox
	rand   *rand.Rand

	lease    *Lease
	answered bool
	replies  int
	timeouts int
	losses   int
}

func (s *soaker) Attached(l *Lease, err error) {
	s.answered = true
	switch {
	case l != nil:
		s.own(l)
	case errors.Is(err, ErrTimeout):
		s.timeouts++
	default:
		s.t.Errorf("Get says %v", err)
	}
}

func (s *soaker) LeaseReply(l *Lease, reply []byte) {
	if l != s.lease || string(reply) != "+PONG\r\n" {
		s.t.Errorf("reply %q for somebody else", reply)
	}
	s.replies++
}

func (s *soaker) LeaseLost(l *Lease, _ error) {
	if l != s.lease {
		s.t.Error("somebody else's loss")
	}
	s.disown()
	s.losses++
}

func (s *soaker) own(l *Lease) {
	s.lease = l
	v, _ := s.owners.LoadOrStore(l.conn, new(atomic.Pointer[soaker]))
	if !v.(*atomic.Pointer[soaker]).CompareAndSwap(nil, s) {
		s.t.Error("a connection has two owners")
	}
}

func (s *soaker) disown() {
	v, _ := s.owners.Load(s.lease.conn)
	if !v.(*atomic.Pointer[soaker]).CompareAndSwap(s, nil) {
		s.t.Error("a connection was somebody else's")
	}
	s.lease = nil
}

func (s *soaker) drainUntil(cond func() bool) {
	for !cond() {
		<-s.wake
		s.inbox.Drain()
	}
}

var soakPing = codec.AppendCommandString(nil, "PING")

// visit is one Get and what follows.
func (s *soaker) visit() {
	s.answered = false
	db := 0
	if s.rand.IntN(20) == 0 {
		db = 1
	}
	l, w := s.pool.Get(s, s.inbox, backend.Identity{DB: db}, Reason(s.rand.IntN(int(numReasons))))
	switch {
	case l != nil:
		s.own(l)
	case s.rand.IntN(16) == 0:
		w.Cancel()
		return
	default:
		s.drainUntil(func() bool { return s.answered })
	}
	if s.lease == nil {
		return
	}
	dice := s.rand.IntN(256)
	if dice < 32 {
		s.replies = 0
		lost := s.losses
		s.lease.Send(soakPing, 1)
		s.lease.Flush()
		s.drainUntil(func() bool { return s.replies > 0 || s.losses > lost })
	}
	switch l := s.lease; {
	case l == nil:
	case dice == 255:
		s.disown()
		l.Close("soak")
	default:
		if dice == 254 {
			l.Mark(DirtMulti)
		}
		s.disown()
		l.Detach()
	}
}

// soakFor is how long the soak lasts, for example SOAK_FOR=60s; without it, it is so many turns.
var soakFor, _ = time.ParseDuration(os.Getenv("SOAK_FOR"))

// 100,000 turns on 64 loops while the settings change and connections hang up: no connection is shared, and at the
// end every count is right.
func TestManyLoopsShareAPoolUnderChangingSettings(t *testing.T) {
	const loops, turns, turnsPerChange = 64, 30000, 100
	longest, second := 20*time.Millisecond, 10*time.Millisecond
	if soakFor > 0 {
		longest, second = time.Second, time.Second
	}
	node := newScriptedOn(t, t.TempDir()+"/s", func(c *scriptedConn) {
		for cmd := c.read(); cmd != ""; cmd = c.read() {
			if cmd == "PING" {
				c.say("+PONG\r\n")
				if rand.IntN(200) == 0 {
					return
				}
			} else {
				c.say("+OK\r\n")
			}
		}
	})
	startPollers()
	netpoll.Initialize() // its own descriptors stay
	files := openFiles(t)
	p, settings := newTestPool(t, node.addr, nil)
	var owners sync.Map
	soakers := make([]*soaker, loops)
	var running, changing sync.WaitGroup
	var done atomic.Int64
	change := make(chan struct{}, turns/turnsPerChange)
	began := time.Now()
	for i := range soakers {
		s := &soaker{t: t, pool: p, owners: &owners, wake: make(chan struct{}, 1), rand: rand.New(rand.NewPCG(1, uint64(i)))}
		s.inbox = NewInbox(func() {
			select {
			case s.wake <- struct{}{}:
			default:
			}
		})
		soakers[i] = s
		running.Go(func() {
			for n := 0; soakFor > 0 && time.Since(began) < soakFor || soakFor == 0 && n < turns/loops; n++ {
				s.visit()
				if done.Add(1)%turnsPerChange == 0 {
					change <- struct{}{}
				}
			}
		})
	}
	changes, most := 0, 0
	changing.Go(func() {
		for range change {
			changes++
			most = max(most, p.Size())
			settings.Change(func(v *Values) {
				v.Enabled = rand.IntN(16) > 0
				v.IdleTime = min(longest, time.Duration(rand.IntN(3))*second)
				v.HealthCheck = time.Duration(rand.IntN(2)) * 5 * time.Millisecond
				v.BlockingShare = 1 + rand.IntN(100)
				v.MaxIdle = rand.IntN(40)
				v.MinIdle = rand.IntN(10)
				v.MaxTotal = rand.IntN(3) * 24
				v.DialConcurrency = rand.IntN(9)
				v.DialRate = rand.IntN(2) * 1000
				v.WaitTimeout = time.Duration(1+rand.IntN(200)) * time.Millisecond
			})
		}
	})
	running.Wait()
	took := time.Since(began)
	close(change)
	changing.Wait()

	eventually(t, "no dial runs", func() bool { return p.Stats().Dialing == 0 })
	st := p.Stats()
	if a := p.limit; a.long.Load() != 0 || a.total.Load() != p.total.Load() || len(a.conns) != int(p.total.Load()) {
		t.Fatalf("%d connections in all; of the node %d, %d of them listed, %d blocking", p.total.Load(), a.total.Load(), len(a.conns), a.long.Load())
	}
	if st.Leased != 0 || st.Waiting != 0 || p.total.Load() != p.idle.Load() {
		t.Fatalf("%d connections in all; stats are %+v", p.total.Load(), st)
	}
	if v := settings.Load(); st.Idle > v.MaxIdle || st.Idle > 0 && !v.Enabled {
		t.Fatalf("%d are idle under %+v", st.Idle, v)
	}
	timeouts, losses := 0, 0
	for _, s := range soakers {
		timeouts, losses = timeouts+s.timeouts, losses+s.losses
	}
	t.Logf("figure: %.0f attaches and detaches per second for %s, no more than %d connections", float64(done.Load())/took.Seconds(),
		took.Round(time.Millisecond), most)
	t.Logf("%d setting changes, %d timeouts, %d losses, %d hits, %d dials; %+v", changes, timeouts, losses, st.Hits, st.Dials, st.Closes)
	p.Close()
	if st := p.Stats(); st.Idle != 0 || p.total.Load() != 0 || p.evictor.wheel.len != 0 {
		t.Fatalf("%d connections in all, %d in the wheel; stats are %+v", p.total.Load(), p.evictor.wheel.len, st)
	}
	eventually(t, "no descriptor is left", func() bool { return openFiles(t) <= files })
}
