package main

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/server/admin"
	"github.com/berth-proxy/berth/server/eventlog"
)

// reservedFiles are descriptors that are no client's: pollers, logs, control connections, and those
// of the admin endpoint, which bounds its own.
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
		greetings, doors, cfg := 0, *srv.doors.Load(), srv.config()
		if slices.ContainsFunc(doors, func(d door) bool { return d.way.greets(cfg) }) {
			greetings = srv.maxGreetings()
		}
		most = min(most, srv.maxFiles-reservedFiles-leases-shared-greetings-len(doors))
	}
	srv.clientCap.Store(int64(max(1, most)))
}

// sayCap says in the log that there may be fewer clients than maxclients.
func (srv *server) sayCap() {
	if asked, possible := srv.config().MaxClients, int(srv.clientCap.Load()); possible < asked {
		slog.Warn("maxclients lowered", "why", "the descriptor limit (ulimit -n, LimitNOFILE) is too low",
			"asked", asked, "possible", possible, "descriptors", srv.maxFiles, "needed", srv.maxFiles+asked-possible)
	}
}

// accept takes clients from listeners, until these are closed.
func (srv *server) accept(doors []door) {
	for _, d := range doors {
		a := &acceptor{srv: srv, door: d}
		for range min(acceptors, max(2, maxAcceptors/len(*srv.doors.Load()))) {
			srv.accepts.Go(a.run)
		}
	}
}

// Pauses after a failed accept, doubled each time: out of descriptors, an accept loop would spin.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// acceptors is how many goroutines take clients from one listener. To give a socket to a loop takes
// two switches of goroutines: where many connect at once these go side by side. Very many listeners
// have fewer each.
const (
	acceptors    = 32
	maxAcceptors = 1024
)

// acceptor takes clients from a listener.
type acceptor struct {
	srv   *server
	door  door
	mu    sync.Mutex // held by the goroutine that waits for the next client; guards pause
	pause time.Duration
}

// run takes clients until the listener is closed. Several goroutines do so at the same time.
func (a *acceptor) run() {
	for {
		conn, err := a.next()
		switch {
		case err != nil:
			return
		case conn != nil:
			a.srv.welcome(conn, a.door.way)
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
		a.srv.unheard.Add(1)
		slog.Warn("accept failed", "door", a.door.way.name, "why", eventlog.Cause(backend.DialError(err).Error()), "pause", a.pause)
		time.Sleep(a.pause)
	}
	return conn, nil
}

// welcome makes a client of an accepted socket, unless there are too many.
func (srv *server) welcome(conn net.Conn, by *doorway) {
	srv.accepted.Add(1)
	g := greeting{conn: conn, door: by, tls: by.terms.Load().TLS, header: by.sendsHeader(conn.RemoteAddr(), srv.config())}
	switch {
	case !g.tls && !g.header:
		srv.enrol(&g)
	case srv.clients.Load() >= srv.clientCap.Load(): // a handshake is more than one too many gets
		srv.refuse(conn, "", "maxclients", "addr", by.remote(conn), "limit", srv.clientCap.Load())
	case by.isFull():
		srv.refuse(conn, "", "maxclients of the door", "addr", by.remote(conn), "limit", by.terms.Load().MaxClients, "door", by.name)
	default:
		srv.greetings.begin(srv, &g)
	}
}

const tooManyClients = "-ERR max number of clients reached\r\n"

// enrol gives a loop the socket of a client.
func (srv *server) enrol(g *greeting) {
	if !g.door.enter() {
		srv.refuse(g.talk(), tooManyClients, "maxclients of the door", "addr", g.remote(), "limit", g.door.terms.Load().MaxClients, "door", g.door.name)
		return
	}
	if srv.clients.Add(1) > srv.clientCap.Load() {
		srv.left(g.door)
		srv.refuse(g.talk(), tooManyClients, "maxclients", "addr", g.remote(), "limit", srv.clientCap.Load())
		return
	}
	if from := g.remote(); srv.protects() && !isLocal(from) {
		srv.left(g.door)
		srv.refuse(g.talk(), srv.deniedReply(), "protected-mode", "addr", from)
		return
	}
	s := &session{id: srv.lastID.Add(1), door: g.door}
	// EnrollContext returns when opened has run, or when the poller refused the socket: then it is
	// closed already.
	if _, err := srv.client.EnrollContext(g.conn, g.owner(s)); err != nil || s.loop == nil {
		srv.left(g.door)
		slog.Warn("client refused", "why", eventlog.Cause("no event loop takes it"), "addr", g.remote(), "error", err)
	}
}

// refuse closes the connection of one that becomes no client, with a last word.
func (srv *server) refuse(conn net.Conn, reply string, why eventlog.Cause, details ...any) {
	srv.refused.Add(1)
	slog.Warn("client refused", append([]any{"why", why}, details...)...)
	turnAway(conn, reply)
}

// turnAway closes a client's connection with a last word.
func turnAway(conn net.Conn, reply string) {
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte(reply))
	_ = conn.Close()
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
