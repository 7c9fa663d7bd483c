//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// CPU time and memory of processes, from /proc.

// tick is the unit of time in /proc/PID/stat. USER_HZ is 100 on every Linux that Go supports.
const tick = 10 * time.Millisecond

// cpuTime returns the user and system time of all threads of the processes so far.
func cpuTime(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return 0, err
		}
		used, err := parseStat(b)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		sum += used
	}
	return sum, nil
}

// parseStat adds up utime and stime, the 14th and 15th field of /proc/PID/stat. The 2nd field is
// the program's name in parentheses, which may contain any character, so parseStat counts the
// fields after the last parenthesis.
func parseStat(b []byte) (time.Duration, error) {
	i := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[i+1:])
	if i < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("unknown format: %q", b)
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * tick, err
}

// memory returns the resident memory of the processes in bytes. smaps_rollup counts single pages.
// The kernel updates the cheaper files in batches of pages, which is too coarse to measure a
// kilobyte per client.
func memory(pids []int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		b, err := os.ReadFile(dir + "/smaps_rollup")
		field := "Rss:"
		if err != nil || len(b) == 0 {
			if b, err = os.ReadFile(dir + "/status"); err != nil {
				return 0, err
			}
			field = "VmRSS:"
		}
		kb, err := kilobytes(b, field)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", dir, err)
		}
		sum += kb << 10
	}
	return sum, nil
}

// peakMemory returns the sum of the largest resident memory that each process ever had, in bytes.
func peakMemory(pids []int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil {
			return 0, err
		}
		kb, err := kilobytes(b, "VmHWM:")
		if err != nil {
			return 0, err
		}
		sum += kb << 10
	}
	return sum, nil
}

// kilobytes returns the number of a field of the form "Rss:     123 kB".
func kilobytes(b []byte, field string) (int64, error) {
	for line := range bytes.Lines(b) {
		if rest, found := bytes.CutPrefix(line, []byte(field)); found {
			return strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s", field)
}
