package backend

import "testing"

func TestRingThatHasHadManyElementsGivesThemUpWhenItIsEmpty(t *testing.T) {
	var r Ring[int]
	for i := range 2 * ringKept {
		r.Push(i)
	}
	for r.Len() > 1 {
		r.Pop()
	}
	r.Trim()
	if got := *r.At(0); got != 2*ringKept-1 {
		t.Fatalf("the last element is %d", got)
	}
	r.Pop()
	r.Trim()
	if len(r.buf) != 0 {
		t.Errorf("an empty ring keeps room for %d elements", len(r.buf))
	}
	r.Push(1)
	r.Pop()
	r.Trim()
	if len(r.buf) != ringMin {
		t.Errorf("a small ring keeps room for %d elements, want %d", len(r.buf), ringMin)
	}
}
