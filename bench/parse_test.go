//go:build linux

package main

import (
	"os"
	"testing"
	"time"
)

func TestCPUTimeIsReadAfterAnyProgramName(t *testing.T) {
	got, err := parseStat([]byte("42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 0"))
	if err != nil || got != 2*time.Second {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := parseStat([]byte("42 (cut")); err == nil {
		t.Error("a truncated line is accepted")
	}
}

func TestOwnProcessHasTimeAndMemory(t *testing.T) {
	self := []int{os.Getpid()}
	begin := time.Now()
	for time.Since(begin) < 30*time.Millisecond {
	}
	if used, err := cpuTime(self); err != nil || used <= 0 {
		t.Errorf("CPU %s, %v", used, err)
	}
	now, err := memory(self)
	if err != nil || now < 1<<20 {
		t.Errorf("memory %d, %v", now, err)
	}
	if peak, err := peakMemory(self); err != nil || peak < now/2 {
		t.Errorf("peak %d, %v", peak, err)
	}
}

func TestRedisBenchmarksOutputIsUnderstood(t *testing.T) {
	out := "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET\",\"74074.07\",\"0.342\"\n"
	if got, err := parseBenchmarkCSV([]byte(out)); err != nil || got != 74074.07 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseBenchmarkCSV([]byte("Could not connect\n")); err == nil {
		t.Error("an error message is accepted")
	}
}

func TestStracesTotalIsUnderstood(t *testing.T) {
	out := "strace: Process 7 attached\n% time seconds usecs/call calls errors syscall\n" +
		" 60.00 0.1 5 1000 10 read\n------ ---\n100.00    0.296372          4     67329      1293 total\n"
	if got, err := parseStrace([]byte(out)); err != nil || got != 67329 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseStrace([]byte("attach: Operation not permitted")); err == nil {
		t.Error("an error message is accepted")
	}
}
