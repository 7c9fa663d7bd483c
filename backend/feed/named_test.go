package feed

import (
	"reflect"
	"strconv"
	"testing"
)

func TestNamesThatHaveGoneLeaveNoLargeMap(t *testing.T) {
	var n named[int]
	const most = 10_000
	for i := range most {
		n.put(strconv.Itoa(i), i)
	}
	first := reflect.ValueOf(n.of).Pointer()
	copies := 0
	for i := range most {
		n.remove(strconv.Itoa(i))
		if got := most - 1 - i; len(n.of) != got || n.peak > namedKept && len(n.of) < n.peak/8 {
			t.Fatalf("%d are left after %d, and the map has had %d", len(n.of), i+1, n.peak)
		}
		if at := reflect.ValueOf(n.of).Pointer(); at != first {
			first = at
			copies++
		}
		if v, ok := n.of[strconv.Itoa(most-1)]; i < most-1 && (!ok || v != most-1) {
			t.Fatalf("the last one is %d after %d", v, i+1)
		}
	}
	if copies != 1 {
		t.Errorf("the map was copied %d times, want 1", copies)
	}
}

func TestFewNamesStayInOneMap(t *testing.T) {
	var n named[int]
	for i := range namedKept {
		n.put(strconv.Itoa(i), i)
	}
	first := reflect.ValueOf(n.of).Pointer()
	for i := range namedKept {
		n.remove(strconv.Itoa(i))
	}
	if reflect.ValueOf(n.of).Pointer() != first {
		t.Error("a small map was copied")
	}
}
