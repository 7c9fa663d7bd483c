package main

import (
	"log/slog"
	"time"

	"github.com/berth-proxy/berth/backend/pipe"
)

// lateNodes are the nodes that answer, but late: most replies took longer than pipe.LateAfter. Each
// loop judges by the replies that it gets. All loops share it, so that the log has one line when it begins
// and one when it ends; PROXY SLOWLOG has the requests.
type lateNodes struct{ notedNodes }

// note takes the word of a loop that finds a node late, or no longer.
func (n *lateNodes) note(addr string, late bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch begins, ends, after := n.notedNodes.note(addr, late, time.Now()); {
	case begins:
		slog.Warn("node answers late", "node", addr, "why", "most replies take longer than "+pipe.LateAfter.String(), "see", "PROXY SLOWLOG")
	case ends:
		slog.Info("node answers in time", "node", addr, "after", after.Round(time.Second))
	}
}

// lateWatch is how a loop judges how soon nodes answer. Owned by the loop.
type lateWatch struct {
	judged int64                     // when it last did, unix nanoseconds
	before map[string]pipe.Durations // then
	late   map[string]bool
}

const (
	judgeEvery = 5 * time.Second
	judgedBy   = 10 // replies: of fewer nothing is concluded
)

// tick judges all nodes from time to time.
func (w *lateWatch) tick(clock int64, pipes *pipe.Pipes, note func(addr string, late bool)) {
	if time.Duration(clock-w.judged) < judgeEvery {
		return
	}
	w.judged = clock
	if w.before == nil {
		w.before, w.late = map[string]pipe.Durations{}, map[string]bool{}
	}
	pipes.FiguresByNode(func(addr string, f pipe.Figures) {
		if late, known := w.judge(addr, f.Answers); known && late != w.late[addr] {
			w.late[addr] = late
			note(addr, late)
		}
	})
}

// judge reports whether a node answers late, if enough replies have come since the last time.
func (w *lateWatch) judge(addr string, now pipe.Durations) (late, known bool) {
	was := w.before[addr]
	all, tooLong := now.Since(&was)
	if all < judgedBy { // it goes on counting
		return false, false
	}
	w.before[addr] = now
	return 2*tooLong > all, true
}
