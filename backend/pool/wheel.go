package pool

import (
	"math/bits"
	"time"
)

// wheel is a hashed timer wheel: any number of alarms on one clock, O(1) to set and to clear. Only
// the slots whose time has come are visited.
//
//	slot   0    1    2   …   hand   …   511
//	       │    │                │
//	       ▼    ▼                ▼
//	     alarm alarm           (due now)
//
// An alarm that is farther away than one round hangs in the farthest slot, and is hung again when
// the hand gets there. Times are durations since any fixed moment. An alarm never rings early, and
// at most one tick late plus the caller's own delay. A wheel has no lock.
type wheel[T any] struct {
	tick  time.Duration
	hand  int64 // the last tick that was visited
	len   int   // alarms that are set
	slots [wheelSlots]*alarm[T]
	taken [wheelSlots / 64]uint64 // a bit for each slot that holds an alarm
}

// wheelSlots is how many ticks one round of a wheel has; a multiple of 64.
const wheelSlots = 512

// alarm is one entry of a wheel. The zero value with a value is not set.
type alarm[T any] struct {
	value      T
	at         int64 // the tick it rings at
	slot       int32 // where it hangs, while it is set
	set        bool
	prev, next *alarm[T]
}

func newWheel[T any](tick time.Duration) *wheel[T] { return &wheel[T]{tick: tick} }

// set makes a ring at the given time; it may be set already.
func (w *wheel[T]) set(a *alarm[T], at time.Duration) {
	w.clear(a)
	a.at = int64((at + w.tick - 1) / w.tick)
	w.hang(a)
}

// clear makes sure that a does not ring, and reports whether it was set.
func (w *wheel[T]) clear(a *alarm[T]) bool {
	if !a.set {
		return false
	}
	if a.prev == nil {
		w.slots[a.slot] = a.next
		if a.next == nil {
			w.taken[a.slot/64] &^= 1 << (a.slot % 64)
		}
	} else {
		a.prev.next = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	}
	a.prev, a.next, a.set = nil, nil, false
	w.len--
	return true
}

// advance moves the hand to now and appends to due the values of the alarms that ring. These are no
// longer set.
func (w *wheel[T]) advance(now time.Duration, due []T) []T {
	until := int64(now / w.tick)
	if until <= w.hand {
		return due
	}
	from := max(w.hand+1, until-wheelSlots+1) // after a long sleep, visit every slot once
	w.hand = until
	for t := from; t <= until; t++ {
		if w.len == 0 {
			break
		}
		a := w.slots[t%wheelSlots]
		for a != nil {
			next := a.next
			w.clear(a)
			if a.at <= until {
				due = append(due, a.value)
			} else {
				w.hang(a)
			}
			a = next
		}
	}
	return due
}

// next returns when advance has a slot to visit again. ok is false if no alarm is set.
func (w *wheel[T]) next() (at time.Duration, ok bool) {
	if w.len == 0 {
		return 0, false
	}
	first := (w.hand + 1) % wheelSlots
	for i := int64(0); i <= wheelSlots; { // the first word is visited twice: above and below first
		s := (first + i) % wheelSlots
		if rest := w.taken[s/64] >> (s % 64); rest != 0 {
			return time.Duration(w.hand+1+i+int64(bits.TrailingZeros64(rest))) * w.tick, true
		}
		i += 64 - s%64
	}
	panic("wheel: alarms are set but no slot holds one")
}

// drain clears every alarm and appends the values to all.
func (w *wheel[T]) drain(all []T) []T {
	for s := range w.slots {
		for a := w.slots[s]; a != nil; a = w.slots[s] {
			w.clear(a)
			all = append(all, a.value)
		}
	}
	return all
}

// hang puts a into the slot of its tick, or into the nearest or the farthest slot that the hand will
// still visit.
func (w *wheel[T]) hang(a *alarm[T]) {
	t := min(max(a.at, w.hand+1), w.hand+wheelSlots)
	a.slot, a.set = int32(t%wheelSlots), true
	a.prev, a.next = nil, w.slots[a.slot]
	if a.next != nil {
		a.next.prev = a
	}
	w.slots[a.slot] = a
	w.taken[a.slot/64] |= 1 << (a.slot % 64)
	w.len++
}
