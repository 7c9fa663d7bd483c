package redistest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Free ports, reserved by locks on files so that test binaries do not share them.

// The ports are below the range that the kernel uses for outgoing connections. Otherwise a client
// of another test could use a port while its server restarts. The cluster bus listens 10000 above
// and stays below that range too.
const (
	firstPort     = 11000
	lastPort      = 22000
	busPortOffset = 10000
)

// reservedPort is a port that no other user of this package takes until it is released, neither in
// this process nor in another.
type reservedPort struct {
	number int
	lock   *os.File // named after the port and locked
}

// reservePort reserves a port that is free now. If busPort is set, its bus port is free too.
func reservePort(busPort bool) (*reservedPort, error) {
	dir := filepath.Join(os.TempDir(), "redistest-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	var last error
	for range 2000 {
		n := firstPort + rand.IntN(lastPort-firstPort)
		lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(n)), os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			return nil, err
		}
		if last = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); last == nil {
			last = free(n)
		}
		if last == nil && busPort {
			last = free(n + busPortOffset)
		}
		if last == nil {
			return &reservedPort{number: n, lock: lock}, nil
		}
		_ = lock.Close()
	}
	return nil, fmt.Errorf("no free port between %d and %d: %w", firstPort, lastPort, last)
}

// release gives the port back. Closing the file releases the lock.
func (p *reservedPort) release() { _ = p.lock.Close() }

// free returns nil if a listener can use the port now.
func free(port int) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	return l.Close()
}
