//go:build linux

package main

import (
	"math"
	"math/rand"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreWithinOneBucketOfTheTruth(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for name, draw := range map[string]func() int64{
		"even":        func() int64 { return r.Int63n(1e6) },
		"small":       func() int64 { return r.Int63n(300) },
		"exponential": func() int64 { return int64(r.ExpFloat64() * 50e3) },
		"long tail":   func() int64 { return int64(math.Exp(r.NormFloat64()*3 + 12)) },
	} {
		var h histogram
		var all []int64
		for range 20000 {
			v := draw()
			all = append(all, v)
			h.record(v)
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
			rank := min(max(int(q*float64(len(all))+0.5), 1), len(all))
			truth, got := all[rank-1], int64(h.quantile(q))
			if got < truth || float64(got) > float64(truth)*(1+1.0/128)+1 {
				t.Errorf("%s: the %g quantile is %d, the histogram says %d", name, q, truth, got)
			}
		}
	}
}

func TestEveryDurationLiesInItsBucket(t *testing.T) {
	last := -1
	for _, v := range []uint64{0, 1, 255, 256, 257, 258, 511, 512, 1 << 20, 1<<20 + 1<<13, 1 << 40, math.MaxInt64, math.MaxUint64} {
		i := bucketOf(v)
		if i < last || i >= histogramBuckets {
			t.Fatalf("%d is in bucket %d, after %d, of %d", v, i, last, histogramBuckets)
		}
		last = i
		if top := bucketTop(i); v > top || top-v > v/128 {
			t.Errorf("%d is in bucket %d, which ends at %d", v, i, top)
		}
	}
	for i := range histogramBuckets - 1 {
		if bucketOf(bucketTop(i)) != i || bucketOf(bucketTop(i)+1) != i+1 {
			t.Fatalf("bucket %d does not end at %d", i, bucketTop(i))
		}
	}
}

func TestMergedHistogramsEqualOne(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	var a, b, both histogram
	for i := range 1000 {
		v := r.Int63n(1e9)
		both.record(v)
		if i%3 == 0 {
			a.record(v)
		} else {
			b.record(v)
		}
	}
	a.merge(&b)
	if a != both {
		t.Error("two merged histograms differ from one that counted everything")
	}
}

func TestAnEmptyHistogramHasNoDurations(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %s", got)
	}
	h.record(-5)
	if got := h.quantile(1); got != 0 || h.total != 1 {
		t.Errorf("a negative duration is counted as %s, %d times", got, h.total)
	}
}

func BenchmarkRecord(b *testing.B) {
	var h histogram
	v := int64(time.Microsecond)
	for b.Loop() {
		h.record(v)
		v = (v*5 + 3) & (1<<24 - 1)
	}
}
