package pool

import "sync/atomic"

// stack is Treiber's lock-free stack. Every push allocates its node and a node is never pushed
// again, so the compare-and-swap of the head cannot meet an old head that came back (ABA).
//
//	head ─▶ [newest] ─▶ [ ] ─▶ [ ] ─▶ [oldest] ─▶ nil
//
// Values may die while they lie inside. pop hands them out like any other; sweep unlinks them.
type stack[T any] struct {
	// head is raced for by every push and pop; the loser of a compare-and-swap looks again.
	head     atomic.Pointer[stackNode[T]]
	sweeping atomic.Bool // two sweeps race for it; the loser leaves
}

type stackNode[T any] struct {
	value T
	// next is written before the node is published and after that only by the one sweep, always to
	// a node farther down. A pop that still reads the older value finds a dead node at the head:
	// allowed.
	next atomic.Pointer[stackNode[T]]
}

func (s *stack[T]) push(v T) {
	n := &stackNode[T]{value: v}
	for {
		old := s.head.Load()
		n.next.Store(old)
		if s.head.CompareAndSwap(old, n) {
			return
		}
	}
}

// pop takes the newest value; ok is false when there is none.
func (s *stack[T]) pop() (v T, ok bool) {
	for {
		n := s.head.Load()
		if n == nil {
			return v, false
		}
		if s.head.CompareAndSwap(n, n.next.Load()) {
			return n.value, true
		}
	}
}

// sweep unlinks the values that are dead and stay dead. It visits every node once and stops nobody;
// of two sweeps at the same time one does nothing.
func (s *stack[T]) sweep(dead func(T) bool) {
	if !s.sweeping.CompareAndSwap(false, true) {
		return
	}
	defer s.sweeping.Store(false)
	n := s.head.Load()
	for n != nil && dead(n.value) {
		s.head.CompareAndSwap(n, n.next.Load()) // who lost did so to a pop of it or a push above it
		n = s.head.Load()
		if n == nil {
			return
		}
	}
	for n != nil {
		below := n.next.Load()
		for below != nil && dead(below.value) {
			below = below.next.Load()
		}
		n.next.Store(below)
		n = below
	}
}
