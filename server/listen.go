package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// reservedFiles are descriptors that are no client's: listeners, pollers, logs, control connections.
const reservedFiles = 128

// capClients sets how many clients there may be: maxclients, or what the descriptor limit leaves when the nodes have
// their connections.
func (srv *server) capClients() {
	most := srv.config().MaxClients
	if srv.maxFiles > 0 {
		leases := 0
		srv.pools.Each(func(_, _ string, p *backend.Pool) { leases += p.Size() })
		most = min(most, srv.maxFiles-reservedFiles-leases)
	}
	srv.clientCap.Store(int64(max(1, most)))
}

// listen opens all listeners.
func (srv *server) listen(cfg *Config) error {
	if cfg.Port != 0 {
		for _, word := range cfg.Bind {
			addr, optional := bindAddress(word, cfg.Port)
			ln, err := listenTCP(addr, cfg.TCPBacklog)
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

// listenTCP listens with a backlog of ours. Keepalive is set for each client, since the setting may change.
func listenTCP(addr string, backlog int) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1}
	ln, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, err
	}
	// net listens with the system's maximum; listening again changes that.
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), backlog) }); err != nil {
		return nil, err
	}
	return ln, listenErr
}

// keepAlive has the kernel probe a client that is silent for so long, and again twice.
func keepAlive(conn net.Conn, idle time.Duration) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || idle == 0 {
		return
	}
	// A socket that refuses is one whose client has gone: reading will say so.
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: idle, Interval: max(idle/3, time.Second), Count: 3})
}

// Pauses after a failed accept, doubled each time: out of descriptors, an accept loop would spin.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// accept takes clients until the listener is closed.
func (srv *server) accept(ln net.Listener) {
	defer srv.accepts.Done()
	pause := time.Duration(0)
	for {
		conn, err := ln.Accept()
		if err != nil {
			if srv.stopping.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			pause = min(max(2*pause, acceptPauseMin), acceptPauseMax)
			slog.Warn("accept failed", "why", err, "pause", pause)
			time.Sleep(pause)
			continue
		}
		pause = 0
		srv.welcome(conn)
	}
}

// welcome makes a client of an accepted socket, unless there are too many.
func (srv *server) welcome(conn net.Conn) {
	srv.accepted.Add(1)
	if srv.clients.Add(1) > srv.clientCap.Load() {
		srv.clients.Add(-1)
		srv.refused.Add(1)
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write([]byte("-ERR max number of clients reached\r\n"))
		_ = conn.Close()
		return
	}
	keepAlive(conn, srv.config().TCPKeepalive)
	s := &session{id: srv.lastID.Add(1)}
	// EnrollContext returns when opened has run, or when the poller refused the socket: then it is closed already.
	if _, err := srv.client.EnrollContext(conn, s); err != nil || s.loop == nil {
		srv.clients.Add(-1)
		slog.Warn("client refused", "why", err)
	}
}
