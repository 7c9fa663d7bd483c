package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// notify tells the service manager what has become of this process, if it wants to know:
// sd_notify(3).
func notify(states ...string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.Dial("unixgram", path)
	if err == nil {
		_, err = conn.Write([]byte(strings.Join(states, "\n")))
		_ = conn.Close()
	}
	if err != nil {
		slog.Warn("the service manager is not told", "state", states[0], "why", err)
	}
}

// notifyReloading says that a reload begins, and when: the manager must not take an earlier READY=1
// for the end of this one.
func notifyReloading() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // fails only for a clock that there is not
	notify("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}
