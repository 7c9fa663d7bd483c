package feed

import (
	"time"

	"github.com/berth-proxy/berth/backend"
)

// fanOut delivers messages to their listeners in slices, because one message may have ten thousand
// listeners while other clients wait for the loop. Gathering and writing alternate: what was
// gathered is written, down to the last listener, before more is gathered. So memory is bounded by
// the gatherBytes of one round.
//
//	Traffic ─▶ in ─take─▶ Message, Message, … ─▶ toFlush ─▶ Flush, Flush, …
//	           ▲                                            │ out of time
//	           └────────── work, posted by later ◀──────────┘
//
// What arrives meanwhile is kept as it came, once for all listeners. If that becomes too much, the
// loop delivers it all at once. The node has to wait then, and its own limit for slow subscribers
// decides.
type fanOut struct {
	queue   []*Feed    // feeds with more to deliver, oldest first
	toFlush []Listener // listeners with gathered messages
	flushed int        // how many of toFlush have been flushed
	posted  bool       // work is posted
}

const (
	gatherDeliveries = 16 << 10             // of one round
	gatherBytes      = 4 << 20              // of one round
	fanOutSlice      = 5 * time.Millisecond // the longest that other clients wait for one visit
	maxFeedBacklog   = 16 << 20             // bytes of a feed that may wait
)

// budget is what one round of gathering may still cost.
type budget struct{ deliveries, bytes int }

// arrived takes bytes that a feed has read.
func (fs *Feeds) arrived(f *Feed, buf []byte) {
	if f.queued || fs.posted || len(f.in) > 0 {
		f.keep(buf)
		fs.list(f)
	} else {
		f.keep(buf[fs.gather(f, buf):])
	}
	switch {
	case len(f.in)-f.inPos > maxFeedBacklog:
		fs.work(0)
	case !fs.posted:
		fs.work(fanOutSlice)
	}
}

// keep appends to the input that waits.
func (f *Feed) keep(b []byte) {
	if f.inPos > len(f.in)/2 {
		f.in = f.in[:copy(f.in, f.in[f.inPos:])]
		f.inPos = 0
	}
	f.in = append(f.in, b...)
}

// list puts a feed into the queue, unless it is there.
func (fs *Feeds) list(f *Feed) {
	if !f.queued {
		f.queued = true
		fs.queue = append(fs.queue, f)
	}
}

// gather makes one round of deliveries from buf, which has just arrived or was kept. It returns how
// many bytes need not be looked at again.
func (fs *Feeds) gather(f *Feed, buf []byte) int {
	losses := f.losses
	n, blocked := f.take(buf, &budget{gatherDeliveries, gatherBytes})
	switch {
	case f.losses != losses:
		return len(buf)
	case blocked:
		fs.list(f)
	case f.ended != nil:
		f.lost(f.ended)
		return len(buf)
	}
	return n
}

// gatherKept is gather for the input that was kept.
func (fs *Feeds) gatherKept(f *Feed) {
	losses := f.losses
	n := fs.gather(f, f.in[f.inPos:])
	if f.losses != losses {
		return
	}
	if f.inPos += n; f.inPos == len(f.in) {
		f.in, f.inPos = backend.Keep(f.in), 0
	}
}

// spread hands a message to the listeners of the channel that have not got it. It returns false if
// the budget ends before.
func (fs *Feeds) spread(ch *Channel, message []byte, b *budget) bool {
	for ch.pending > 0 {
		if b.deliveries <= 0 || b.bytes <= 0 {
			return false
		}
		ch.pending--
		to := ch.places[ch.pending].to
		if to.Message(message) {
			fs.toFlush = append(fs.toFlush, to)
		}
		b.deliveries--
		b.bytes -= len(message)
		fs.stats.Deliveries++
	}
	return true
}

// work writes what was gathered and gathers what was kept, until nothing is left or the slice of
// time is over; 0: for as long as it takes.
func (fs *Feeds) work(slice time.Duration) {
	began := time.Now()
	for {
		if !fs.flushListeners(began, slice) {
			fs.later()
			return
		}
		if len(fs.queue) == 0 {
			return
		}
		f := fs.queue[0]
		fs.queue = fs.queue[:copy(fs.queue, fs.queue[1:])]
		f.queued = false
		fs.gatherKept(f)
	}
}

// flushListeners flushes the listeners in toFlush. It returns false if the time is over.
func (fs *Feeds) flushListeners(began time.Time, slice time.Duration) bool {
	for ; fs.flushed < len(fs.toFlush); fs.flushed++ {
		if fs.flushed%32 == 31 && slice > 0 && time.Since(began) > slice {
			return false
		}
		fs.toFlush[fs.flushed].Flush()
	}
	clear(fs.toFlush)
	fs.toFlush, fs.flushed = fs.toFlush[:0], 0
	return slice == 0 || len(fs.queue) == 0 || time.Since(began) <= slice
}

// later posts work to run after the loop's other sockets. It does so from a goroutine, because a
// task that the loop posts itself would run before them.
func (fs *Feeds) later() {
	if fs.posted {
		return
	}
	fs.posted = true
	go fs.loop.Post(func() {
		fs.posted = false
		fs.work(fanOutSlice)
	})
}
