package main

import "github.com/berth-proxy/berth/codec"

// buf returns an empty buffer of some kilobytes.
func (l *loop) buf() []byte {
	if k := len(l.bufs); k > 0 {
		b := l.bufs[k-1]
		l.bufs = l.bufs[:k-1]
		return b
	}
	return make([]byte, 0, minBuf)
}

// drop takes a buffer back; one that has grown too large goes to the garbage collector.
func (l *loop) drop(b []byte) {
	if cap(b) < minBuf || cap(b) > maxKeptBuf || len(l.bufs) == maxSpareBufs {
		return
	}
	l.bufs = append(l.bufs, b[:0])
}

// parser returns a request parser in its first state.
func (l *loop) parser() *codec.RequestParser {
	if k := len(l.parsers); k > 0 {
		p := l.parsers[k-1]
		l.parsers = l.parsers[:k-1]
		return p
	}
	return new(codec.RequestParser)
}

func (l *loop) dropParser(p *codec.RequestParser) {
	p.Reset()
	if len(l.parsers) < maxSpareParsers {
		l.parsers = append(l.parsers, p)
	}
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
	t := new(transaction)
	if k := len(l.txns); k > 0 {
		t = l.txns[k-1]
		l.txns = l.txns[:k-1]
	}
	t.bytes, t.slot = append(t.bytes, multiCommand...), noSlot
	return t
}

// dropTransaction takes one back that has been sent.
func (l *loop) dropTransaction(t *transaction) {
	if cap(t.bytes) <= minBuf && len(l.txns) < maxSpareTxns {
		*t = transaction{bytes: t.bytes[:0]}
		l.txns = append(l.txns, t)
	}
}
