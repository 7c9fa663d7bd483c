//go:build linux

package main

import (
	"math/bits"
	"time"
)

const (
	histogramBits    = 8                        // values below 2^8 ns have a bucket each
	histogramHalf    = 1 << (histogramBits - 1) // buckets of each higher power of two
	histogramBuckets = 2*histogramHalf + (64-histogramBits)*histogramHalf
)

// histogram counts durations in buckets whose width is at most 1/128 of the durations in them. A
// percentile is therefore at most 0.8 % above the true one, at any magnitude. The layout is
// HdrHistogram's (http://hdrhistogram.org): each power of two is divided evenly. The zero value is
// empty. Owned by one goroutine.
type histogram struct {
	counts [histogramBuckets]uint64
	total  uint64
	max    uint64 // nanoseconds
}

// record counts one duration in nanoseconds. A negative duration counts as 0.
func (h *histogram) record(ns int64) {
	v := uint64(max(ns, 0))
	h.counts[bucketOf(v)]++
	h.total++
	h.max = max(h.max, v)
}

// bucketOf returns the index of the bucket that counts v.
func bucketOf(v uint64) int {
	shift := bits.Len64(v) - histogramBits
	if shift <= 0 {
		return int(v)
	}
	return shift*histogramHalf + int(v>>shift)
}

// bucketTop returns the largest value that bucket i counts.
func bucketTop(i int) uint64 {
	if i < 2*histogramHalf {
		return uint64(i)
	}
	shift := i/histogramHalf - 1
	low := uint64(i%histogramHalf + histogramHalf)
	return (low+1)<<shift - 1
}

// merge adds the counts of other.
func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile returns the duration that the share q (0 … 1) of all recorded durations does not exceed.
// It returns 0 if nothing was recorded.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q*float64(h.total) + 0.5)
	rank = min(max(rank, 1), h.total)
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return time.Duration(min(bucketTop(i), h.max))
		}
	}
	return time.Duration(h.max)
}
