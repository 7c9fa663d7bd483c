package topk

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// tally is how often a name was counted since it has had its entry.
type tally struct{ n int }

func countAll(w *Window[tally], names ...string) {
	for _, name := range names {
		e, _ := w.Count(Sum([]byte(name), 0), []byte(name))
		e.Of.n++
	}
}

// counted is what the window knows of each name.
func counted(w *Window[tally]) map[string]int {
	all := map[string]int{}
	for _, e := range w.Entries() {
		all[e.Name()] += e.Of.n
	}
	return all
}

func TestNoNameWithMoreThanItsShareIsMissing(t *testing.T) {
	const size, total = 16, 20000
	random := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(random, 1.2, 1, 1<<20)
	w := NewWindow[tally](size, 0)
	real := map[string]int{}
	for range total {
		name := fmt.Sprint(zipf.Uint64())
		real[name]++
		countAll(&w, name)
	}
	found := map[string]bool{}
	for at, e := range w.Entries() {
		found[e.Name()] = true
		if weight := int(w.now.weights[at]); weight < real[e.Name()] || e.Of.n > real[e.Name()] {
			t.Errorf("%s occurred %d times: weight %d, seen %d", e.Name(), real[e.Name()], weight, e.Of.n)
		}
	}
	if len(found) != size {
		t.Fatalf("%d entries", len(found))
	}
	for name, n := range real {
		if n > total/size && !found[name] {
			t.Errorf("%s occurred %d times of %d and is missing", name, n, total)
		}
	}
}

func TestTheLargestStay(t *testing.T) {
	w := NewWindow[tally](4, 0)
	for i, weight := range rand.New(rand.NewPCG(3, 4)).Perm(100) {
		name := fmt.Appendf(nil, "name %d", weight)
		if e := w.Raise(Sum(name, 0), name, uint64(weight)); i < 4 && e == nil {
			t.Errorf("%s had no place", name)
		}
	}
	for at, e := range w.Entries() {
		if weight := w.now.weights[at]; weight < 96 || e.Name() != fmt.Sprintf("name %d", weight) {
			t.Errorf("%s weighs %d", e.Name(), weight)
		}
	}
	if w.Bar() != 96 {
		t.Errorf("bar: %d", w.Bar())
	}
	if name := []byte("name 99"); w.Raise(Sum(name, 0), name, 97) != nil || w.Raise(Sum(name, 0), name, 100) == nil {
		t.Error("an entry is not the largest of its name")
	}
}

func TestLongNamesAreCutAndToldApart(t *testing.T) {
	long := make([]byte, 10*MaxName)
	w := NewWindow[tally](8, 0)
	for i := range 3 {
		long[len(long)-1] = byte(i)
		w.Count(Sum(long, 0), long)
		w.Count(Sum(long, 1), long)
	}
	entries := w.Entries()
	if len(entries) != 6 {
		t.Fatalf("%d entries", len(entries))
	}
	if e := entries[0]; e.Length != len(long) || len(e.Name()) != MaxName {
		t.Errorf("%d of %d bytes", len(e.Name()), e.Length)
	}
}

func TestOldHeatFades(t *testing.T) {
	at := func(seconds int64) int64 { return seconds * int64(time.Second) }
	w := NewWindow[tally](8, at(100))
	check := func(seconds, span int64, want ...string) {
		t.Helper()
		w.Turn(at(seconds))
		got := counted(&w)
		for _, name := range want {
			if got[name] != 1 {
				t.Errorf("after %d s: %v, want %v", seconds, got, want)
			}
		}
		if len(got) != len(want) || w.Span(at(seconds)) != time.Duration(at(span)) {
			t.Errorf("after %d s: %v of %v, want %v of %d s", seconds, got, w.Span(at(seconds)), want, span)
		}
	}
	countAll(&w, "a")
	check(129, 29, "a")
	check(130, 30, "a")
	countAll(&w, "b")
	check(159, 59, "a", "b")
	check(160, 30, "b")
	countAll(&w, "c")
	check(230, 0)
	countAll(&w, "d")
	check(231, 1, "d")
}

func TestCountingAllocatesNothingOnceTheListIsFull(t *testing.T) {
	w := NewWindow[tally](16, 0)
	names := make([][]byte, 64)
	for i := range names {
		names[i] = fmt.Appendf(nil, "name %d", i)
	}
	round := func() {
		for _, name := range names {
			w.Count(Sum(name, 0), name)
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkCount is the cost of one look at a name, in the list or not.
func BenchmarkCount(b *testing.B) {
	for _, names := range []int{200, 100000} {
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			w := NewWindow[tally](256, 0)
			all := make([][]byte, names)
			for i := range all {
				all[i] = fmt.Appendf(nil, "key:%012d", i)
			}
			for i := 0; b.Loop(); i++ {
				name := all[i%names]
				w.Count(Sum(name, 0), name)
			}
		})
	}
}
