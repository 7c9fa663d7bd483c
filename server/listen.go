package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
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
		most = min(most, srv.maxFiles-reservedFiles-leases-shared)
	}
	srv.clientCap.Store(int64(max(1, most)))
}

// listen opens all listeners.
func (srv *server) listen(cfg *config.Config) error {
	if cfg.Port != 0 {
		for _, word := range cfg.Bind {
			network, addr, optional := config.BindAddress(word, cfg.Port)
			ln, err := listenTCP(network, addr, cfg)
			if err != nil {
				if optional {
					slog.Warn("not listening", "addr", addr, "why", err)
					continue
				}
				return fmt.Errorf("listen: %w", err)
			}
			srv.listeners = append(srv.listeners, ln)
		}
	}
	if cfg.UnixSocket != "" {
		if err := os.Remove(cfg.UnixSocket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("listen: %w", err)
		}
		ln, err := net.Listen("unix", cfg.UnixSocket)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		if cfg.UnixSocketPerm != 0 {
			if err := os.Chmod(cfg.UnixSocket, cfg.UnixSocketPerm); err != nil {
				return fmt.Errorf("listen: %w", err)
			}
		}
		srv.listeners = append(srv.listeners, ln)
	}
	if len(srv.listeners) == 0 {
		return errors.New("nothing to listen on: port is 0 and unixsocket is empty")
	}
	return nil
}

// listenTCP listens with a backlog of ours.
func listenTCP(network, addr string, cfg *config.Config) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1}
	if cfg.ReusePort {
		config.Control = reusePort
	}
	ln, err := config.Listen(context.Background(), network, addr)
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
	for _, ln := range srv.listeners {
		tcp, ok := ln.(*net.TCPListener)
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
	ln    net.Listener
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
			a.srv.welcome(conn)
		}
	}
}

// next waits for a client; none comes of it when the system had no room for one. An error is the
// listener's end.
func (a *acceptor) next() (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	conn, err := a.ln.Accept()
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
func (srv *server) welcome(conn net.Conn) {
	srv.accepted.Add(1)
	if srv.clients.Add(1) > srv.clientCap.Load() {
		srv.clients.Add(-1)
		srv.refused.Add(1)
		limited(&srv.refusals, slog.LevelWarn, "client refused", "why", "maxclients", "limit", srv.clientCap.Load())
		turnAway(conn, "-ERR max number of clients reached\r\n")
		return
	}
	if srv.protects() && !isLocal(conn.RemoteAddr()) {
		srv.clients.Add(-1)
		srv.refused.Add(1)
		limited(&srv.refusals, slog.LevelWarn, "client refused", "why", "protected-mode", "addr", conn.RemoteAddr().String())
		turnAway(conn, deniedReply)
		return
	}
	s := &session{id: srv.lastID.Add(1)}
	// EnrollContext returns when opened has run, or when the poller refused the socket: then it is
	// closed already.
	if _, err := srv.client.EnrollContext(conn, s); err != nil || s.loop == nil {
		srv.clients.Add(-1)
		limited(&srv.refusals, slog.LevelWarn, "client refused", "why", err)
	}
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

// deniedReply is Redis' word to those whom protected mode keeps out.
const deniedReply = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. " +
	"In this mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis " +
	"you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' " +
	"from the loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not " +
	"publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just " +
	"disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then " +
	"restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. " +
	"4) Setup a an authentication password for the default user. NOTE: You only need to do one of the above things in order for the " +
	"server to start accepting connections from the outside.\r\n"
