package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// queue is numbered elements, pushed on lists at a node and taken by clients elsewhere, and who got which.
type queue struct {
	t     testing.TB
	node  *redistest.Server
	lists int
	taken []atomic.Int32 // by element
	twice atomic.Int64
	got   atomic.Int64
	wrong findings
}

func newQueue(t testing.TB, node *redistest.Server, lists, elements int) *queue {
	return &queue{t: t, node: node, lists: lists, taken: make([]atomic.Int32, elements)}
}

func (q *queue) list(i int) string { return fmt.Sprint("queue:", i%q.lists) }

// enter notes that a client got a reply to a BLPOP; it returns the element's number.
func (q *queue) enter(reply loadReply) int {
	if reply.kind != '*' || len(reply.elems) != 2 {
		q.wrong.add("BLPOP: %v", reply)
		return -1
	}
	n, err := strconv.Atoi(reply.elems[1].text)
	if err != nil || n >= len(q.taken) {
		q.wrong.add("BLPOP: %v", reply)
		return -1
	}
	if q.taken[n].Add(1) > 1 {
		q.twice.Add(1)
	}
	q.got.Add(1)
	return n
}

// missing is how many elements nobody has got, when what is left in the lists has been entered too.
func (q *queue) missing() (lost int) {
	c := dial(q.t, q.node.Addr())
	defer c.Close()
	for i := range q.lists {
		for _, e := range c.Do("LRANGE", q.list(i), 0, -1).([]any) {
			n, _ := strconv.Atoi(e.(string))
			if q.taken[n].Add(1) > 1 {
				q.twice.Add(1)
			}
		}
	}
	for i := range q.taken {
		if q.taken[i].Load() == 0 {
			lost++
		}
	}
	return lost
}

// leavers take elements, or leave while they wait, by FIN or RST, until done is closed. left is how often.
func (q *queue) leavers(addr string, clients int, done chan struct{}) (left *atomic.Int64, wait func()) {
	left = new(atomic.Int64)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(7, uint64(i)))
			for {
				c, err := dialLoad(addr)
				if err != nil {
					q.wrong.add("dial: %v", err)
					return
				}
				for range 1 + dice.IntN(10) {
					c.add("BLPOP", q.list(dice.IntN(q.lists)), "0.05")
					if c.flush() != nil {
						break
					}
					reply, err := c.read()
					if err != nil {
						q.wrong.add("read: %v", err)
						break
					}
					if reply.kind != '_' {
						q.enter(reply)
					}
				}
				c.add("BLPOP", q.list(dice.IntN(q.lists)), "0")
				_ = c.flush()
				pace(time.Duration(dice.IntN(1000)) * time.Microsecond)
				if dice.IntN(2) == 0 {
					_ = c.nc.(*net.TCPConn).SetLinger(0)
				}
				c.close()
				left.Add(1)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	return left, all.Wait
}

// pace lets so much time pass for the others.
func pace(d time.Duration) {
	<-time.After(d)
}

// Clients that leave while elements come lose what was already on its way to them, and nothing else. That is no more than
// clients of the node itself lose in the same run.
func TestElementsReachOneClientWhileOthersLeave(t *testing.T) {
	parallel(t)
	elements := sized(3000, 40_000)
	run := func(addr string, node *redistest.Server) (q *queue, left int64) {
		q = newQueue(t, node, 5, elements)
		done := make(chan struct{})
		leavers, wait := q.leavers(addr, sized(10, 40), done)
		pusher := dial(t, node.Addr())
		for n := range elements {
			pusher.Do("RPUSH", q.list(n), n)
		}
		close(done)
		wait()
		return q, leavers.Load()
	}
	direct := redistest.Start(t)
	theirs, leftDirect := run(direct.Addr(), direct)
	awaitBlocked(t, direct, 0)
	lostDirect := theirs.missing()

	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "2")
	ours, left := run(b.Addr(), node)
	b.awaitNoGroups(t)
	lost := ours.missing()
	ours.wrong.none(t, "wrong replies")
	if n := ours.twice.Load(); n != 0 {
		t.Errorf("%d elements were had twice", n)
	}
	if int64(lost) > left {
		t.Errorf("%d elements lost by %d clients that left", lost, left)
	}
	figure(t, "%d elements, clients that leave while they wait: through berth %d left and %d elements were lost, directly %d and %d; had twice: %d and %d; orphans %v",
		elements, left, lost, leftDirect, lostDirect, ours.twice.Load(), theirs.twice.Load(), b.figures(t).LaneStats.Orphans)
}

// wakeUps is how long elements took from their push to their client, and how long clients waited for one.
type wakeUps struct {
	wake, wait []time.Duration
}

func (w *wakeUps) String() string {
	slices.Sort(w.wake)
	slices.Sort(w.wait)
	at := func(d []time.Duration, p float64) time.Duration {
		return d[int(p*float64(len(d)-1))].Round(time.Microsecond)
	}
	return fmt.Sprintf("wake-up p50 %s p99 %s max %s, waits median %s max %s (%.1f times)", at(w.wake, .5), at(w.wake, .99), at(w.wake, 1),
		at(w.wait, .5), at(w.wait, 1), float64(at(w.wait, 1))/float64(at(w.wait, .5)))
}

// consume has clients block on the lists of a node until all elements have been had, pushed at a rate per second.
func (q *queue) consume(addr string, clients, rate int, blocked func()) *wakeUps {
	q.t.Helper()
	began := make([]atomic.Int64, len(q.taken)) // unix nanoseconds
	var mu sync.Mutex
	var all sync.WaitGroup
	total := &wakeUps{}
	conns := make([]*loadClient, clients)
	for i := range conns {
		c, err := dialLoad(addr)
		if err != nil {
			q.t.Fatal(err)
		}
		conns[i] = c
		c.add("BLPOP", q.list(i), "0")
		if err := c.flush(); err != nil {
			q.t.Fatal(err)
		}
	}
	blocked()
	for i, c := range conns {
		all.Go(func() {
			mine := wakeUps{}
			since := time.Now()
			for {
				reply, err := c.read()
				if err != nil {
					break
				}
				now := time.Now()
				if n := q.enter(reply); n >= 0 {
					mine.wake = append(mine.wake, time.Duration(now.UnixNano()-began[n].Load()))
				}
				mine.wait = append(mine.wait, now.Sub(since))
				since = now
				c.add("BLPOP", q.list(i), "0")
				if c.flush() != nil {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.wake = append(total.wake, mine.wake...)
			total.wait = append(total.wait, mine.wait...)
		})
	}
	pusher := dial(q.t, q.node.Addr())
	start := time.Now()
	for n := range q.taken {
		<-time.After(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		began[n].Store(time.Now().UnixNano())
		pusher.Do("RPUSH", q.list(n), n)
	}
	eventually(q.t, "all elements to be had", func() bool { return q.got.Load() >= int64(len(q.taken)) })
	for _, c := range conns {
		c.close()
	}
	all.Wait()
	return total
}

func TestManyClientsBlockedOnFewListsAreWokenSoon(t *testing.T) {
	parallel(t)
	clients, lists, elements := sized(200, 5000), sized(10, 50), sized(1000, 50_000)
	rate := sized(2000, 4000)
	node := redistest.Start(t, "--maxclients", "20000")
	hows := []string{"directly", "blocking-share no", "blocking-share yes"}
	for round := range sized(3, 9) {
		how := hows[round%len(hows)]
		q := newQueue(t, node, lists, elements)
		addr, blocked := node.Addr(), func() { awaitBlocked(t, node, clients) }
		connections := 0
		switch how {
		case "blocking-share no":
			addr = startLoaded(t, node.Addr(), "--blocking-share", "no").Addr()
		case "blocking-share yes":
			b := startLoaded(t, node.Addr())
			addr = b.Addr()
			blocked = func() {
				eventually(t, "all clients to wait", func() bool { return sum(b.metrics(), "berth_clients_blocked") == float64(clients) })
			}
		}
		most := make(chan int)
		stop := make(chan struct{})
		go func() { most <- mostBlocked(t, node, stop) }()
		w := q.consume(addr, clients, rate, blocked)
		close(stop)
		connections = <-most
		if how == "blocking-share yes" && connections > 4*lists {
			t.Errorf("%d connections were blocked for %d lists", connections, lists)
		}
		q.wrong.none(t, "wrong replies")
		if lost, twice := q.missing(), q.twice.Load(); lost > 0 || twice > 0 {
			t.Errorf("%s: %d elements lost, %d had twice", how, lost, twice)
		}
		figure(t, "%d clients blocked on %d lists, %d pushes at %d/s, %s: %d connections blocked at the node at most, each element once, %s",
			clients, lists, elements, rate, how, connections, w)
		awaitBlocked(t, node, 0)
	}
}

// mostBlocked looks ten times a second how many clients are blocked at the node.
func mostBlocked(t testing.TB, node *redistest.Server, stop chan struct{}) (most int) {
	c, err := redistest.TryDial(t, node.Addr())
	if err != nil {
		return -1
	}
	defer c.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := c.TryDo("INFO", "clients")
		if err != nil {
			return -1
		}
		var n int
		text, _ := info.(string)
		if _, rest, ok := strings.Cut(text, "blocked_clients:"); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
		most = max(most, n)
		select {
		case <-stop:
			return most
		case <-tick.C:
		}
	}
}
