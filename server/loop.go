package main

import (
	"context"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/telemetry"
)

// loop is what one gnet event loop owns: its sessions, its pipes, its scratch memory, its counters.
// Only that loop touches it, but for Post, the inbox and latest.
//
// Every entry into a loop's code ends in After: replies that complete a session's output are
// written at once; whatever else is left to do (pipes to flush, sessions to go on) is done by one
// turn, posted to run after the sockets that are ready now, so that all clients of this batch share
// one write to each node.
//
//	sockets ready ─▶ Traffic … Traffic ─▶ turn: resume ▸ flush pipes ▸ flush leases
//	                                     ▸ flush sessions ▸ flush feeds
type loop struct {
	srv      *server
	el       gnet.EventLoop
	clock    int64 // unix nanoseconds, read at each entry
	slowFrom int64 // the server's, as of the latest tick
	pipes    *pipe.Pipes
	feeds    *feed.Feeds
	inbox    *pool.Inbox
	wanted   bool // something waits for a turn
	posted   bool // a turn is on its way
	alone    alone

	first       *session         // of all sessions, newest first
	sessions    int              // how many there are
	reads       uint             // that could have gone to several nodes
	load        int              // bytes that its pipes carry for sessions, the replies to come included
	weights     weights          // of the sessions that hold much
	cron        *session         // the next to be looked after, nil: the first
	held        []*session       // hold output back until the next tick
	flushed     []*session       // wait until all their nodes have said that all keys are gone
	crowd       []*session       // wait for connections of their own
	ready       []*session       // were paused and may go on
	slicing     slicing          // what is too much for one turn
	walks       []*walk          // that visit all sessions now
	replied     int              // bytes of berth's own replies, and what its own commands took, that no slice has counted yet
	stranded    strandedRequests // wait for berth to learn of a node
	dirty       []*session       // have output to write
	staying     []*stay          // have bytes to flush on their lease
	slowReaders slowReaders      // who reads long replies slowly
	parting     []parting        // sessions that have nothing more to say
	stop        stopSlices
	gone        []gnet.Conn // closed since the last tick: with poll_opt the poller may still hold a raw pointer to them
	parsers     freeList[*codec.RequestParser]
	bufs        freeList[[]byte]
	spare       *request // free requests, by next; trim leaves them
	spares      int      // of them
	txns        freeList[*transaction]
	trimmed     int64 // when the loop last gave up spare memory, unix nanoseconds
	scratch     []byte
	secured     secure.Scratch
	keys        []int     // scratch of slotOf
	slots       []int     // scratch of batchSource
	splitter    splitter  // cuts requests by slot, and joins the replies
	scans       scanOrder // of the latest topology that SCAN was sent by
	scripts     scriptLoads
	keyWatch    keyWatch
	lateWatch   lateWatch
	warned      int64      // when the latest line about a stopped client was written, unix nanoseconds
	near        *nearCache // nil: cache is no
	moment      uint64     // requests that links have been sent, and keys that became hot: see way_near.go

	lanes *lane.Lanes // on which clients block together

	stats telemetry.Counters
	rates telemetry.Rates

	// latest is the last figures the loop has told, nil before the first. The loop stores them. A
	// report that the loop does not answer in time loads them: it may read figures that come too
	// late.
	latest atomic.Pointer[telemetry.Loop]
}

// What a loop keeps for use again.
const (
	maxSpareBufs     = 256
	maxSpareParsers  = 64
	maxSpareRequests = 4096
	maxSpareTxns     = 64
	minBuf           = 2 << 10
	maxKeptBuf       = 64 << 10
)

// loopCount is how many event loops there are to be. One core is left to the pollers, the garbage
// collector and the kernel's share of the network: on two cores one loop beside them answered as
// many requests per second as two (GET by 50, 1,000 and 5,000 clients), for 5 to 12 % less CPU
// each, a pipelined MULTI … EXEC for 30 % less, and with a p99 10 to 25 % lower, since it shares
// its writes to nodes among more clients and seldom waits for a core.
func loopCount(cfg *config.Config) int {
	if cfg.Loops > 0 {
		return cfg.Loops
	}
	return max(1, runtime.GOMAXPROCS(0)-1)
}

func newLoop(srv *server, el gnet.EventLoop) *loop {
	l := &loop{srv: srv, el: el, clock: time.Now().UnixNano(), slowFrom: srv.slowFrom.Load()}
	l.inbox = pool.NewInbox(func() { l.Post(l.inbox.Drain) })
	l.pipes = pipe.New(l, &srv.pipeSettings)
	l.feeds = feed.New(l, &srv.pipeSettings, srv.nodes, srv.audience)
	l.lanes = lane.New(l, &srv.lanes, l.stats.Redirected)
	l.stats.Init()
	l.keyWatch.sample(srv.config().KeySampling, l.clock)
	return l
}

// Enroll gives the loop a connected socket, whose events are owner's.
func (l *loop) Enroll(conn net.Conn, owner any) error {
	if c, ok := conn.(*secure.Conn); ok {
		var stream *secure.Stream
		stream, conn = c.Detach()
		owner = &arrival{owner: owner, stream: stream}
	}
	enrolled, err := l.el.Enroll(gnet.NewContext(context.Background(), owner), conn)
	if err != nil {
		_ = conn.Close()
		return err
	}
	return (<-enrolled).Err
}

// Pipes are the loop's.
func (l *loop) Pipes() *pipe.Pipes { return l.pipes }

// Inbox is how leases reach the loop.
func (l *loop) Inbox() *pool.Inbox { return l.inbox }

// Now is the loop's clock, in unix nanoseconds.
func (l *loop) Now() int64 { return l.clock }

// Enter reads the clock, which it returns; the first thing every entry does.
func (l *loop) Enter() int64 {
	now := time.Now().UnixNano()
	if now < l.clock && l.near != nil {
		l.near.clockStepped()
	}
	l.clock = now
	return now
}

// Post runs f on the loop. Any goroutine may call it. When the loops have ended, f never runs.
func (l *loop) Post(f func()) {
	_ = l.el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		l.Enter()
		f()
		l.turn()
		return nil
	}))
}

// Wake asks for a turn after the events that are ready now. The entry that runs posts it, when it
// ends.
func (l *loop) Wake() { l.wanted = true }

// loopTurn is a loop as the task that makes its turn.
type loopTurn loop

// Run makes the turn.
func (t *loopTurn) Run(context.Context) error {
	l := (*loop)(t)
	l.posted = false
	l.turn()
	return nil
}

// After ends an entry: sessions that are owed nothing more are written now, all others share the
// turn.
func (l *loop) After() {
	rest := l.dirty[:0]
	for i := 0; i < len(l.dirty); i++ { // flush may close a session: that ends in gone, which leaves l.dirty alone
		if s := l.dirty[i]; s.head == nil {
			s.flush()
		} else {
			rest = append(rest, s)
		}
	}
	clear(l.dirty[len(rest):])
	l.dirty = rest
	if l.alone.sure() && l.busy() {
		l.turn()
		l.alone.leave()
		return
	}
	l.wakeIfBusy()
}

// busy reports whether there is something to do in a turn.
func (l *loop) busy() bool {
	return l.wanted || len(l.dirty) > 0 || len(l.ready) > 0 || len(l.staying) > 0
}

// wakeIfBusy posts a turn if there is something to do in it.
func (l *loop) wakeIfBusy() {
	l.postpone()
	if l.posted || !l.busy() {
		return
	}
	l.posted = true
	_ = l.el.Execute(context.Background(), (*loopTurn)(l))
}

// turn does all that is left to do, until nothing is.
func (l *loop) turn() {
	l.alone.turned()
	if l.weights.grown > l.weights.soon {
		l.weigh()
	}
	for {
		for i := 0; i < len(l.ready); i++ {
			l.ready[i].resume()
		}
		clear(l.ready)
		l.ready = l.ready[:0]
		l.feeds.Flush() // who leaves a channel does not count for a PUBLISH that comes later
		l.pipes.Flush()
		for i := 0; i < len(l.staying); i++ {
			l.staying[i].flush()
		}
		clear(l.staying)
		l.staying = l.staying[:0]
		for i := 0; i < len(l.dirty); i++ {
			l.dirty[i].flush()
		}
		clear(l.dirty)
		l.dirty = l.dirty[:0]
		l.feeds.Flush() // after the sessions: one that was closed may have been a channel's last
		if len(l.ready) == 0 && len(l.staying) == 0 && len(l.dirty) == 0 {
			l.wanted = false
			l.postpone()
			return
		}
	}
}

// alone finds out whether a loop visits one client at a time. Then nobody else would share the
// turn, and posting it costs a wake-up for nothing: After makes it at once. A client that comes
// right after another ends that.
type alone struct {
	visits int   // clients' entries since the last turn
	turns  int   // in a row, with one visit each
	left   int64 // when After last made a turn itself, unix nanoseconds
}

const (
	aloneTurns = 16                          // so many turns in a row make it sure
	aloneGap   = int64(3 * time.Microsecond) // a client that comes sooner was ready together with the one before
)

func (a *alone) sure() bool { return a.turns >= aloneTurns }

// visit enters that a client's bytes have come.
func (a *alone) visit(now int64) {
	a.visits++
	if a.sure() && now-a.left < aloneGap {
		a.turns = 0
	}
}

// turned enters that a turn begins.
func (a *alone) turned() {
	switch a.visits {
	case 0: // it was about replies alone
	case 1:
		a.turns++
	default:
		a.turns = 0
	}
	a.visits = 0
}

func (a *alone) leave() { a.left = time.Now().UnixNano() }

// tick does what time asks for.
func (l *loop) tick() {
	l.slowFrom = l.srv.slowFrom.Load()
	if l.pipes.Tick() {
		l.srv.nodes.Suspect()
	}
	l.feeds.Tick()
	l.tickStranded()
	clear(l.gone)
	l.gone = l.gone[:0]
	l.tickSessions()
	l.weigh()
	l.tickParting()
	l.aloneAgain() // who had them may have closed
	l.trim()
	l.keyWatch.tick(l.srv.config().KeySampling, l.clock)
	l.lateWatch.tick(l.clock, l.pipes, l.srv.late.note)
	l.tickNear()
	l.rates.Tick(l.clock, &l.stats)
}

// eachLoop lists the loops that have been seen.
func (srv *server) eachLoop() []*loop {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	all := make([]*loop, 0, len(srv.loops))
	for _, l := range srv.loops {
		all = append(all, l)
	}
	return all
}
