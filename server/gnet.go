package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/backend/pipe"
)

// meetLoops has every loop seen before the first client comes: which of them is the home of a group
// of clients depends on how many there are. gnet does not tell; but it gives a socket to the loop
// that has the fewest.
func (srv *server) meetLoops() error {
	var ends []net.Conn
	defer func() {
		for _, c := range ends {
			_ = c.Close() // gnet sees the end of its own
		}
	}()
	for known := -1; known < len(srv.eachLoop()); {
		known = len(srv.eachLoop())
		ours, gnets, err := socketPair()
		if err != nil {
			return err
		}
		ends = append(ends, ours)
		c, err := srv.client.Enroll(gnets)
		if err != nil {
			return err
		}
		srv.seeds = append(srv.seeds, c)
	}
	reads, err := findReadSwitch(srv.seeds[0])
	if err != nil {
		slog.Warn("clients that are not served are read from until they reach their limits", "why", err)
	}
	srv.reads = reads
	return nil
}

// socketPair is two sockets that are connected to each other.
func socketPair() (a, b net.Conn, err error) {
	syscall.ForkLock.RLock() // no child is begun before both are closed on exec
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket pair")
		conn, failed := net.FileConn(f)
		_ = f.Close()
		conns[i], err = conn, errors.Join(err, failed)
	}
	return conns[0], conns[1], err
}

// loopOf is our side of one of gnet's loops, made when it is first seen.
func (srv *server) loopOf(el gnet.EventLoop) *loop {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	l := srv.loops[el]
	if l == nil {
		l = newLoop(srv, el)
		l.pipes.OnRefused = l.expel
		l.pipes.OnLost, l.pipes.OnSlow = srv.scripts.lost, srv.slow.note
		l.pipes.OnHold, l.pipes.IsScript = l.heldUp, isScript
		srv.loops[el] = l
	}
	return l
}

// handler is gnet's way into our loops. A socket's context says whose it is: a session's or a
// pipe's.
type handler struct {
	gnet.BuiltinEventEngine
	srv *server
}

// OnOpen is called when a socket was enrolled.
func (h *handler) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	l := h.srv.loopOf(c.EventLoop())
	l.Enter()
	owner := c.Context()
	came, _ := owner.(*arrival)
	if came != nil {
		owner = came.owner
		c.SetContext(owner)
		c = came.over(c, l)
	}
	switch x := owner.(type) {
	case *session:
		x.opened(l, c)
		if came != nil {
			if came.login != nil {
				x.logIn(came.login)
			}
			x.begin(came.said)
		}
	case *pipe.Pipe:
		x.Opened(c)
	case *feed.Feed:
		x.Opened(c)
	}
	return nil, gnet.None
}

// OnTraffic is called when a socket has bytes.
func (h *handler) OnTraffic(c gnet.Conn) gnet.Action {
	switch x := c.Context().(type) {
	case *session:
		x.loop.Enter()
		x.traffic()
	case *pipe.Pipe:
		x.Traffic()
	case *feed.Feed:
		x.Traffic()
	}
	return gnet.None
}

// OnClose is called when a socket is closed, whoever closed it.
func (h *handler) OnClose(c gnet.Conn, err error) gnet.Action {
	switch x := c.Context().(type) {
	case *session:
		x.gone(c, err)
	case *pipe.Pipe:
		x.Closed(c, err)
	case *feed.Feed:
		x.Closed(c, err)
	}
	return gnet.None
}

// tickEvery is how often loops do what time asks for.
const tickEvery = 100 * time.Millisecond

// OnTick runs on a goroutine of its own.
func (h *handler) OnTick() (time.Duration, gnet.Action) {
	h.srv.capClients()
	h.srv.nameLibrary()
	now := time.Now().UnixNano()
	h.srv.memory.tick(now)
	h.srv.commands.forget(now)
	for _, l := range h.srv.eachLoop() {
		posted := time.Now()
		l.Post(func() {
			l.stats.Lag.ObserveDuration(time.Since(posted))
			l.tick()
		})
	}
	return tickEvery, gnet.None
}

// gnetLog passes gnet's complaints to our log.
type gnetLog struct{}

func (gnetLog) Debugf(string, ...any) {}

func (gnetLog) Infof(string, ...any) {}

func (gnetLog) Warnf(format string, args ...any) {
	slog.Debug("gnet", "says", fmt.Sprintf(format, args...))
}

func (gnetLog) Errorf(format string, args ...any) {
	slog.Warn("gnet", "says", fmt.Sprintf(format, args...))
}

func (gnetLog) Fatalf(format string, args ...any) {
	slog.Error("gnet", "says", fmt.Sprintf(format, args...))
}
