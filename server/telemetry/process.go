package telemetry

import (
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What the system says of this process. A figure that the system does not say is 0.

// processMemory is in bytes.
type processMemory struct {
	used     uint64 // by Go's heap, stacks and runtime
	resident uint64
	peak     uint64 // of resident
	system   uint64 // what the machine has
}

func readMemory() processMemory {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return processMemory{
		used:     samples[0].Value.Uint64() - samples[1].Value.Uint64(),
		resident: kilobytes("/proc/self/status", "VmRSS:"),
		peak:     kilobytes("/proc/self/status", "VmHWM:"),
		system:   kilobytes("/proc/meminfo", "MemTotal:"),
	}
}

// kilobytes reads a line "name   123 kB" of a file in /proc, in bytes.
func kilobytes(path, name string) uint64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}

// humanBytes writes a size as INFO does: "512B", "1.07M".
func humanBytes(n uint64) string {
	if n < 1<<10 {
		return strconv.FormatUint(n, 10) + "B"
	}
	f, unit := float64(n)/(1<<10), 0
	for ; f >= 1<<10 && unit < 3; unit++ {
		f /= 1 << 10
	}
	return fmt.Sprintf("%.2f%c", f, "KMGT"[unit])
}

// cpuTime returns the CPU time that the process has used.
func cpuTime() (system, user time.Duration) {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0, 0
	}
	return time.Duration(usage.Stime.Nano()), time.Duration(usage.Utime.Nano())
}

// osName returns a text like "Linux 6.1.0 x86_64".
func osName() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " +
		unix.ByteSliceToString(u.Machine[:])
}
