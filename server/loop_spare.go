package main

import (
	"time"

	"github.com/berth-proxy/berth/codec"
)

// buf returns an empty buffer of some kilobytes.
func (l *loop) buf() []byte {
	if b, ok := l.bufs.get(); ok {
		return b
	}
	return make([]byte, 0, minBuf)
}

// drop takes a buffer back; one that has grown too large goes to the garbage collector.
func (l *loop) drop(b []byte) {
	if cap(b) >= minBuf && cap(b) <= maxKeptBuf {
		l.bufs.put(b[:0], maxSpareBufs)
	}
}

// parser returns a request parser in its first state.
func (l *loop) parser() *codec.RequestParser { return take(&l.parsers) }

func (l *loop) dropParser(p *codec.RequestParser) {
	p.Reset()
	l.parsers.put(p, maxSpareParsers)
}

// request returns a request of a session, not yet in its queue.
func (l *loop) request() *request {
	r := l.spare
	if r == nil {
		return new(request)
	}
	l.spare = r.next
	l.spares--
	r.next = nil
	return r
}

func (l *loop) dropRequest(r *request) {
	l.unload(r)
	*r = request{}
	if l.spares < maxSpareRequests {
		r.next = l.spare
		l.spare = r
		l.spares++
	}
}

// unload takes a request that is answered out of what the loop's pipes carry.
func (l *loop) unload(r *request) {
	if r.piped {
		r.piped = false
		l.load -= r.cost
	}
}

// transaction returns one that MULTI has just begun.
func (l *loop) transaction() *transaction {
	t := take(&l.txns)
	t.bytes, t.slot = append(t.bytes, multiCommand...), noSlot
	return t
}

// dropTransaction takes one back that has been sent.
func (l *loop) dropTransaction(t *transaction) {
	if cap(t.bytes) <= minBuf {
		*t = transaction{bytes: t.bytes[:0]}
		l.txns.put(t, maxSpareTxns)
	}
}

// trimEvery is how long a loop keeps what nobody uses.
const trimEvery = time.Second

// trim gives up the spare memory that nobody needed lately. Free requests stay: at most
// maxSpareRequests are 0.6 MB, and each GET takes one.
func (l *loop) trim() {
	if l.clock-l.trimmed < int64(trimEvery) {
		return
	}
	l.trimmed = l.clock
	l.bufs.trim()
	l.parsers.trim()
	l.txns.trim()
	l.splitter.trim()
	if cap(l.scratch) > maxKeptBuf {
		l.scratch = nil
	}
	if cap(l.keys) > maxKeptBuf/8 {
		l.keys = nil
	}
}
