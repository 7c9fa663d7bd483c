package main

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/config"
)

// doorway is a door as its clients have it. All clients of a door share one, which outlasts the
// listener: clients stay when their door is closed.
type doorway struct {
	name    string                      // its address
	terms   atomic.Pointer[config.Door] // changed while clients come and ask: either may be used for one more turn
	clients atomic.Int64                // who came by it, and are not gone; acceptors and loops count
}

// unixClient is where a client of a unix socket is, in Redis' form. The client's own end has no name:
// the path that it came to stands for it.
type unixClient string

func (c unixClient) Network() string { return "unix" }
func (c unixClient) String() string  { return string(c) + ":0" }

// remote is where a client is who came by this door.
func (d *doorway) remote(conn interface {
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
}) net.Addr {
	if _, unix := conn.LocalAddr().(*net.UnixAddr); unix {
		return unixClient(d.name)
	}
	return conn.RemoteAddr()
}

// remote is where the client is.
func (s *session) remote() net.Addr { return s.door.remote(s.conn) }

// addresses are both ends of the client's connection, in Redis' form.
func (s *session) addresses() (remote, local string) {
	from := s.remote()
	if path, unix := from.(unixClient); unix { // gnet gives its end a name of its own
		return path.String(), path.String()
	}
	return from.String(), s.conn.LocalAddr().String()
}

// readFrom is which nodes the client's reads go to, as its door says, or else the configuration.
func (s *session) readFrom() router.ReadFrom {
	if from := s.door.terms.Load().ReadFrom; from != nil {
		return *from
	}
	return s.loop.srv.config().ReadFrom
}

// enter counts a client in, unless there are too many.
func (d *doorway) enter() bool {
	most := d.terms.Load().MaxClients
	if now := d.clients.Add(1); most > 0 && now > int64(most) {
		d.clients.Add(-1)
		return false
	}
	return true
}

// left counts a client out.
func (srv *server) left(by *doorway) {
	by.clients.Add(-1)
	srv.clients.Add(-1)
}

// isFull reports whether a client who comes now is one too many.
func (d *doorway) isFull() bool {
	most := d.terms.Load().MaxClients
	return most > 0 && d.clients.Load() >= int64(most)
}

// sendsHeader reports whether a peer is a load balancer that says, in a PROXY header, who its client
// is. Who may open a unix socket says its file mode, so on one whose door names networks everybody is.
func (d *doorway) sendsHeader(peer net.Addr, cfg *config.Config) bool {
	networks := d.terms.Load().ProxyNetworks
	tcp, isTCP := peer.(*net.TCPAddr)
	if !isTCP {
		return len(networks) > 0
	}
	if networks == nil {
		networks = cfg.ProxyNetworks
	}
	if len(networks) == 0 {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap()
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(ip) })
}

// greets reports whether clients have something to say before the first command.
func (d *doorway) greets(cfg *config.Config) bool {
	terms := d.terms.Load()
	return terms.TLS || len(terms.ProxyNetworks) > 0 || terms.ProxyNetworks == nil && len(cfg.ProxyNetworks) > 0
}
