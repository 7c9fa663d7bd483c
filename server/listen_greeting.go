package main

import (
	"bufio"
	"container/list"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/bytedance/gopkg/util/gopool"
	"github.com/pires/go-proxyproto"

	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/server/telemetry"
)

// greeting is what a client's connection has to say before the first command:
//
//	accepted ─▶ PROXY header (of a load balancer) ─▶ TLS handshake ─▶ enrolled
//
// One goroutine at a time has it.
type greeting struct {
	conn   net.Conn // the socket
	header bool     // a PROXY header comes first
	tls    bool     // then a TLS handshake

	from, to net.Addr     // as the header says; nil: the socket's own
	said     []byte       // what came after the header
	secure   *secure.Conn // nil: there was no handshake
}

// remote is where the client is.
func (g *greeting) remote() net.Addr {
	if g.from != nil {
		return g.from
	}
	return g.conn.RemoteAddr()
}

// talk is what a last word is said on.
func (g *greeting) talk() net.Conn {
	if g.secure != nil {
		return g.secure
	}
	return g.conn
}

// owner is the context with which a session's socket is given to a loop.
func (g *greeting) owner(s *session) any {
	if g.secure == nil && g.from == nil && len(g.said) == 0 {
		return s
	}
	came := &arrival{owner: s, from: g.from, to: g.to, said: g.said}
	if g.secure != nil {
		came.stream, _ = g.secure.Detach()
		came.said = nil // the handshake has read it
	}
	return came
}

// maxProxyHeader bounds a PROXY header. What a load balancer adds beside the addresses is short.
const maxProxyHeader = 4 << 10

// readHeader reads the PROXY header.
func (g *greeting) readHeader(within time.Duration) error {
	_ = g.conn.SetReadDeadline(time.Now().Add(within)) // a closed socket fails below
	reader := bufio.NewReaderSize(io.LimitReader(g.conn, maxProxyHeader), maxProxyHeader)
	header, err := proxyproto.Read(reader)
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	_ = g.conn.SetReadDeadline(time.Time{})
	g.said, _ = reader.Peek(reader.Buffered())
	if header.Command.IsLocal() { // the load balancer's own, to see whether berth lives
		return nil
	}
	from, to, ok := header.TCPAddrs()
	if !ok {
		return fmt.Errorf("PROXY header: the client came by protocol 0x%02x, not by TCP", header.TransportProtocol)
	}
	g.from, g.to = from, to
	return nil
}

// shake makes the TLS handshake.
func (g *greeting) shake(srv *server, within time.Duration) error {
	sock := g.conn
	if len(g.said) > 0 {
		sock = &saidFirst{g.conn, g.said}
	}
	g.secure = secure.Server(sock, srv.certs.Server(), srv.greetings.work())
	return g.secure.Shake(within)
}

// saidFirst is a socket of which some bytes were read too early.
type saidFirst struct {
	net.Conn
	said []byte
}

func (c *saidFirst) Read(b []byte) (int, error) {
	if len(c.said) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.said)
	c.said = c.said[n:]
	return n, nil
}

// maxGreetings is how many clients may be in the midst of a greeting. Each one takes some 20 KB. The
// client that came one too many takes the place of the one that takes longest: an honest one needs a
// moment, so that strangers who dawdle keep nobody out.
const maxGreetings = 4096

// greetings are those that clients are in the midst of. Safe for any goroutine.
type greetings struct {
	work func() secure.Work // bounds handshakes: as many compute as cores may be busy while the loops go on

	mu    sync.Mutex // guards what follows
	all   list.List  // of net.Conn, the one that began first at the front
	ended bool       // berth stops
	done  telemetry.Handshakes

	failures flood // of lines in the log
}

func newGreetings() greetings {
	return greetings{work: sync.OnceValue(func() secure.Work { return secure.NewWork(max(1, runtime.GOMAXPROCS(0)/2)) })}
}

// begin hears a greeting, in a goroutine, and then lets the client in.
func (gs *greetings) begin(srv *server, g *greeting) {
	here := gs.enter(g.conn)
	srv.accepts.Add(1)
	gopool.Go(func() {
		defer srv.accepts.Done()
		within := srv.config().TLSHandshakeTimeout
		var err error
		if g.header {
			err = g.readHeader(within)
		}
		if err == nil && g.tls {
			err = g.shake(srv, within)
		}
		gs.leave(here, g, err)
		if err == nil {
			srv.enrol(g)
			return
		}
		limited(&gs.failures, slog.LevelInfo, "client refused", "addr", g.conn.RemoteAddr().String(), "why", err)
		srv.clients.Add(-1)
		if g.secure == nil {
			turnAway(g.conn, "-ERR berth: "+err.Error()+"\r\n")
		}
		_ = g.conn.Close()
	})
}

// enter lists a client. One that has no time left is closed.
func (gs *greetings) enter(conn net.Conn) *list.Element {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if gs.ended {
		_ = conn.Close()
	}
	if gs.all.Len() >= maxGreetings {
		slowest := gs.all.Front()
		_ = slowest.Value.(net.Conn).Close()
		gs.all.MoveToBack(slowest) // not to be chosen again before it has gone
	}
	return gs.all.PushBack(conn)
}

// leave counts a greeting that has ended.
func (gs *greetings) leave(here *list.Element, g *greeting, err error) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.all.Remove(here)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		gs.done.TimedOut++
	case err != nil:
		gs.done.Failed++
	case g.secure == nil:
	case g.secure.ConnectionState().DidResume:
		gs.done.Resumed++
	default:
		gs.done.Full++
	}
}

// look copies what is counted.
func (gs *greetings) look() telemetry.Handshakes {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	done := gs.done
	done.Now = gs.all.Len()
	return done
}

// end closes those that are in the midst of one, and all that come later.
func (gs *greetings) end() {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.ended = true
	for e := gs.all.Front(); e != nil; e = e.Next() {
		_ = e.Value.(net.Conn).Close()
	}
}
