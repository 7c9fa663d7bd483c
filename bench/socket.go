//go:build linux

package main

import (
	"fmt"
	"net"
	"syscall"
	"time"
	"unsafe"
)

// System calls for the driver's sockets. They never block, so reads and writes bypass Go's
// scheduler. Together with one epoll for all sockets, this makes the load generator cheap.

// readSocket reads from a socket.
func readSocket(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

// writeSocket writes to a socket.
func writeSocket(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

const (
	sysEpollPwait2 = 441              // the number on every architecture, since Linux 5.11
	ipBindNoPort   = 24               // IP_BIND_ADDRESS_NO_PORT: bind sets only the address; connect chooses the port
	setTimerSlack  = 29               // PR_SET_TIMERSLACK
	coarse         = time.Millisecond // unit of epoll_wait on older kernels
)

// epollWait waits for events, with a precision of microseconds if the kernel supports it.
func epollWait(epfd int, events []syscall.EpollEvent, wait time.Duration) (int, error) {
	ts := syscall.NsecToTimespec(int64(max(wait, 0)))
	n, _, errno := syscall.Syscall6(sysEpollPwait2, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EINTR:
		return 0, nil
	case syscall.ENOSYS:
		m, err := syscall.EpollWait(epfd, events, int((wait+coarse-1)/coarse))
		if err == syscall.EINTR {
			return 0, nil
		}
		return m, err
	}
	return 0, errno
}

// exactTimers makes the kernel wake this thread on time instead of up to 50 µs later.
func exactTimers() { _, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0) }

// target is an address to connect to.
type target struct {
	family int
	addr   syscall.Sockaddr
	local  bool // in 127.0.0.0/8, so clients can use many source addresses
}

// newTarget resolves "host:port".
func newTarget(addr string) (target, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return target{}, err
	}
	if ip := a.IP.To4(); ip != nil {
		return target{family: syscall.AF_INET, addr: &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)},
			local: ip[0] == 127}, nil
	}
	return target{family: syscall.AF_INET6, addr: &syscall.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())}}, nil
}

// connect opens a socket that does not block and begins to connect it. If source is not 0, the
// connection comes from 127.0.x.y, where x and y are the bytes of source. Several source addresses
// are necessary because one has ports for only about 28,000 connections.
func (t target) connect(source uint16) (int, error) {
	fd, err := syscall.Socket(t.family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if source != 0 && t.local {
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, ipBindNoPort, 1)
		from := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, byte(source >> 8), byte(source)}}
		if err := syscall.Bind(fd, from); err != nil {
			_ = syscall.Close(fd)
			return -1, fmt.Errorf("bind: %w", err)
		}
	}
	if err := syscall.Connect(fd, t.addr); err != nil && err != syscall.EINPROGRESS {
		_ = syscall.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// allowManyFiles raises the limit of file descriptors to the maximum, for bench and for the
// processes that it starts, and returns the new limit.
func allowManyFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = limit.Max
	// Go has raised the limit of this process already, but child processes would get the old limit
	// without this call.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Cur, 1<<24)), nil
}
