package main

import (
	"bytes"
	"slices"

	"github.com/berth-proxy/berth/codec"
)

// mgetJob joins the replies to the parts of an MGET, in slices: the elements go where their keys
// stood. A reply to few keys takes one slice.
//
// Owned by the loop. It is a job.
type mgetJob struct {
	join     *join
	found    int    // parts whose elements are in elements
	elements []span // the reply to each key, in join.replies
	written  int    // elements that are in out
	out      []byte
}

// span is a piece of join.replies.
type span struct{ from, to int }

func newMGetJob(j *join) *mgetJob {
	w := take(&j.r.s.loop.splitter.mgets)
	w.join = j
	w.elements = slices.Grow(w.elements, len(j.next))[:len(j.next)]
	return w
}

// slice does a part of the work.
func (w *mgetJob) slice() (done bool) {
	j := w.join
	if j.r.s.closed {
		w.end(nil)
		return true
	}
	budget := sliceKeys
	for ; w.found < len(j.parts); w.found++ {
		p := &j.parts[w.found]
		if budget <= 0 {
			return false
		}
		if !w.find(p) {
			w.end(codec.AppendError(nil, j.misfit()))
			return true
		}
		budget -= p.keys
	}
	if !w.write(budget) {
		return false
	}
	w.end(w.out)
	return true
}

// oneElement begins the reply to a part with one key. What follows has been found to be one whole
// element.
var oneElement = []byte("*1\r\n")

// find finds the elements in the reply to a part. It reports whether there is one for each key.
func (w *mgetJob) find(p *part) (ok bool) {
	j := w.join
	reply := j.reply(p.index)
	if p.keys == 1 && bytes.HasPrefix(reply, oneElement) {
		w.elements[p.first] = span{p.from + len(oneElement), p.to}
		return true
	}
	count, rest, ok := header(reply)
	if !ok || count != p.keys {
		return false
	}
	key, at := p.first, p.to-len(rest)
	err := elements(reply, func(_ int, e []byte) {
		w.elements[key] = span{at, at + len(e)}
		key, at = j.next[key], at+len(e)
	})
	return err == nil
}

// write writes elements. It reports whether all are written.
func (w *mgetJob) write(budget int) (all bool) {
	if len(w.out) == 0 {
		w.out = slices.Grow(w.out, len(w.join.replies)+maxHeader)
		w.out = codec.AppendArray(w.out, len(w.elements))
	}
	last := min(w.written+budget, len(w.elements))
	for ; w.written < last; w.written++ {
		e := w.elements[w.written]
		w.out = append(w.out, w.join.replies[e.from:e.to]...)
	}
	return last == len(w.elements)
}

// maxHeader is more than an array's first line takes.
const maxHeader = 32

// end answers the client, and keeps the job unless it has grown too large.
func (w *mgetJob) end(reply []byte) {
	sp := &w.join.r.s.loop.splitter
	w.join.end(reply)
	*w = mgetJob{elements: w.elements[:0], out: w.out[:0]}
	if cap(w.elements) <= maxKeptKeys && cap(w.out) <= maxKeptBuf {
		sp.mgets.put(w, 1)
	}
}
