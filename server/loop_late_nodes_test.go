package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/server/config"
)

func TestNodeIsLateWhenMostOfItsRepliesAre(t *testing.T) {
	const soon, late = 3, 14 // buckets: 0.1 ms, 0.26 s
	var w lateWatch
	w.before = map[string]pipe.Durations{}
	var all pipe.Durations
	for _, step := range []struct {
		soon, late   uint64
		isLate, sure bool
	}{
		{5, 4, false, false}, // too few
		{0, 2, true, true},   // with those before: 5 and 6
		{8, 2, false, true},
		{0, 9, false, false},
		{100, 0, false, true},
		{50, 51, true, true},
		{0, 0, false, false},
		{50, 50, false, true},
	} {
		all.Counts[soon] += step.soon
		all.Counts[late] += step.late
		if got, sure := w.judge("n", all); got != step.isLate || sure != step.sure {
			t.Errorf("%+v: late %v, known %v", step, got, sure)
		}
	}
}

func TestLogSaysOnceThatANodeIsLateAndOnceThatItIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	useLog(t, path, config.LevelNotice)
	var n lateNodes
	for _, late := range []bool{true, true, false, false} { // of two loops
		n.note("10.0.0.7:6379", late)
	}
	n.note("10.0.0.8:6379", false)
	text := readLog(t, path)
	if strings.Count(text, "\n") != 2 || strings.Count(text, "node answers late") != 1 || strings.Count(text, "node answers in time") != 1 {
		t.Error(text)
	}
}
