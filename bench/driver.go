//go:build linux

package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// driver is one thread that simulates many clients. Its fields belong to that thread. The round
// reads only the atomic fields while the thread runs, and the other fields after it has ended.
type driver struct {
	work     workload
	clients  []*client
	pipeline int
	keys     uint32
	interval float64   // open loop: nanoseconds between the requests of all its clients; 0: closed loop
	issuers  []*client // open loop: clients whose requests fall due, in turn
	many     bool      // clients use several source addresses, because the round opens many connections
	source   uint16    // the first of these addresses

	phase *atomic.Int32 // set by the round
	ready chan error    // receives nil once all clients are greeted, or the reason why they cannot be

	epfd    int
	epoch   time.Time // zero of its clock
	events  []syscall.EpollEvent
	scratch []byte // requests being generated
	in      []byte // bytes just read
	rng     uint64

	now       phase // last phase that it saw
	opened    int   // clients that began to connect
	greeted   int   // clients whose first PING was answered
	connected int   // connections opened so far
	busy      int   // clients that are busy and not parked
	started   int64 // when the work began; driver time
	turn      int64 // open loop: requests that have fallen due
	failure   error // why it gave up

	count  [classes]int64 // requests completed while measuring
	hist   [classes]histogram
	bytes  int64            // written and read
	errors map[string]int64 // by text
	wrong  string           // text for all wrong replies; it shows the first one
	other  map[string]int64 // counts of the workload's own, by name

	// Copies that the round reads while the thread runs. They may be slightly old, which is
	// harmless.
	done           [classes]atomic.Int64 // of count
	waiting, moved atomic.Int64          // of busy and bytes
	failed         atomic.Int64          // errors
	seen           atomic.Int32          // of now
}

// phase is the state of a round. The round's field advances it; each driver checks it after every
// epoll wait.
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
	openWindow  = 128                  // connections opened at one time, so that no listener's backlog overflows
	openWithin  = 20 * time.Second     // time for all clients to connect and get the reply to PING
	manyClients = 1000                 // with so many clients or more, they use several source addresses
	perAddress  = 4000                 // connections per source address
	lookEvery   = 5 * time.Millisecond // how often a driver without events checks the phase
	drainWithin = 2 * time.Second      // after so long without a byte, missing replies are lost
	batchEvents = 512                  // events per epoll wait
	readSize    = 256 << 10            // bytes per read
	classes     = 2                    // kinds of clients that are counted separately
	maxErrors   = 20                   // kinds of errors that are counted separately
	errorWords  = 80                   // bytes of an error's text that are kept
)

// time returns driver time: nanoseconds since the driver was created.
func (d *driver) time() int64 { return int64(time.Since(d.epoch)) }

// random returns the next number of xorshift64.
func (d *driver) random() uint64 {
	d.rng ^= d.rng << 13
	d.rng ^= d.rng >> 7
	d.rng ^= d.rng << 17
	return d.rng
}

// anyKey returns a random key of those the client's address serves, all equally likely.
func (d *driver) anyKey(c *client) uint32 {
	r := d.random() >> 32
	if c.keys != nil {
		return c.keys[r*uint64(len(c.keys))>>32]
	}
	return uint32(r * uint64(d.keys) >> 32)
}

// run connects the clients and serves their sockets until the round is over.
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

// look acts on a change of the phase. It returns false once the round is over.
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

// measuring reports whether requests that complete now count.
func (d *driver) measuring() bool { return d.now == phaseMeasuring }

// going reports whether clients send new requests.
func (d *driver) going() bool { return d.now == phaseRunning || d.now == phaseMeasuring }

// giveUp ends the driver with an error. Only the first error is kept.
func (d *driver) giveUp(err error) {
	if d.failure == nil {
		d.failure = err
		if d.now == phaseOpening {
			d.ready <- err
		}
	}
}

// patience returns how long epoll may wait.
func (d *driver) patience() time.Duration {
	if d.interval == 0 || !d.going() {
		return lookEvery
	}
	due := d.started + int64(float64(d.turn)*d.interval)
	return min(lookEvery, time.Duration(due-d.time()))
}

// openMore connects clients while fewer than openWindow wait for the reply to their PING.
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

// dial connects a client. It returns false if the driver has given up.
func (d *driver) dial(c *client) bool {
	var source uint16
	if d.many {
		// The next round may begin soon and must not need ports that this round still holds.
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

// hangUp closes a client's socket.
func (d *driver) hangUp(c *client) {
	if c.fd >= 0 {
		_ = syscall.Close(c.fd) // this removes it from epoll
		c.fd = -1
		c.epoch++
	}
}

// closeAll closes all sockets.
func (d *driver) closeAll() {
	for _, c := range d.clients {
		d.hangUp(c)
	}
	_ = syscall.Close(d.epfd)
}

// visit reads from or writes to a socket that epoll reported.
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

// lost records that a client's connection ended although the client did not close it.
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

// fail counts an error by its text.
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
