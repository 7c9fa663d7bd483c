package main

import (
	"net"
	"path/filepath"
	"strconv"

	"github.com/berth-proxy/berth/server/config"
)

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
