package backend

// Ring is a growing first-in-first-out queue on one slice. The zero value is ready.
type Ring[T any] struct {
	buf  []T // a power of two long
	head int // of the oldest
	n    int
}

// ringMin is the length of the first slice of a ring.
const ringMin = 64

func (r *Ring[T]) Len() int { return r.n }

func (r *Ring[T]) Push(v T) {
	if r.n == len(r.buf) {
		r.grow()
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = v
	r.n++
}

// At is the i-th oldest; 0 <= i < len.
func (r *Ring[T]) At(i int) *T { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

// Pop removes the oldest; the ring must not be empty.
func (r *Ring[T]) Pop() T {
	var zero T
	v := r.buf[r.head]
	r.buf[r.head] = zero
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	return v
}

func (r *Ring[T]) grow() {
	bigger := make([]T, max(ringMin, 2*len(r.buf)))
	k := copy(bigger, r.buf[r.head:])
	copy(bigger[k:], r.buf[:r.head])
	r.buf, r.head = bigger, 0
}
