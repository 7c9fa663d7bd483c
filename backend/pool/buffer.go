package pool

import "sync"

// buffer holds replies until their loop has delivered them, or commands until they are written. Most
// buffers are small and are used again. Those of large replies are left to the garbage collector.
type buffer struct{ b []byte }

const (
	bufferSize    = 4 << 10  // bytes
	maxBufferKept = maxAhead // bytes; a larger buffer is not used again
	maxReserve    = 16 << 20 // bytes that are allocated at once on the word of a reply's length
)

// buffers are the free ones.
var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, bufferSize)} }}

func newBuffer() *buffer { return buffers.Get().(*buffer) }

// append appends p. more is how many bytes are known to come, p included. So a large value is copied
// once, not again at each doubling.
func (b *buffer) append(p []byte, more int) {
	if need := len(b.b) + len(p); need > cap(b.b) {
		want := len(b.b) + max(len(p), min(more, maxReserve))
		grown := make([]byte, len(b.b), max(want, 2*cap(b.b)))
		copy(grown, b.b)
		b.b = grown
	}
	b.b = append(b.b, p...)
}

// free gives the buffer back. Its bytes must not be read any more. A nil buffer may be freed.
func (b *buffer) free() {
	if b == nil || cap(b.b) > maxBufferKept {
		return
	}
	b.b = b.b[:0]
	buffers.Put(b)
}
