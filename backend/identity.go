package backend

import (
	"net"
	"net/netip"
)

// Identity is the user, the database and the protocol of a connection to a node. Two clients with
// the same Identity may share a pipe. A lease is switched to its holder's DB and RESP before the
// holder's first command, but never to another user.
//
// User and Password are what the client itself gave to AUTH or HELLO. If both are empty, it is the
// node's default user and no AUTH is sent. A Password without a User is the one-argument AUTH.
type Identity struct {
	User     string
	Password string
	DB       int
	RESP     int // 2 or 3
}

// Authenticated reports whether a connection of this identity begins with AUTH.
func (id Identity) Authenticated() bool { return id.User != "" || id.Password != "" }

// HostOf returns the address of a client without the port; the zero address for one on a unix
// socket, or without an address.
func HostOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	host, _ := netip.AddrFromSlice(tcp.IP)
	return host.Unmap()
}
