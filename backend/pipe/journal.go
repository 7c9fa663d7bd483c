package pipe

import "github.com/berth-proxy/berth/backend"

// chunk is a piece of a pipe's journal: the bytes of requests, kept from the moment they are queued
// until the last of them is answered, because a redirected request is sent again from here. Its
// memory is written once and handed to the socket where it lies.
type chunk struct {
	buf  []byte
	owed int // requests in buf that are not answered
}

// journal is the outgoing side of a pipe: chunks filled at the end, written from the front.
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
	chunks []*chunk // with bytes to write, but for the last one, which is being filled
	from   int      // bytes of chunks[0] that were written
	spare  *chunk   // one answered chunk, kept against allocation
}

// place is where a request's bytes lie in a journal.
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
// A chunk that is full and written leaves the list here: it may come back as the spare one.
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

// answered ends a request's stay in the journal. A chunk that owes nothing and is written is used
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

// unwritten appends the slices that are still to be written to out, oldest first.
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

// wrote marks everything as handed to the socket; only the chunk that is being filled stays in the
// list.
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
