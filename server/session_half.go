package main

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/bytedance/gopkg/util/gopool"
	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/server/eventlog"
	"github.com/berth-proxy/berth/server/telemetry"
)

// halfClosed is the socket of a client that has closed its sending side (printf 'GET a\r\n' | nc -N
// …) while replies are on their way. Redis would have answered before it saw the end; a proxy sees
// the end first. gnet closes a socket it reads the end of, so the session keeps a duplicate, and a
// goroutine writes to it what comes.
type halfClosed struct {
	gnet.Conn                    // gone: nothing but what is overridden here may be called
	secure        *secure.Stream // nil: plain
	fd            int
	file          *os.File
	local, remote net.Addr

	mu     sync.Mutex
	unsent [][]byte // what the goroutine has not begun to write
	size   int      // bytes that are not written
	writes bool     // the goroutine runs
	ends   bool     // nothing more comes
	failed bool     // the client has gone, or does not read
}

func (h *halfClosed) LocalAddr() net.Addr  { return h.local }
func (h *halfClosed) RemoteAddr() net.Addr { return h.remote }
func (h *halfClosed) Fd() int              { return h.fd }

func (h *halfClosed) OutboundBuffered() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.size
}

// halfCloseWrite bounds how long the client may take to read what was written at once.
const halfCloseWrite = 10 * time.Second

// send has b written, off the loop. It returns false if the client gets nothing more.
func (h *halfClosed) send(b []byte) bool {
	if h.secure != nil && len(b) > 0 {
		var err error
		if b, err = h.secure.Seal(b, nil); err != nil {
			return false
		}
	}
	return h.queue(b)
}

// queue has bytes written as they are.
func (h *halfClosed) queue(b []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(b) > 0 && !h.failed {
		h.unsent = append(h.unsent, b)
		h.size += len(b)
		if !h.writes {
			h.writes = true
			gopool.Go(h.write)
		}
	}
	return !h.failed
}

// end closes the socket after the last byte.
func (h *halfClosed) end() {
	if h.secure != nil {
		h.queue(h.secure.SealEnd(nil))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends = true
	if !h.writes {
		_ = h.file.Close()
	}
}

// write writes all that was sent. The socket is closed by its end, or after the last byte.
func (h *halfClosed) write() {
	for {
		h.mu.Lock()
		if len(h.unsent) == 0 {
			h.writes = false
			if h.ends {
				_ = h.file.Close()
			}
			h.mu.Unlock()
			return
		}
		b := h.unsent[0]
		h.unsent = h.unsent[1:]
		h.mu.Unlock()

		_ = h.file.SetWriteDeadline(time.Now().Add(halfCloseWrite))
		_, err := h.file.Write(b)
		h.mu.Lock()
		if h.size -= len(b); err != nil {
			h.unsent, h.size, h.failed = nil, 0, true
			if errors.Is(err, os.ErrDeadlineExceeded) {
				slog.Warn("client closed", "addr", h.remote, "why", eventlog.Cause("half-closed client does not read"), "limit", halfCloseWrite)
			}
		}
		h.mu.Unlock()
	}
}

// mayLinger reports whether a session whose client has closed its sending side is owed something
// that the client can still get. If gnet could not write everything before, the bytes after it must
// not be written either. A replica has left, as for Redis.
func (s *session) mayLinger(c gnet.Conn, err error) bool {
	return errors.Is(err, io.EOF) && s.halfClosed == nil && s.tunnel == nil && (len(s.out) > 0 || s.mayHear()) && c.OutboundBuffered() == 0
}

// mayHear reports whether more replies may come to a client that has closed its sending side. A
// blocked client has left, as for Redis: it gets only what comes before the reply it blocks for.
func (s *session) mayHear() bool {
	switch {
	case s.pause == pauseBlocked:
		return s.head != s.tail
	case s.head != nil:
		return true
	case s.halfClosed == nil:
		return s.mayGoOn()
	}
	return !s.closing && (s.pause != pauseNone || s.isReady)
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
	if secure, ok := s.conn.(*secure.LoopConn); ok {
		s.halfClosed.secure = secure.Stream()
	}
	s.conn = s.halfClosed
	s.unread = 0
	s.loop.gone = append(s.loop.gone, c)
	s.touch()
	s.loop.wakeIfBusy() // as in gone
	return true
}

// flushHalf writes the output, and ends the session when nothing more is to come.
func (s *session) flushHalf() {
	out := s.out
	s.out = nil
	goesOn := s.halfClosed.send(out)
	buffered := s.halfClosed.OutboundBuffered()
	s.grew(max(0, buffered-s.unread))
	s.unread = buffered
	switch limit := s.loop.srv.outputLimit(s).Hard; {
	case limit > 0 && buffered > limit:
		s.loop.stats.Limit(telemetry.LimitOutputBuffer)
		s.kill(telemetry.OutputHardLimit, "bytes", buffered, "limit", limit)
		return
	case goesOn && s.mayHear():
		s.relieve()
		return
	}
	s.halfClosed.end()
	if !s.closing {
		s.reason = telemetry.ClientClosed
	}
	s.gone(s.halfClosed, nil)
}
