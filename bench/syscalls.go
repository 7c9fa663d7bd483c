//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// countSyscalls lets strace count a proxy's system calls during a round that is not measured
// otherwise: being watched makes the proxy slow, so more requests share a call than usual.
func (b *bench) countSyscalls(s *scenario, e *endpoint, r *scenarioResults) {
	f, err := newField(s, e, b.o.drivers, func() workload { return newWorkload(s) })
	if err != nil || s.Name == "idle" || s.Name == "big" || s.Name == "hog" {
		if err == nil {
			f.end()
		}
		return
	}
	defer f.end()
	f.enter(phaseMeasuring)
	time.Sleep(s.WarmUp)
	var said bytes.Buffer
	strace := exec.Command("strace", "-c", "-f", "-p", strconv.Itoa(e.proxy[0]))
	strace.Stderr = &said
	if err := strace.Start(); err != nil {
		b.note("Without strace no system calls were counted.")
		return
	}
	time.Sleep(s.WarmUp) // strace has attached to all threads by then
	before := f.done(0)
	time.Sleep(s.Duration)
	requests := f.done(0) - before
	_ = strace.Process.Signal(syscall.SIGINT)
	_ = strace.Wait() // ends with the signal's code
	calls, err := parseStrace(said.Bytes())
	if err != nil || requests == 0 {
		b.say("strace: %v", err)
		return
	}
	row := r.rowOf(e.name)
	if len(row.Rounds) > 0 {
		last := &row.Rounds[len(row.Rounds)-1]
		last.extra = append(last.extra, extra{"system calls per request (strace)", float64(calls) / float64(requests)})
	}
}

// parseStrace finds the number of calls in the last line of strace -c, the one that ends in
// "total".
func parseStrace(out []byte) (int, error) {
	for line := range bytes.Lines(out) {
		fields := bytes.Fields(line)
		if len(fields) >= 4 && string(fields[len(fields)-1]) == "total" {
			return strconv.Atoi(string(fields[3]))
		}
	}
	return 0, fmt.Errorf("no total in %q", out[:min(len(out), 100)])
}
