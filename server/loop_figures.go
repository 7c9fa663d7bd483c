package main

import "time"

// loopFigures is what one loop, or several, are and do.
type loopFigures struct {
	*loopSnapshot
	loops int
	rates []rates // of each loop
}

// figures is the loop's. On the loop.
func (l *loop) figures() *loopFigures { return &loopFigures{l.snapshot(), 1, []rates{l.rates}} }

// sumFigures adds up what the loops say.
func sumFigures(all []*loopFigures) *loopFigures {
	sum := &loopFigures{loopSnapshot: newLoopSnapshot()}
	for _, f := range all {
		sum.add(f.loopSnapshot)
		sum.loops += f.loops
		sum.rates = append(sum.rates, f.rates...)
	}
	return sum
}

// series is what was answered in each of the last seconds, by a berth that began then.
func (f *loopFigures) series(began time.Time) rateSeries { return sumRates(f.rates, began, time.Now()) }
