package telemetry

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestAValueLiesInTheFirstBucketThatHoldsIt(t *testing.T) {
	for _, b := range []*Buckets{DurationBuckets, NewBuckets(1, 1), NewBuckets(1, 0, 1, 2, 3, 4, 1000, math.MaxUint64)} {
		values := []uint64{0, 1, math.MaxUint64}
		for _, bound := range b.bounds {
			values = append(values, bound, bound+1, bound-1)
		}
		random := rand.New(rand.NewPCG(5, 6))
		for range 2000 {
			values = append(values, random.Uint64()>>random.IntN(64))
		}
		for _, v := range values {
			want := 0
			for want < len(b.bounds) && v > b.bounds[want] {
				want++
			}
			if got := b.find(v); got != want {
				t.Errorf("%d lies in bucket %d, want %d of %v", v, got, want, b.bounds)
			}
		}
	}
}

func TestHistogramsAddUp(t *testing.T) {
	var sum Histogram
	a, b := NewHistogram(DurationBuckets), NewHistogram(DurationBuckets)
	a.ObserveDuration(time.Millisecond)
	a.ObserveDuration(-time.Second)
	b.ObserveDuration(time.Minute)
	sum.Add(&a)
	sum.Add(&Histogram{})
	before := a // a snapshot is a copy
	a.ObserveDuration(time.Hour)
	sum.Add(&b)
	if sum.Count() != 3 || sum.sum != uint64(61*time.Second-999*time.Millisecond) || before.Count() != 2 {
		t.Errorf("count %d, sum %d, snapshot %d", sum.Count(), sum.sum, before.Count())
	}
	sum = NewHistogram(DurationBuckets)
	if sum.Count() != 0 || sum.sum != 0 {
		t.Error("a reset histogram still counts")
	}
	sum.Observe(1)
	same := HistogramOf(DurationBuckets, sum.counts[:len(DurationBuckets.bounds)+1], sum.sum)
	if same != sum {
		t.Error("a histogram made of counts differs from the one they came from")
	}
}

func TestObservingAllocatesNothing(t *testing.T) {
	h := NewHistogram(DurationBuckets)
	if n := testing.AllocsPerRun(100, func() { h.Observe(12345678) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHistogramObserve(b *testing.B) {
	h := NewHistogram(DurationBuckets)
	v := uint64(1)
	for b.Loop() {
		v = v*6364136223846793005 + 1442695040888963407
		h.Observe(v >> 36) // up to 0.27 s
	}
}
