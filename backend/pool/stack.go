package pool

import "sync/atomic"

// stack is Treiber's lock-free stack. Every push allocates its node and a node is never pushed
// again, so the compare-and-swap of the head cannot meet an old head that came back (ABA).
//
//	head ─▶ [newest] ─▶ [ ] ─▶ [ ] ─▶ [oldest] ─▶ nil
//
// Values may die while they are inside. pop returns them like any other, sweep unlinks them.
type stack[T any] struct {
	// Every push and pop races for head; the loser of a compare-and-swap tries again.
	head     atomic.Pointer[stackNode[T]]
	sweeping atomic.Bool // two sweeps race for it; the loser leaves
}

type stackNode[T any] struct {
	value T
	// next is written before the node is published. After that only the one sweep writes it, always
	// to a node farther down. A pop that still reads the older value makes a dead node the head,
	// which is allowed.
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

// pop takes the newest value. ok is false if there is none.
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

// sweep unlinks the values that are dead; a dead value must stay dead. It visits every node once and
// stops no push or pop. Of two sweeps at the same time one does nothing.
func (s *stack[T]) sweep(dead func(T) bool) {
	if !s.sweeping.CompareAndSwap(false, true) {
		return
	}
	defer s.sweeping.Store(false)
	n := s.head.Load()
	for n != nil && dead(n.value) {
		s.head.CompareAndSwap(n, n.next.Load()) // fails if n was popped, or another value pushed
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
