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

// countSyscalls counts a proxy's system calls with strace, in a round that is not measured
// otherwise. strace makes the proxy slow, so more requests share a system call than usual.
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
		b.note("System calls were not counted, because strace did not start.")
		return
	}
	time.Sleep(s.WarmUp) // time for strace to attach to all threads
	before := f.done(0)
	time.Sleep(s.Duration)
	requests := f.done(0) - before
	_ = strace.Process.Signal(syscall.SIGINT)
	_ = strace.Wait() // its exit code reports the signal
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

// parseStrace returns the number of calls from the line of strace -c that ends in "total".
func parseStrace(out []byte) (int, error) {
	for line := range bytes.Lines(out) {
		fields := bytes.Fields(line)
		if len(fields) >= 4 && string(fields[len(fields)-1]) == "total" {
			return strconv.Atoi(string(fields[3]))
		}
	}
	return 0, fmt.Errorf("no total in %q", out[:min(len(out), 100)])
}
