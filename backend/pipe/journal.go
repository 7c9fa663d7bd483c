package pipe

import "github.com/berth-proxy/berth/backend"

// journal is the outgoing side of a pipe: chunks of requests, filled at the end and written from
// the front. A request stays until it is answered, because a redirected one is sent again from here.
//
// Owned by the pipe's event loop.
//
//	 written          to write
//	┌─────────────┬──────────────┐
//	│ answered or │ queued since │ ← append
//	│ owed        │ last flush   │
//	└─────────────┴──────────────┘
//	               ↑ from
type journal struct {
	chunks []*chunk // the last one is being filled; all have bytes to write, but perhaps the last
	from   int      // bytes of chunks[0] that were written
	spare  *chunk   // a chunk to use again, so that a steady pipe does not allocate; or nil
}

// chunk is a piece of a journal. Its memory is written once and handed to the socket in place. It
// is kept until the last request in it is answered.
type chunk struct {
	buf  []byte
	owed int // requests in buf that are not answered
}

// place is where a request's bytes are in a journal.
type place struct {
	chunk    *chunk
	off, end int
}

func (p place) bytes() []byte { return p.chunk.buf[p.off:p.end] }

// append copies the request's bytes into the journal.
func (j *journal) append(b []byte) place {
	c := j.room(len(b))
	off := len(c.buf)
	c.buf = append(c.buf, b...)
	c.owed++
	return place{chunk: c, off: off, end: len(c.buf)}
}

// room returns the last chunk if n bytes fit into it without moving what it holds, else a new one.
// A last chunk that is full and written leaves the list here. It may come back as the spare one.
func (j *journal) room(n int) *chunk {
	if k := len(j.chunks); k > 0 {
		last := j.chunks[k-1]
		if cap(last.buf)-len(last.buf) >= n {
			return last
		}
		if k == 1 && j.from == len(last.buf) {
			j.chunks, j.from = j.chunks[:0], 0
		}
	}
	c := j.spare
	j.spare = nil
	if c == nil || cap(c.buf) < n {
		c = &chunk{buf: make([]byte, 0, max(backend.ChunkSize, n))}
	}
	j.chunks = append(j.chunks, c)
	return c
}

// answered takes a request out of the journal. A chunk that is written and owes nothing is used
// again.
func (j *journal) answered(p place) {
	c := p.chunk
	c.owed--
	if c.owed > 0 {
		return
	}
	if k := len(j.chunks); k > 0 && j.chunks[k-1] == c {
		if k == 1 && j.from == len(c.buf) {
			c.buf, j.from = c.buf[:0], 0
			if cap(c.buf) > backend.ChunkSize {
				j.chunks[0], j.chunks = nil, j.chunks[:0]
			}
		}
		return
	}
	if cap(c.buf) == backend.ChunkSize {
		c.buf = c.buf[:0]
		j.spare = c
	}
}

// unwritten appends to out the slices that are still to be written, oldest first.
func (j *journal) unwritten(out [][]byte) [][]byte {
	from := j.from
	for _, c := range j.chunks {
		if from < len(c.buf) {
			out = append(out, c.buf[from:])
		}
		from = 0
	}
	return out
}

// wrote marks everything as written. Only the chunk that is being filled stays in the list.
func (j *journal) wrote() {
	k := len(j.chunks)
	if k == 0 {
		return
	}
	last := j.chunks[k-1]
	clear(j.chunks[:k-1])
	j.chunks = append(j.chunks[:0], last)
	j.from = len(last.buf)
}
