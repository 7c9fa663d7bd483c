package main

import "github.com/berth-proxy/berth/codec"

// longJoin joins the replies to an MGET of very many keys, in slices. Owned by the loop. It is a
// job.
type longJoin struct {
	j        *join
	part     int    // the next whose elements are to be found
	elements []span // of the reply to each key, in join.replies
	written  int    // of them, those in out
	out      []byte
}

// span is a piece of join.replies.
type span struct{ from, to int }

// slice does a part of the work.
func (w *longJoin) slice() (done bool) {
	j := w.j
	if j.r.s.closed {
		return w.end(nil)
	}
	for n := 0; w.part < len(j.parts); w.part++ {
		if n > sliceKeys {
			return false
		}
		p := &j.parts[w.part]
		at, found := p.to, 0
		count, rest, ok := header(j.reply(w.part))
		at -= len(rest)
		for ok && found < count && count == p.end-p.first {
			var scanner codec.ReplyScanner
			k, err := scanner.Scan(j.replies[at:p.to])
			if ok = err == nil && k > 0; ok {
				w.elements[j.places[p.first+found]] = span{at, at + k}
				at += k
				found++
			}
		}
		if !ok || found != p.end-p.first {
			return w.end(codec.AppendError(nil, j.misfit()))
		}
		n += found
	}
	if w.out == nil {
		w.out = codec.AppendArray(make([]byte, 0, len(j.replies)+maxHeader), len(w.elements))
	}
	for last := min(w.written+sliceKeys, len(w.elements)); w.written < last; w.written++ {
		e := w.elements[w.written]
		w.out = append(w.out, j.replies[e.from:e.to]...)
	}
	return w.written == len(w.elements) && w.end(w.out)
}

// maxHeader is more than an array's first line takes.
const maxHeader = 32

// end answers the client.
func (w *longJoin) end(reply []byte) (done bool) {
	r, l := w.j.r, w.j.r.s.loop
	r.done(reply)
	l.dropJoin(w.j)
	return true
}
