//go:build linux

package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// phase is where a round is. The round moves it on; drivers look once per visit of epoll.
//
//	opening ──▶ running ──▶ measuring ──▶ draining ──▶ over
//	connect,    warm-up     replies are   nothing new   close
//	one PING                counted       is sent
type phase int32

const (
	phaseOpening phase = iota
	phaseRunning
	phaseMeasuring
	phaseDraining
	phaseOver
)

const (
	openWindow  = 128                  // connections under way at one time: no listener's backlog overflows
	openWithin  = 20 * time.Second     // for all clients to be connected and greeted
	manyClients = 1000                 // from so many on, clients come from several addresses
	perAddress  = 4000                 // connections of one source address
	lookEvery   = 5 * time.Millisecond // how often a driver without events looks at the phase
	drainWithin = 2 * time.Second      // without a byte: what has not been answered by then is lost
	batchEvents = 512                  // events of one visit of epoll
	readSize    = 256 << 10            // bytes read at once
	classes     = 2                    // kinds of clients that are counted apart
	maxErrors   = 20                   // kinds of errors that are told apart
	errorWords  = 80                   // length of an error's text that is kept
)

// driver is one thread that plays many clients. Its fields belong to that thread; what others read
// meanwhile is atomic, and the rest is read when the thread is done.
type driver struct {
	work     workload
	clients  []*client
	pipeline int
	keys     uint32
	interval float64   // open loop: nanoseconds between the requests of all its clients; 0: closed loop
	issuers  []*client // open loop: whose requests fall due, in turn
	many     bool      // clients come from several addresses, because there are many, or many after one another
	source   uint16    // the first of these addresses

	phase *atomic.Int32 // set by the round
	ready chan error    // told once when all clients are greeted, or cannot be

	epfd    int
	epoch   time.Time // when its clock began
	events  []syscall.EpollEvent
	scratch []byte // what is being generated
	in      []byte // what is being read
	rng     uint64

	now       phase // what it last saw of phase
	opened    int   // clients whose connection was begun
	greeted   int   // clients whose first PING was answered
	connected int   // connections made, the first ones included
	busy      int   // clients that are between begin and the last reply, and not parked
	started   int64 // when the work began; driver time
	turn      int64 // open loop: requests that have fallen due
	failure   error // why it gave up

	count  [classes]int64 // requests completed while measuring
	hist   [classes]histogram
	bytes  int64            // written and read
	errors map[string]int64 // by their words
	wrong  string           // what a wrong reply is counted as: the first of them is shown
	other  map[string]int64 // what a workload counts by itself

	// Copies for the round, which reads them meanwhile; a little late, which does no harm.
	done           [classes]atomic.Int64 // of count
	waiting, moved atomic.Int64          // of busy and bytes
	failed         atomic.Int64          // errors
	seen           atomic.Int32          // of now
}

// time is the driver's clock: nanoseconds since it was made.
func (d *driver) time() int64 { return int64(time.Since(d.epoch)) }

// random is xorshift64.
func (d *driver) random() uint64 {
	d.rng ^= d.rng << 13
	d.rng ^= d.rng >> 7
	d.rng ^= d.rng << 17
	return d.rng
}

// anyKey is one of the keys a client may ask for, all equally likely.
func (d *driver) anyKey(c *client) uint32 {
	r := d.random() >> 32
	if c.keys != nil {
		return c.keys[r*uint64(len(c.keys))>>32]
	}
	return uint32(r * uint64(d.keys) >> 32)
}

// run drives the clients until the round is over.
func (d *driver) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer d.seen.Store(int32(phaseOver))
	exactTimers()
	var err error
	if d.epfd, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		d.ready <- err
		return
	}
	defer d.closeAll()
	d.events = make([]syscall.EpollEvent, batchEvents)
	d.scratch = make([]byte, 0, 2*streamFrom)
	d.in = make([]byte, readSize)
	d.errors, d.other = map[string]int64{}, map[string]int64{}
	d.openMore()
	for d.failure == nil && d.look() {
		n, err := epollWait(d.epfd, d.events, d.patience())
		if err != nil {
			d.giveUp(fmt.Errorf("epoll: %w", err))
		}
		for i := range n {
			d.visit(d.clients[d.events[i].Fd], d.events[i].Events)
		}
		if d.interval > 0 {
			d.fallDue()
		}
		for i := range d.count {
			d.done[i].Store(d.count[i])
		}
		d.waiting.Store(int64(d.busy))
		d.moved.Store(d.bytes)
		d.seen.Store(int32(d.now))
	}
}

// look acts on a change of the phase; false: the round is over.
func (d *driver) look() bool {
	now := phase(d.phase.Load())
	if now == d.now {
		return now != phaseOver
	}
	was := d.now
	d.now = now
	if was == phaseOpening && (now == phaseRunning || now == phaseMeasuring) {
		d.started = d.time()
		d.work.start(d)
	}
	return now != phaseOver
}

// measuring reports whether what completes now counts.
func (d *driver) measuring() bool { return d.now == phaseMeasuring }

// going reports whether new requests are to be sent.
func (d *driver) going() bool { return d.now == phaseRunning || d.now == phaseMeasuring }

// giveUp ends the driver.
func (d *driver) giveUp(err error) {
	if d.failure == nil {
		d.failure = err
		if d.now == phaseOpening {
			d.ready <- err
		}
	}
}

// patience is how long epoll may wait.
func (d *driver) patience() time.Duration {
	if d.interval == 0 || !d.going() {
		return lookEvery
	}
	due := d.started + int64(float64(d.turn)*d.interval)
	return min(lookEvery, time.Duration(due-d.time()))
}

// openMore connects clients as long as few enough are waiting for their first answer.
func (d *driver) openMore() {
	for d.opened < len(d.clients) && d.opened-d.greeted < openWindow {
		c := d.clients[d.opened]
		d.opened++
		if !d.dial(c) {
			return
		}
		c.wants = append(c.wants[:0], want{kind: wantPong})
		c.head = 0
		c.rest = append(c.rest[:0], "*1\r\n$4\r\nPING\r\n"...)
		d.push(c)
	}
}

// dial connects a client.
func (d *driver) dial(c *client) bool {
	var source uint16
	if d.many {
		// A second round soon after the first must not need the ports the first still holds.
		source = 1<<8 + (d.source+uint16(d.connected/perAddress))%60000
	}
	fd, err := c.to.connect(source)
	if err == nil {
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.id)}
		err = syscall.EpollCtl(d.epfd, syscall.EPOLL_CTL_ADD, fd, &event)
	}
	if err != nil {
		d.giveUp(fmt.Errorf("client %d: %w", c.id, err))
		return false
	}
	d.connected++
	c.fd, c.writable = fd, false
	c.epoch++
	c.part = c.part[:0]
	return true
}

// hangUp closes a client's socket; what it was owed is forgotten.
func (d *driver) hangUp(c *client) {
	if c.fd >= 0 {
		_ = syscall.Close(c.fd) // leaves epoll by itself
		c.fd = -1
		c.epoch++
	}
}

func (d *driver) closeAll() {
	for _, c := range d.clients {
		d.hangUp(c)
	}
	_ = syscall.Close(d.epfd)
}

// visit does what a socket is ready for.
func (d *driver) visit(c *client, ready uint32) {
	if c.fd < 0 {
		return
	}
	if ready&(syscall.EPOLLIN|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		d.receive(c)
	}
	if ready&syscall.EPOLLOUT != 0 && c.fd >= 0 {
		d.push(c)
	}
}

// lost is called when a client's connection is gone though nobody here closed it.
func (d *driver) lost(c *client, why string) {
	d.fail(why)
	d.hangUp(c)
	if !c.greeted {
		d.giveUp(fmt.Errorf("client %d of %d: %s", c.id, len(d.clients), why))
		return
	}
	if c.busy && !c.parked {
		d.busy--
	}
	c.busy = false
}

// fail counts an error by its words.
func (d *driver) fail(words string) {
	if len(words) > errorWords {
		words = words[:errorWords]
	}
	if _, known := d.errors[words]; !known && len(d.errors) >= maxErrors {
		words = "other errors"
	}
	d.errors[words]++
	d.failed.Add(1)
}
