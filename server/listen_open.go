package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/server/config"
)

// openDoors opens listeners, all of them or none. It does without those that the machine cannot
// have: of a family that it lacks, and optional ones of an address that it lacks.
func openDoors(wanted []config.Door, cfg *config.Config) (doors []door, err error) {
	for i := range wanted {
		w := &wanted[i]
		d, err := openDoor(w, cfg)
		switch {
		case err == nil:
			doors = append(doors, d)
		case errors.Is(err, syscall.EAFNOSUPPORT), w.Optional && errors.Is(err, syscall.EADDRNOTAVAIL):
			slog.Warn("not listening", "addr", w.Addr, "why", err)
		default:
			closeDoors(doors)
			return nil, err
		}
	}
	return doors, nil
}

func openDoor(w *config.Door, cfg *config.Config) (door, error) {
	if w.Network != "unix" {
		ln, err := listenTCP(w.Network, w.Addr, cfg)
		if err != nil {
			return door{}, err
		}
		return newDoor(ln, w), nil
	}
	if err := clearSocket(w.Addr); err != nil {
		return door{}, fmt.Errorf("listen unix %s: %w", w.Addr, err)
	}
	ln, err := net.Listen("unix", w.Addr)
	if err != nil {
		return door{}, err
	}
	d := newDoor(ln, w)
	if w.Perm != 0 {
		if err := os.Chmod(w.Addr, w.Perm); err != nil {
			_ = ln.Close()
			return door{}, fmt.Errorf("listen: %w", err)
		}
	}
	return d, nil
}

// errNoSocket is why a file is not removed for a unix socket.
var errNoSocket = errors.New("a file that is no socket is in the way")

// clearSocket removes a unix socket on which nobody listens any more.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&os.ModeSocket == 0:
		return errNoSocket
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return syscall.EADDRINUSE
	case errors.Is(err, syscall.EAGAIN): // its backlog is full
		return syscall.EADDRINUSE
	case !errors.Is(err, syscall.ECONNREFUSED):
		return err
	}
	return os.Remove(path)
}

// resolvePatience is how long it may take to find the address of a host name.
const resolvePatience = 5 * time.Second

// listenTCP listens with a backlog of ours.
func listenTCP(network, addr string, cfg *config.Config) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1}
	if cfg.ReusePort {
		config.Control = reusePort
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolvePatience)
	defer cancel()
	ln, err := config.Listen(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, err
	}
	// net listens with the system's maximum; listening again changes that.
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), cfg.TCPBacklog) }); err != nil {
		return nil, err
	}
	return ln, listenErr
}

// reusePort lets other processes of the same user that do so, too, listen on the same address.
func reusePort(_, _ string, raw syscall.RawConn) error {
	var err error
	if failed := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); failed != nil {
		return failed
	}
	return err
}

// keepAlive has the kernel probe clients that are silent for so long, and again twice. Accepted
// sockets inherit what their listener is set to, which costs four system calls less for each client
// than setting it there.
func (srv *server) keepAlive(idle time.Duration) {
	for _, d := range *srv.doors.Load() {
		tcp, ok := d.Listener.(*net.TCPListener)
		if !ok {
			continue
		}
		raw, err := tcp.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) { setKeepAlive(int(fd), idle) }) // fails only when the listener is closed
	}
}

func setKeepAlive(fd int, idle time.Duration) {
	if idle == 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		return
	}
	seconds := int(idle / time.Second)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, keepIdle, seconds)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, max(seconds/3, 1))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
}
