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

// Ports come from below the range the kernel hands to outgoing connections, so
// that no client of some other test sits on a port while its server restarts.
// The cluster bus listens 10000 above and stays below that range too.
const (
	firstPort     = 11000
	lastPort      = 22000
	busPortOffset = 10000
)

// reservedPort is a port no other user of this package takes, in this process
// or another, until it is released: a lock on a file named after it.
type reservedPort struct {
	number int
	lock   *os.File
}

// reservePort finds a port that is free now, with busPort also its bus port.
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

// release lets others take the port. Closing the file drops the lock.
func (p *reservedPort) release() { _ = p.lock.Close() }

func free(port int) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	return l.Close()
}
