package telemetry

import (
	"math"
	"math/bits"
	"time"
)

// maxBounds is how many bounds a histogram can have. One more bucket takes the values above them.
const maxBounds = 31

// Buckets are the upper bounds ("le": a value equal to a bound lies in its bucket) of a kind of
// histogram.
type Buckets struct {
	bounds []uint64
	per    float64   // observed units in an exposed one: 1e9 for nanoseconds shown as seconds
	first  [65]uint8 // the bucket at which the search for a value of so many bits begins
}

// NewBuckets makes buckets from ascending bounds in the unit that will be observed. scale is what
// one observed unit is in the exposed one: 1e-9 for nanoseconds shown as seconds, 1 for bytes.
func NewBuckets(scale float64, bounds ...uint64) *Buckets {
	if len(bounds) == 0 || len(bounds) > maxBounds {
		panic("a histogram has 1 to 31 bounds")
	}
	// Dividing by a whole number gives the decimals people expect of a bound; multiplying by 1e-9
	// does not.
	b := &Buckets{bounds: bounds, per: math.Round(1 / scale)}
	if b.per < 1 {
		panic("a histogram is exposed in its unit or a larger one")
	}
	for i := 1; i < len(bounds); i++ {
		if bounds[i] <= bounds[i-1] {
			panic("a histogram's bounds ascend")
		}
	}
	for n := range b.first {
		smallest := uint64(0)
		if n > 0 {
			smallest = 1 << (n - 1)
		}
		i := 0
		for i < len(bounds) && bounds[i] < smallest {
			i++
		}
		b.first[n] = uint8(i)
	}
	return b
}

// find returns the bucket of v. With bounds in steps of 1, 2 and 5 it compares twice at most.
func (b *Buckets) find(v uint64) int {
	i := int(b.first[bits.Len64(v)])
	for i < len(b.bounds) && b.bounds[i] < v {
		i++
	}
	return i
}

const (
	usec = uint64(time.Microsecond)
	msec = uint64(time.Millisecond)
	sec  = uint64(time.Second)
)

// DurationBuckets suit a command: 20 µs to 10 s, observed in nanoseconds, shown as seconds.
var DurationBuckets = NewBuckets(1e-9, 20*usec, 50*usec, 100*usec, 200*usec, 500*usec, msec, 2*msec, 5*msec, 10*msec,
	20*msec, 50*msec, 100*msec, 200*msec, 500*msec, sec, 2*sec, 5*sec, 10*sec)

// Histogram counts observations in fixed buckets. It has one writer and no lock: each loop has its
// own. Others read a copy, a plain assignment that the loop makes, and Add adds copies up.
type Histogram struct {
	buckets *Buckets
	sum     uint64                // of all values, in the observed unit; beside the counts of small ones
	counts  [maxBounds + 1]uint64 // of each bucket alone; the one after the last bound takes the rest
}

// NewHistogram makes an empty histogram.
func NewHistogram(b *Buckets) Histogram { return Histogram{buckets: b} }

// HistogramOf makes a histogram of what was counted elsewhere. counts has one element more than
// there are bounds.
func HistogramOf(b *Buckets, counts []uint64, sum uint64) Histogram {
	if len(counts) != len(b.bounds)+1 {
		panic("a histogram has one count more than bounds")
	}
	h := Histogram{buckets: b, sum: sum}
	copy(h.counts[:], counts)
	return h
}

// Observe counts one value.
func (h *Histogram) Observe(v uint64) {
	h.counts[h.buckets.find(v)]++
	h.sum += v
}

// ObserveDuration counts one duration. A negative duration, after the clock was set back, counts as
// 0.
func (h *Histogram) ObserveDuration(d time.Duration) { h.Observe(uint64(max(d, 0))) }

// Add adds the counts of o. Both histograms have the same buckets.
func (h *Histogram) Add(o *Histogram) {
	if o.buckets == nil {
		return // a zero value: nothing was ever observed
	}
	if h.buckets == nil {
		h.buckets = o.buckets
	}
	if h.buckets != o.buckets {
		panic("histograms of different buckets cannot be added")
	}
	for i := range h.counts {
		h.counts[i] += o.counts[i]
	}
	h.sum += o.sum
}

// Count returns the number of observations.
func (h *Histogram) Count() uint64 {
	n := uint64(0)
	for _, c := range h.counts {
		n += c
	}
	return n
}
