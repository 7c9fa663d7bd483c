package main

import "golang.org/x/sys/unix"

// keepIdle is the socket option for the seconds of silence before the kernel probes a connection.
const keepIdle = unix.TCP_KEEPALIVE
