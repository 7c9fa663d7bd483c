package backend

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// boundPatience sets hostPatience, which also ends the kernel's questions.
func boundPatience(network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	if failed := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(hostPatience/time.Millisecond))
	}); failed != nil {
		return failed
	}
	return err
}
