package backend

import (
	"net"
	"net/netip"
)

// Identity is the user, the database and the protocol of a connection to a node. Two clients with
// the same Identity may share a pipe. A lease is switched to its holder's DB and RESP before the
// holder's first command, but never to another user.
//
// Logins knows how to log in. A client logs in with its own password, so that it is never taken for a
// later user of the same name: what differs by that differs by Credential.
type Identity struct {
	User string // "": the default user; see UserNamed

	// Credential tells the passwords apart with which clients have become this user, as Logins numbers
	// them. 0: berth itself, and the default user, whom no node deletes: any password of the user will do.
	// After a move to another backend Logins.Default has the default user's.
	Credential uint32

	DB   int
	RESP int // 2 or 3; 0: the node is told nothing at the beginning, no client's command may follow

	Alone int // 0: clients share its connections; else one request has them for itself

	Tracks bool // the node tells on its connections which keys have changed: see pipe.Listener

	Replica ReplicaKind // whether it reads from replicas; others do not
}

// ReplicaKind says what a connection by which a replica is read has to say first.
type ReplicaKind uint8

const (
	NoReplica       ReplicaKind = iota
	ReplicaOfSingle             // nothing
	ReplicaOfShard              // READONLY: a replica in a Cluster sends others to its primary
)

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
