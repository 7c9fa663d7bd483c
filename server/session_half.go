package main

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/bytedance/gopkg/util/gopool"
	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/server/telemetry"
)

// halfClosed is the socket of a client that has closed its sending side (printf 'GET a\r\n' | nc -N
// …) while replies are on their way. Redis would have answered before it saw the end; a proxy sees
// the end first. gnet closes a socket it reads the end of, so we keep a duplicate, and write all
// that is still to come in one piece at the end.
type halfClosed struct {
	gnet.Conn     // gone: nothing but what is overridden here may be called
	fd            int
	file          *os.File
	local, remote net.Addr
}

func (h *halfClosed) LocalAddr() net.Addr   { return h.local }
func (h *halfClosed) RemoteAddr() net.Addr  { return h.remote }
func (h *halfClosed) OutboundBuffered() int { return 0 }
func (h *halfClosed) Fd() int               { return h.fd }

// halfCloseWrite bounds how long the last replies may take to go out.
const halfCloseWrite = 10 * time.Second

// send writes the last bytes and closes the socket, off the loop.
func (h *halfClosed) send(last []byte) {
	gopool.Go(func() {
		defer h.file.Close()
		conn, err := net.FileConn(h.file)
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetWriteDeadline(time.Now().Add(halfCloseWrite))
		if _, err := conn.Write(last); err != nil {
			slog.Debug("half-closed client left", "why", err)
		}
	})
}

// mayLinger reports whether a session whose client has closed its sending side is owed something
// that the client can still get. A blocked client has left, as for Redis. If gnet could not write
// everything before, the bytes after it must not be written either.
func (s *session) mayLinger(c gnet.Conn, err error) bool {
	return errors.Is(err, io.EOF) && s.halfClosed == nil && s.sub == nil && (s.waiting > 0 || s.mayGoOn()) &&
		s.pause != pauseBlocked && c.OutboundBuffered() == 0
}

// mayGoOn reports whether the session has input that it may come to take.
func (s *session) mayGoOn() bool {
	return !s.closing && (s.large.waits() || s.inPos < len(s.in) && (s.pause != pauseNone || s.isReady))
}

// lingerHalf keeps the session until its replies have come. It returns false if the socket cannot
// be kept.
func (s *session) lingerHalf(c gnet.Conn) bool {
	fd, err := c.Dup()
	if err != nil {
		return false
	}
	s.halfClosed = &halfClosed{
		fd: fd, file: os.NewFile(uintptr(fd), "half-closed client"), local: c.LocalAddr(), remote: c.RemoteAddr(),
	}
	s.conn = s.halfClosed
	s.unread = 0
	s.loop.gone = append(s.loop.gone, c)
	return true
}

// flushHalf ends the session when nothing more is to come.
func (s *session) flushHalf() {
	waits := s.head != nil || !s.closing && (s.pause != pauseNone || s.isReady)
	if waits && s.pause != pauseBlocked && len(s.out) < s.loop.srv.outputLimit(s).Hard {
		return
	}
	s.halfClosed.send(s.out)
	s.out = nil
	if !s.closing {
		s.reason = telemetry.ClientClosed
	}
	s.gone(s.halfClosed, nil)
}
