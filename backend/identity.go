package backend

import (
	"net"
	"net/netip"
)

// Identity is the user, the database and the protocol of a connection to a node. Two clients with
// the same Identity may share a pipe. A lease is switched to its holder's DB and RESP before the
// holder's first command, but never to another user.
//
// A password is not part of an Identity: a user stays the same user when the password is replaced,
// and a user without a password may be given any. Logins knows how to log in.
type Identity struct {
	User string // "": the default user; see UserNamed
	DB   int
	RESP int // 2 or 3; 0: the node is told nothing at the beginning, no client's command may follow

	Alone int // 0: clients share its connections; else one request has them for itself
}

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

// UserNamed returns the Identity's User for a name in AUTH. The default user is the same user
// whether AUTH names it, AUTH has a password alone, or no AUTH was sent.
func UserNamed(name string) string {
	if name == "default" {
		return ""
	}
	return name
}
