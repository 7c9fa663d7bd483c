package main

import (
	"time"

	"github.com/berth-proxy/berth/backend"
)

// loopFigures is what one loop, or several, are and do.
type loopFigures struct {
	*loopSnapshot
	loops int
	feeds map[string]backend.FeedCount // by node
	rates []rates                      // of each loop
}

// figures is the loop's. On the loop.
func (l *loop) figures() *loopFigures {
	f := &loopFigures{loopSnapshot: l.snapshot(), loops: 1, feeds: map[string]backend.FeedCount{}, rates: []rates{l.rates}}
	l.feeds.Count(f.feeds)
	return f
}

// sumFigures adds up what the loops say.
func sumFigures(all []*loopFigures) *loopFigures {
	sum := &loopFigures{loopSnapshot: newLoopSnapshot(), feeds: map[string]backend.FeedCount{}}
	for _, f := range all {
		sum.add(f.loopSnapshot)
		sum.loops += f.loops
		sum.rates = append(sum.rates, f.rates...)
		for addr, c := range f.feeds {
			at := sum.feeds[addr]
			at.Up += c.Up
			at.Dialing += c.Dialing
			at.Channels += c.Channels
			sum.feeds[addr] = at
		}
	}
	return sum
}

// series is what was answered in each of the last seconds, by a berth that began then.
func (f *loopFigures) series(began time.Time) rateSeries { return sumRates(f.rates, began, time.Now()) }
