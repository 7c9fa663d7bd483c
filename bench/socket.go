//go:build linux

package main

import (
	"fmt"
	"net"
	"syscall"
	"time"
	"unsafe"
)

// The sockets of the driver never block, so reads and writes go to the kernel without telling Go's
// scheduler. That and one epoll for all of them is what keeps the load generator light.

func readSocket(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func writeSocket(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

const (
	sysEpollPwait2 = 441              // on every architecture; Linux 5.11
	ipBindNoPort   = 24               // IP_BIND_ADDRESS_NO_PORT: a bound source address leaves the port to connect
	setTimerSlack  = 29               // PR_SET_TIMERSLACK
	coarse         = time.Millisecond // what older kernels can wait in
)

// epollWait waits for events, to the microsecond where the kernel can.
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

// exactTimers makes the kernel wake this thread when it asked for it, not 50 µs later.
func exactTimers() { _, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0) }

// target is an address to connect to.
type target struct {
	family int
	addr   syscall.Sockaddr
	local  bool // in 127.0.0.0/8, where clients can have many source addresses
}

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

// connect opens a socket that does not block; the connection may still be under way. With a source
// other than 0 it comes from 127.0.x.y, where x and y are that number's bytes: one address has
// ports for some 28,000 connections only.
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

// allowManyFiles raises the limit of descriptors to what is allowed, here and for the processes
// started from here, and returns it.
func allowManyFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = limit.Max
	// Go has raised its own limit already but would give children the old one, unless it is set
	// like this.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Cur, 1<<24)), nil
}
