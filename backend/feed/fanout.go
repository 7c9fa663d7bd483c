package feed

import (
	"time"

	"github.com/berth-proxy/berth/backend"
)

// fanOut brings messages to their listeners in slices, since one message may be for ten thousand of
// them, and others wait for the loop. Gathering and writing take turns: what has been gathered is
// written, to the last listener, before more is gathered, so that memory is bounded by the
// gatherBytes of one round.
//
//	Traffic ─▶ in ─take─▶ Message, Message, …  ─▶ fed ─▶ Flush, Flush, …
//	           ▲                                          │ out of time
//	           └───────────── later visit ◀───────────────┘
//
// What arrives in between waits as it came, once. If that becomes too much, the loop is held after
// all: then the node waits for us, and its own limit for subscribers that are slow decides.
type fanOut struct {
	queue   []*Feed    // have more to deliver, in turn
	toFlush []Listener // are to be flushed
	flushed int        // of fed
	posted  bool       // a later visit is on its way
}

const (
	gatherDeliveries = 16 << 10
	gatherBytes      = 4 << 20
	fanOutSlice      = 5 * time.Millisecond
	maxFeedBacklog   = 16 << 20 // bytes
)

// budget is what one round of gathering may still cost.
type budget struct{ deliveries, bytes int }

// arrived takes bytes of a node.
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

// keep adds to the input that waits.
func (f *Feed) keep(b []byte) {
	if f.inPos > len(f.in)/2 {
		f.in = f.in[:copy(f.in, f.in[f.inPos:])]
		f.inPos = 0
	}
	f.in = append(f.in, b...)
}

func (fs *Feeds) list(f *Feed) {
	if !f.queued {
		f.queued = true
		fs.queue = append(fs.queue, f)
	}
}

// gather makes one round of deliveries out of buf, which has just arrived or has waited, and
// returns how many bytes are done with.
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

// gatherKept is gather for what has waited.
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

// spread hands a message to those listeners of the channel who have not got it; false: the budget
// is spent before.
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

// work writes what was gathered and gathers what waits, until nothing is left or the time is over;
// 0: for as long as it takes.
func (fs *Feeds) work(slice time.Duration) {
	began := time.Now()
	for {
		if !fs.flushFed(began, slice) {
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

// flushFed writes to the listeners in turn; false: the time is over before.
func (fs *Feeds) flushFed(began time.Time, slice time.Duration) bool {
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

// later goes on when the loop has looked after its other sockets. A task posted from the loop
// itself would run before that.
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
