package topk

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// MaxName is how many bytes of a name are kept. Names that differ later are told apart all the same.
const MaxName = 128

// Entry is what a List knows of a name.
type Entry[T any] struct {
	Sum    uint64 // of the whole name
	Length int    // bytes of the whole name
	Of     T      // what the list's owner wants to know of it
	name   [MaxName]byte
}

// Name returns the name, or its first MaxName bytes.
func (e *Entry[T]) Name() string { return string(e.name[:min(e.Length, MaxName)]) }

// seed is one for all lists, so that entries of several can be joined by their sums.
var seed = maphash.MakeSeed()

// Sum is what entries are found by: of a name, in one of several spaces. Two names that share a sum
// are taken for one. Nobody can choose names for that.
func Sum(name []byte, space int) uint64 { return maphash.Bytes(seed, name) + uint64(space) }

// List has no more entries than its size.
type List[T any] struct {
	size    int
	tags    []byte   // by place: the last byte of the sum
	weights []uint64 // by place: what the list is ordered by; an entry's never falls
	entries []Entry[T]
	low     uint64 // no entry of a full list weighs less
	cursor  int    // and none before this place weighs as little
}

// find returns the place of a name, -1 if the list lacks it.
func (l *List[T]) find(sum uint64) int {
	for at := 0; at < len(l.tags); at++ {
		next := bytes.IndexByte(l.tags[at:], byte(sum))
		if next < 0 {
			break
		}
		if at += next; l.entries[at].Sum == sum {
			return at
		}
	}
	return -1
}

// least returns the place of the entry of a full list that weighs least. It goes on where it has found
// the latest one, since weights do not fall: else each new name would cost a look at all of them.
func (l *List[T]) least() (at int) {
	for ; l.cursor < len(l.weights); l.cursor++ {
		if l.weights[l.cursor] == l.low {
			return l.cursor
		}
	}
	l.low = slices.Min(l.weights)
	l.cursor = slices.Index(l.weights, l.low)
	return l.cursor
}

// isFull reports whether a new name needs the place of another.
func (l *List[T]) isFull() bool { return len(l.entries) == l.size }

// enter makes an entry for a new name, at a place that is new or another's.
func (l *List[T]) enter(at int, sum uint64, name []byte, weight uint64) *Entry[T] {
	if at == len(l.entries) {
		l.tags, l.weights, l.entries = append(l.tags, 0), append(l.weights, 0), append(l.entries, Entry[T]{})
	}
	l.tags[at], l.weights[at] = byte(sum), weight
	e := &l.entries[at]
	e.Sum, e.Length, e.Of = sum, len(name), *new(T)
	copy(e.name[:], name)
	return e
}

// count enters that a name has occurred once more. The weight is how often it has, but for a new name
// in a full list it is one more than the least one there was: the algorithm is Space-Saving (Metwally,
// Agrawal, El Abbadi 2005), by which no name is missing that has more than its share, 1/size of all.
// What the owner counts in Of is no more than what was seen.
func (l *List[T]) count(sum uint64, name []byte) (e *Entry[T], isNew bool) {
	if at := l.find(sum); at >= 0 {
		l.weights[at]++
		return &l.entries[at], false
	}
	at, weight := len(l.entries), uint64(1)
	if l.isFull() {
		at = l.least()
		weight += l.weights[at]
	}
	return l.enter(at, sum, name, weight), true
}

// raise enters that a name weighs so much. It returns the name's entry if that is the most that it has
// weighed, and if the list has a place for it; else nil.
func (l *List[T]) raise(sum uint64, name []byte, weight uint64) *Entry[T] {
	if at := l.find(sum); at >= 0 {
		if weight <= l.weights[at] {
			return nil
		}
		l.weights[at] = weight
		return &l.entries[at]
	}
	at := len(l.entries)
	if l.isFull() {
		if at = l.least(); weight <= l.weights[at] {
			return nil
		}
	}
	return l.enter(at, sum, name, weight)
}

// bar returns the weight that a new name has to exceed, 0 as long as there is room.
func (l *List[T]) bar() uint64 {
	if !l.isFull() {
		return 0
	}
	return l.weights[l.least()]
}

// clear forgets all names and keeps the memory.
func (l *List[T]) clear() {
	l.tags, l.weights, l.entries = l.tags[:0], l.weights[:0], l.entries[:0]
	l.low, l.cursor = 0, 0
}
