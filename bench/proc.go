//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of the times in /proc/PID/stat; USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpuTime is what the processes have used so far, user and system time of all their threads, from
// /proc/PID/stat.
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

// parseStat adds up utime and stime, the 14th and 15th field. The 2nd is the program's name in
// parentheses and may hold anything, so fields are counted from its end.
func parseStat(b []byte) (time.Duration, error) {
	i := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[i+1:])
	if i < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("not understood: %q", b)
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * tick, err
}

// memory is the processes' resident memory in bytes. smaps_rollup counts pages; the cheaper files
// only batches of them, which is too coarse for a kilobyte a client.
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

// peakMemory is the largest resident memory each process ever had, summed, in bytes.
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

// kilobytes is the number behind a field of the form "Rss:     123 kB".
func kilobytes(b []byte, field string) (int64, error) {
	for line := range bytes.Lines(b) {
		if rest, found := bytes.CutPrefix(line, []byte(field)); found {
			return strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s", field)
}
