package near

import (
	"fmt"
	"testing"
)

func TestSumsAreOddAndTheSameForTheSameName(t *testing.T) {
	for i := range 1000 {
		name := fmt.Sprint(i)
		if sum := Sum([]byte(name)); sum%2 != 1 || sum != Sum([]byte(name)) {
			t.Fatalf("the sum of %s is %d", name, sum)
		}
	}
	if Sum(nil) != Sum([]byte{}) {
		t.Error("the empty name has two sums")
	}
}

func TestEstimatesAreNeverTooLowAndSeldomTooHigh(t *testing.T) {
	var h Heat
	last := 0
	hot := Sum([]byte("hot"))
	for n := range 100 {
		if last = h.Count(hot); last < n+1 {
			t.Fatalf("%d after %d", last, n+1)
		}
	}
	high := 0
	for i := range cells { // names that occur once each
		if h.Count(Sum([]byte(fmt.Sprint(i)))) > 3 {
			high++
		}
	}
	if high > cells/100 {
		t.Errorf("%d of %d names that have occurred once are taken to have more than three times", high, cells)
	}
	if n := h.Count(hot); n < last+1 {
		t.Errorf("%d after %d", n, last+1)
	}
}

func TestEstimatesFade(t *testing.T) {
	var h Heat
	sum := Sum([]byte("k"))
	for range 64 {
		h.Count(sum)
	}
	for range 6 {
		h.Fade()
	}
	if n := h.Count(sum); n != 2 {
		t.Errorf("%d are left of 64 halved six times, and one", n)
	}
}

func TestEstimatesDoNotOverflow(t *testing.T) {
	var h Heat
	for range 1 << 17 {
		h.Count(1)
	}
	if n := h.Count(1); n != 1<<16-1 {
		t.Error(n)
	}
}
