package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// probe finds the mistakes that berth would find when it opens what the options name: -t asks this
// machine. A port that is taken is none: berth itself may have it.
func (l *loader) probe() {
	c := l.config
	check := func(option string, err error) {
		if err != nil {
			l.wrong(l.source(option), option+": "+err.Error())
		}
	}
	if c.Port != 0 || c.TLSPort != 0 {
		check("bind", probeAddresses(c.Bind))
	}
	if c.AdminPort != 0 {
		check("admin-bind", probeAddresses(c.AdminBind))
	}
	if c.UnixSocket != "" {
		check("unixsocket", probePath(c.UnixSocket))
	}
	if c.TakeOverSocket != "" {
		check("take-over-socket", probePath(c.TakeOverSocket))
	}
	for _, d := range c.Listen {
		if d.Network == "unix" {
			check("listen", probePath(d.Addr))
		} else if !d.Optional {
			check("listen", probeAddresses([]string{d.host}))
		}
	}
	if c.LogFile != "" {
		check("logfile", probeLog(c.LogFile))
	}
}

// probeAddresses says on which address of a bind option the machine cannot listen, whatever the port,
// and why.
func probeAddresses(words []string) error {
	for _, word := range words {
		network, addr, optional := BindAddress(word, 0)
		ln, err := net.Listen(network, addr)
		switch {
		case err == nil:
			_ = ln.Close()
		case errors.Is(err, syscall.EAFNOSUPPORT): // berth does without
		case errors.Is(err, syscall.EADDRNOTAVAIL) && optional:
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return fmt.Errorf("this machine does not have the address %s; with a - before it berth does without", word)
		default:
			return err
		}
	}
	return nil
}

// probePath says why there can be no unix socket at a path.
func probePath(path string) error {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s: a file that is no socket is in the way", path)
	}
	const writeAndSearch = 3
	if err := syscall.Access(filepath.Dir(path), writeAndSearch); err != nil {
		return fmt.Errorf("%s: %w", filepath.Dir(path), err)
	}
	return nil
}

// probeLog says why a log cannot be opened. It leaves no file that was not there.
func probeLog(path string) error {
	_, err := os.Lstat(path)
	isNew := errors.Is(err, os.ErrNotExist)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if isNew {
		_ = os.Remove(path)
	}
	return f.Close()
}
