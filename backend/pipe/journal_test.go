package pipe

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/berth-proxy/berth/backend"
)

func TestRingKeepsOrderWhileItGrowsAndWraps(t *testing.T) {
	var r backend.Ring[int]
	rnd := rand.New(rand.NewPCG(1, 2))
	pushed, popped := 0, 0
	for range 10_000 {
		if rnd.IntN(5) < 3 || r.Len() == 0 {
			r.Push(pushed)
			pushed++
			continue
		}
		if got := *r.At(0); got != popped {
			t.Fatalf("the oldest is %d, want %d", got, popped)
		}
		if got := r.Pop(); got != popped {
			t.Fatalf("popped %d, want %d", got, popped)
		}
		popped++
	}
	if r.Len() != pushed-popped {
		t.Fatalf("%d left, want %d", r.Len(), pushed-popped)
	}
}

// The journal is used as a pipe uses it: requests of all sizes are appended, flushed at random
// moments, and answered in order. What is written must be what was appended, and a request's bytes
// must be intact until it is answered.
func TestJournalKeepsRequestsUntilTheyAreAnswered(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var j journal
	var want, got []byte
	var places []place
	var texts [][]byte
	unflushed := 0
	for i := range 20_000 {
		switch rnd.IntN(3) {
		case 0, 1:
			n := rnd.IntN(200)
			if rnd.IntN(100) == 0 {
				n = rnd.IntN(3 * backend.ChunkSize)
			}
			text := bytes.Repeat([]byte{byte(i)}, n+1)
			want = append(want, text...)
			places = append(places, j.append(text))
			texts = append(texts, text)
			unflushed++
		case 2:
			for _, b := range j.unwritten(nil) {
				got = append(got, b...)
			}
			j.wrote()
			unflushed = 0
		}
		for len(places) > unflushed && rnd.IntN(2) == 0 {
			if !bytes.Equal(places[0].bytes(), texts[0]) {
				t.Fatalf("request %d changed before it was answered", i)
			}
			j.answered(places[0])
			places, texts = places[1:], texts[1:]
		}
	}
	for _, b := range j.unwritten(nil) {
		got = append(got, b...)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("written %d bytes, appended %d: they differ", len(got), len(want))
	}
}

func TestJournalLetsGoOfLargeRequests(t *testing.T) {
	var j journal
	p := j.append(make([]byte, 10*backend.ChunkSize))
	j.wrote()
	j.answered(p)
	if len(j.chunks) != 0 || j.spare != nil {
		t.Fatalf("an answered journal keeps %d chunks, spare %v", len(j.chunks), j.spare)
	}
}

func TestJournalOfSmallRequestsDoesNotAllocate(t *testing.T) {
	var j journal
	request := bytes.Repeat([]byte("x"), 100)
	n := testing.AllocsPerRun(1000, func() {
		for range 50 {
			p := j.append(request)
			j.wrote()
			j.answered(p)
		}
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
