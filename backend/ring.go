package backend

// Ring is a growing first-in-first-out queue on one slice. The zero value is empty.
type Ring[T any] struct {
	buf  []T // its length is a power of two
	head int // where the oldest element is
	n    int // elements
}

const (
	ringMin  = 64   // length of the first slice of a ring
	ringKept = 4096 // length that Trim leaves
)

// Len returns how many elements there are.
func (r *Ring[T]) Len() int { return r.n }

// Push appends the newest element.
func (r *Ring[T]) Push(v T) {
	if r.n == len(r.buf) {
		r.grow()
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = v
	r.n++
}

// At returns the i-th oldest element; 0 <= i < Len. The pointer is valid until the next Push or Pop.
func (r *Ring[T]) At(i int) *T { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

// Pop removes and returns the oldest element. The ring must not be empty.
func (r *Ring[T]) Pop() T {
	var zero T
	v := r.buf[r.head]
	r.buf[r.head] = zero
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	return v
}

// Trim gives up the slice of an empty ring that has had many elements.
func (r *Ring[T]) Trim() {
	if r.n == 0 && len(r.buf) > ringKept {
		*r = Ring[T]{}
	}
}

func (r *Ring[T]) grow() {
	bigger := make([]T, max(ringMin, 2*len(r.buf)))
	k := copy(bigger, r.buf[r.head:])
	copy(bigger[k:], r.buf[:r.head])
	r.buf, r.head = bigger, 0
}
