package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/server/config"
)

// firstPassed is the first descriptor that systemd passes: sd_listen_fds(3).
const firstPassed = 3

// takePassed takes the listeners that systemd has passed to this process, before berth opens
// anything itself. No child of this process sees them, or what the environment says of them.
func takePassed() (doors []door, err error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) { // they are another's
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 1<<20 {
		return nil, errors.New("LISTEN_FDS is no number of sockets")
	}
	for i := range n {
		fd, name := firstPassed+i, ""
		if i < len(names) {
			name = names[i]
		}
		d, err := passedDoor(fd, name)
		if err != nil {
			return nil, fmt.Errorf("descriptor %d that systemd has passed (%q): %w", fd, name, err)
		}
		doors = append(doors, d)
	}
	return doors, nil
}

// passedTLS is what a socket for clients that speak TLS is called.
const passedTLS = "tls"

var errNoListener = errors.New("it is no listening stream socket")

// passedDoor makes a door of a descriptor: of TLS if it is called so, but a configured door of its
// address says otherwise.
func passedDoor(fd int, name string) (door, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	switch {
	case errors.Is(err, syscall.ENOTSOCK):
		return door{}, errNoListener
	case err != nil:
		return door{}, err
	}
	syscall.CloseOnExec(fd) // passed by systemd, it was not
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || kind != unix.SOCK_STREAM || listens == 0 {
		return door{}, errNoListener
	}
	f := os.NewFile(uintptr(fd), name)
	ln, err := net.FileListener(f) // has a descriptor of its own
	_ = f.Close()
	if err != nil {
		return door{}, err
	}
	d := newDoor(ln, &config.Door{TLS: name == passedTLS})
	d.passed = true
	if addr, isTCP := ln.Addr().(*net.TCPAddr); isTCP && addr.IP.Equal(net.IPv6unspecified) {
		d.dual = !onlyIPv6(ln.(*net.TCPListener))
	}
	return d, nil
}

func onlyIPv6(ln *net.TCPListener) (only bool) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		only = err != nil || v != 0
	})
	return only || err != nil
}

// covers reports whether a passed listener is where a wanted door is to be.
func (d *door) covers(w *config.Door) bool {
	if path := d.path(); path != "" || w.Network == "unix" {
		return w.Network == "unix" && path == filepath.Clean(w.Addr)
	}
	if _, port, _ := net.SplitHostPort(w.Addr); port != strconv.Itoa(d.port()) {
		return false
	}
	want, err := net.ResolveTCPAddr(w.Network, w.Addr)
	if err != nil {
		return false // opening it says why
	}
	addr := d.Addr().(*net.TCPAddr)
	return want.IP.Equal(addr.IP) && want.Zone == addr.Zone || d.dual && want.IP.IsUnspecified()
}
