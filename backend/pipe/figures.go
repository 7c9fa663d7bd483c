package pipe

import (
	"math/bits"
	"time"
)

// Figures count what a loop has asked a node on its pipes. They outlast the pipes. Owned by the loop.
type Figures struct {
	Answers                    Durations // from when a request was queued to its last reply
	PrimaryReads, ReplicaReads uint64    // plain reads of clients that may read from several nodes
	Timeouts                   uint64    // requests given up
}

// Add adds what another loop has asked.
func (f *Figures) Add(o Figures) {
	f.PrimaryReads += o.PrimaryReads
	f.ReplicaReads += o.ReplicaReads
	f.Timeouts += o.Timeouts
	for i, n := range o.Answers.Counts {
		f.Answers.Counts[i] += n
	}
	f.Answers.Sum += o.Answers.Sum
}

// FirstBound is the upper bound of the first of Durations' buckets, in microseconds. Each further bound
// is twice the one before it.
const (
	FirstBound = 16
	bounds     = 20
)

// Durations counts durations by buckets. One more bucket, without a bound, follows.
type Durations struct {
	Sum    uint64             // microseconds; beside the counts of short ones
	Counts [bounds + 1]uint64 // not cumulative
}

func (d *Durations) observe(nanoseconds int64) {
	micros := uint64(max(nanoseconds, 0)) / 1e3
	d.Counts[min(bits.Len64(micros/FirstBound), bounds)]++
	d.Sum += micros
}

// LateAfter is the bound of one of the buckets: replies that take longer are late.
const (
	LateAfter  = FirstBound << lateBucket * time.Microsecond
	lateBucket = 13
)

// Since returns how many durations were counted since then, and how many of them are over LateAfter.
func (d *Durations) Since(then *Durations) (all, late uint64) {
	for i, n := range d.Counts {
		all += n - then.Counts[i]
		if i > lateBucket {
			late += n - then.Counts[i]
		}
	}
	return all, late
}

// figuresOf returns the figures of a node.
func (ps *Pipes) figuresOf(addr string) *Figures {
	f := ps.figures[addr]
	if f == nil {
		f = &Figures{}
		ps.figures[addr] = f
	}
	return f
}

// FiguresByNode calls each with the figures of every node.
func (ps *Pipes) FiguresByNode(each func(addr string, f Figures)) {
	for addr, f := range ps.figures {
		each(addr, *f)
	}
}
