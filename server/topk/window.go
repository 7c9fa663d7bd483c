package topk

import (
	"slices"
	"time"
)

// half is how long a list is written to. So a Window tells of the last half-minute at least, and of a
// minute at most.
const half = 30 * time.Second

// Window is a list of now, which is written to, and the one before. Times are unix nanoseconds.
//
// Owned by whoever writes to it.
type Window[T any] struct {
	now, before List[T]
	began       int64 // now
	since       int64 // before, or now as long as there is no other
}

// NewWindow returns an empty window for so many names.
func NewWindow[T any](size int, clock int64) Window[T] {
	return Window[T]{now: List[T]{size: size}, before: List[T]{size: size}, began: clock, since: clock}
}

// Turn begins a new list when the time of the present one is over.
func (w *Window[T]) Turn(clock int64) {
	gone := clock - w.began
	if gone < int64(half) {
		return
	}
	w.now, w.before = w.before, w.now
	w.now.clear()
	w.since, w.began = w.began, clock
	if gone >= 2*int64(half) { // nobody has turned it for long
		w.before.clear()
		w.since = clock
	}
}

// Count enters that a name has occurred.
func (w *Window[T]) Count(sum uint64, name []byte) (e *Entry[T], isNew bool) {
	return w.now.count(sum, name)
}

// Raise enters that a name weighs so much. It returns its entry if the owner has to fill that in.
func (w *Window[T]) Raise(sum uint64, name []byte, weight uint64) *Entry[T] {
	return w.now.raise(sum, name, weight)
}

// Bar returns the weight that a new name has to exceed.
func (w *Window[T]) Bar() uint64 { return w.now.bar() }

// Entries returns copies of all entries: of a name there may be two.
func (w *Window[T]) Entries() []Entry[T] { return slices.Concat(w.before.entries, w.now.entries) }

// Span is the time that the window tells of.
func (w *Window[T]) Span(clock int64) time.Duration { return time.Duration(clock - w.since) }
