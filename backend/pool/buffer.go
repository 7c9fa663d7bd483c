package pool

import "sync"

// Buffers hold a reply until its loop has passed it on. Most are small and go around; what a large
// reply needed is left to the garbage collector.
const (
	bufferSize    = 4 << 10
	maxBufferKept = maxAhead
	maxReserve    = 16 << 20 // how far a reply's announced length is trusted at once
)

type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, bufferSize)} }}

func newBuffer() *buffer { return buffers.Get().(*buffer) }

// append appends p to what is there. more is how many bytes are known to come, p among them: a
// large value is then copied into its place once, instead of again at each doubling.
func (b *buffer) append(p []byte, more int) {
	if need := len(b.b) + len(p); need > cap(b.b) {
		want := len(b.b) + max(len(p), min(more, maxReserve))
		grown := make([]byte, len(b.b), max(want, 2*cap(b.b)))
		copy(grown, b.b)
		b.b = grown
	}
	b.b = append(b.b, p...)
}

// free gives the buffer back. Nobody may look at its bytes any more.
func (b *buffer) free() {
	if b == nil || cap(b.b) > maxBufferKept {
		return
	}
	b.b = b.b[:0]
	buffers.Put(b)
}
