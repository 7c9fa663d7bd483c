package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/server/admin"
	"github.com/berth-proxy/berth/server/config"
)

// reservedFiles are descriptors that are no client's: listeners, pollers, logs, control
// connections, and those of the admin endpoint, which bounds its own.
const reservedFiles = 128 + admin.MaxConns

// capClients sets how many clients there may be: maxclients, or what the descriptor limit leaves
// when the nodes have their connections.
func (srv *server) capClients() {
	most := srv.config().MaxClients
	if srv.maxFiles > 0 {
		leases := 0
		srv.pools.Each(func(_, _ string, p *pool.Pool) { leases += p.Size() })
		// Each loop has a pipe and a feed to each node. Over very many nodes the clients keep half.
		shared := min(2*len(srv.eachLoop())*len(srv.nodes.Topology().Shards()), srv.maxFiles/2)
		greetings := 0
		if c := srv.config(); c.TLSPort > 0 || len(c.ProxyNetworks) > 0 {
			greetings = srv.maxGreetings()
		}
		most = min(most, srv.maxFiles-reservedFiles-leases-shared-greetings)
	}
	srv.clientCap.Store(int64(max(1, most)))
}

// place is where a TCP listener is to be.
type place struct {
	network, addr string
	optional      bool // the machine may lack the address
	tls           bool // clients speak TLS
}

// places lists where a configuration has TCP listeners.
func places(cfg *config.Config) (at []place) {
	for _, p := range []struct {
		port int
		tls  bool
	}{{cfg.Port, false}, {cfg.TLSPort, true}} {
		if p.port == 0 {
			continue
		}
		for _, word := range cfg.Bind {
			network, addr, optional := config.BindAddress(word, p.port)
			at = append(at, place{network, addr, optional, p.tls})
		}
	}
	return at
}

// door is an open listener.
type door struct {
	net.Listener
	at place // of a TCP listener
}

// errNoDoor is why berth would have no listener.
var errNoDoor = errors.New("nothing to listen on: neither port or tls-port and bind nor unixsocket name an address of this machine")

// listen opens all listeners.
func (srv *server) listen(cfg *config.Config) error {
	doors, err := openDoors(places(cfg), cfg)
	if err != nil {
		return err
	}
	if cfg.UnixSocket != "" {
		if err := os.Remove(cfg.UnixSocket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("listen: %w", err)
		}
		ln, err := net.Listen("unix", cfg.UnixSocket)
		if err != nil {
			return err
		}
		if cfg.UnixSocketPerm != 0 {
			if err := os.Chmod(cfg.UnixSocket, cfg.UnixSocketPerm); err != nil {
				return fmt.Errorf("listen: %w", err)
			}
		}
		doors = append(doors, door{Listener: ln})
	}
	if len(doors) == 0 {
		return errNoDoor
	}
	srv.doors.Store(&doors)
	return nil
}

// openDoors opens TCP listeners, all of them or none. It does without those that the machine cannot
// have: of a family that it lacks, and optional ones of an address that it lacks.
func openDoors(at []place, cfg *config.Config) (doors []door, err error) {
	for _, p := range at {
		ln, err := listenTCP(p.network, p.addr, cfg)
		switch {
		case err == nil:
			doors = append(doors, door{ln, p})
		case errors.Is(err, syscall.EAFNOSUPPORT), p.optional && errors.Is(err, syscall.EADDRNOTAVAIL):
			slog.Warn("not listening", "addr", p.addr, "why", err)
		default:
			closeDoors(doors)
			return nil, err
		}
	}
	return doors, nil
}

func closeDoors(doors []door) {
	for _, d := range doors {
		_ = d.Close() // ends its acceptors
	}
}

// rebind has berth listen where a changed configuration says, or leaves all as it was. Listeners
// that stay are not touched. Those of the same port may be in the way of new ones (127.0.0.1 of all
// addresses): then they are closed first.
func (srv *server) rebind(next *config.Config) error {
	srv.doorsMu.Lock()
	defer srv.doorsMu.Unlock()
	if srv.stopping.Load() {
		return net.ErrClosed
	}
	missing := places(next)
	var stay, leave []door
	for _, d := range *srv.doors.Load() {
		if at := slices.Index(missing, d.at); at >= 0 || d.at.network == "" {
			stay = append(stay, d)
			missing = slices.DeleteFunc(missing, func(p place) bool { return p == d.at })
		} else {
			leave = append(leave, d)
		}
	}
	added, err := openDoors(missing, next)
	if errors.Is(err, syscall.EADDRINUSE) && len(leave) > 0 && next.Port == srv.config().Port {
		closeDoors(leave)
		if added, err = openDoors(missing, next); err != nil {
			srv.reopen(stay, leave)
			return err
		}
	}
	if err == nil && len(stay)+len(added) == 0 {
		err = errNoDoor
	}
	if err != nil {
		return err
	}
	srv.openTo(stay, added, next)
	closeDoors(leave)
	return nil
}

// reopen opens listeners that have been closed in vain.
func (srv *server) reopen(stay, closed []door) {
	var added []door
	for _, d := range closed {
		again, err := openDoors([]place{d.at}, srv.config())
		if err != nil {
			slog.Error("not listening any more", "addr", d.at.addr, "why", err)
		}
		added = append(added, again...)
	}
	srv.openTo(stay, added, srv.config())
}

// openTo lets clients in by the added listeners.
func (srv *server) openTo(stay, added []door, cfg *config.Config) {
	doors := slices.Concat(stay, added)
	srv.doors.Store(&doors)
	srv.keepAlive(cfg.TCPKeepalive)
	srv.accept(added)
}

// accept takes clients from listeners, until these are closed.
func (srv *server) accept(doors []door) {
	for _, d := range doors {
		a := &acceptor{srv: srv, door: d}
		for range acceptors {
			srv.accepts.Go(a.run)
		}
	}
}

// tryRebind is rebind with the words of Redis.
func (srv *server) tryRebind(next *config.Config, name string) error {
	err := srv.rebind(next)
	if err == nil {
		return nil
	}
	slog.Warn("listening as before", "why", err)
	if name == "bind" {
		return errors.New("Failed to bind to specified addresses.")
	}
	return errors.New("Unable to listen on this port. Check server logs.")
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
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, max(seconds/3, 1))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
}

// Pauses after a failed accept, doubled each time: out of descriptors, an accept loop would spin.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// acceptors is how many goroutines take clients from one listener. To give a socket to a loop takes
// two switches of goroutines: where many connect at once these go side by side.
const acceptors = 32

// acceptor takes clients from a listener.
type acceptor struct {
	srv   *server
	door  door
	mu    sync.Mutex // held by the goroutine that waits for the next client; guards pause
	pause time.Duration

	failures flood // of lines in the log
}

// run takes clients until the listener is closed. Several goroutines do so at the same time.
func (a *acceptor) run() {
	for {
		conn, err := a.next()
		switch {
		case err != nil:
			return
		case conn != nil:
			a.srv.welcome(conn, a.door)
		}
	}
}

// next waits for a client; none comes of it when the system had no room for one. An error is the
// listener's end.
func (a *acceptor) next() (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	conn, err := a.door.Accept()
	switch {
	case err == nil:
		a.pause = 0
	case a.srv.stopping.Load() || errors.Is(err, net.ErrClosed):
		return nil, err
	default:
		a.pause = min(max(2*a.pause, acceptPauseMin), acceptPauseMax)
		limited(&a.failures, slog.LevelWarn, "accept failed", "why", err, "pause", a.pause)
		time.Sleep(a.pause)
	}
	return conn, nil
}

// welcome makes a client of an accepted socket, unless there are too many.
func (srv *server) welcome(conn net.Conn, by door) {
	srv.accepted.Add(1)
	g := greeting{conn: conn, tls: by.at.tls, header: srv.sendsHeader(conn.RemoteAddr())}
	switch {
	case !g.tls && !g.header:
		srv.enrol(&g)
	case srv.clients.Load() >= srv.clientCap.Load(): // a handshake is more than one too many gets
		srv.refuse(conn, "", "maxclients", "limit", srv.clientCap.Load())
	default:
		srv.greetings.begin(srv, &g)
	}
}

// enrol gives a loop the socket of a client.
func (srv *server) enrol(g *greeting) {
	if srv.clients.Add(1) > srv.clientCap.Load() {
		srv.clients.Add(-1)
		srv.refuse(g.talk(), "-ERR max number of clients reached\r\n", "maxclients", "limit", srv.clientCap.Load())
		return
	}
	if from := g.remote(); srv.protects() && !isLocal(from) {
		srv.clients.Add(-1)
		srv.refuse(g.talk(), srv.deniedReply(), "protected-mode", "addr", from.String())
		return
	}
	s := &session{id: srv.lastID.Add(1)}
	// EnrollContext returns when opened has run, or when the poller refused the socket: then it is
	// closed already.
	if _, err := srv.client.EnrollContext(g.conn, g.owner(s)); err != nil || s.loop == nil {
		srv.clients.Add(-1)
		limited(&srv.refusals, slog.LevelWarn, "client refused", "why", err)
	}
}

// refuse closes the connection of one that becomes no client, with a last word.
func (srv *server) refuse(conn net.Conn, reply, why string, details ...any) {
	srv.refused.Add(1)
	limited(&srv.refusals, slog.LevelWarn, "client refused", append([]any{"why", why}, details...)...)
	turnAway(conn, reply)
}

// turnAway closes a client's connection with a last word.
func turnAway(conn net.Conn, reply string) {
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte(reply))
	_ = conn.Close()
}

// sendsHeader reports whether a peer is a load balancer that says, in a PROXY header, who its client is.
func (srv *server) sendsHeader(addr net.Addr) bool {
	networks := srv.config().ProxyNetworks
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || len(networks) == 0 {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap()
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(ip) })
}

// protects reports whether only clients of this machine are let in: protected-mode, and the nodes
// ask for no password. berth trusts this machine and whoever knows a password. It does not trust
// the network to keep strangers out. As long as no node has said whether it asks for a password,
// strangers stay out as well.
func (srv *server) protects() bool {
	return srv.config().ProtectedMode && !srv.nodes.AuthRequired()
}

// isLocal reports whether a client is on this machine, as Redis decides it: by a loopback address,
// or a unix socket.
func isLocal(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// denied is the word of Redis 7.2 and later to those whom protected mode keeps out.
const denied = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. " +
	"In this mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis " +
	"you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' " +
	"from the loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not " +
	"publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just " +
	"disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then " +
	"restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. " +
	"4) Set up an authentication password for the default user. NOTE: You only need to do one of the above things in order for the " +
	"server to start accepting connections from the outside.\r\n"

// deniedReply is what the nodes' version says in place of denied.
func (srv *server) deniedReply() string {
	var changes []string // pairs: what stands in denied, and what in its place
	switch {
	case srv.isValkeySince(8, 0):
		changes = []string{"Redis is running", "Running", "computers to Redis you", "computers, you", "connecting to Redis", "connecting",
			"SURE Redis is", "SURE it's", "the Redis configuration", "the configuration"}
	case srv.isBefore(7, 0):
		changes = []string{" and no password is set for the default user", ", no bind address was specified, no authentication password is requested to clients",
			"Set up an authentication password for the default user", "Setup a bind address or an authentication password"}
	case srv.isBefore(7, 2):
		changes = []string{"Set up an", "Setup a an"}
	}
	return strings.NewReplacer(changes...).Replace(denied)
}
