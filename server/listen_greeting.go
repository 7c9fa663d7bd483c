package main

import (
	"bufio"
	"container/list"
	"crypto/tls"
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
	"github.com/berth-proxy/berth/server/eventlog"
	"github.com/berth-proxy/berth/server/telemetry"
)

// greeting is what a client's connection has to say before the first command:
//
//	accepted ─▶ PROXY header (of a load balancer) ─▶ TLS handshake ─▶ enrolled
//
// One goroutine at a time has it.
type greeting struct {
	conn   net.Conn // the socket
	door   *doorway // by which it came
	header bool     // a PROXY header comes first
	tls    bool     // then a TLS handshake

	from, to net.Addr     // as the header says; nil: the socket's own
	said     []byte       // what came after the header
	secure   *secure.Conn // nil: there was no handshake
	login    *certLogin   // by the client's certificate; nil: there is none

	here  *list.Element // in greetings.all; nil: it has ended, or was given up
	given chan struct{} // closed when it is given up
}

// remote is where the client is.
func (g *greeting) remote() net.Addr {
	if g.from != nil {
		return g.from
	}
	return g.door.remote(g.conn)
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
	came := &arrival{owner: s, from: g.from, to: g.to, said: g.said, login: g.login}
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
	awaitLine(reader)
	header, err := proxyproto.Read(reader)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("PROXY header: it has not come in time (%w)", os.ErrDeadlineExceeded)
	case err != nil:
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

// awaitLine waits for the whole line if the header is of version 1, which the library wants to have
// come at once. The library sees what is wrong with it.
func awaitLine(r *bufio.Reader) {
	for n := 1; n <= 107; n++ { // the longest
		line, err := r.Peek(n)
		if err != nil || line[0] != 'P' || line[n-1] == '\n' {
			return
		}
	}
}

// shake makes the TLS handshake.
func (g *greeting) shake(srv *server, within time.Duration) error {
	sock := g.conn
	if len(g.said) > 0 {
		sock = &saidFirst{g.conn, g.said}
	}
	g.secure = secure.Server(sock, srv.certs.Server(), srv.greetings.work(), g.given)
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

// maxGreetings is how many clients may be in the midst of a greeting. Each one takes some 20 KB. They
// are no clients yet: maxclients is not theirs to use up.
const maxGreetings = 4096

// maxGreetings is also bounded by the descriptors that this process may have.
func (srv *server) maxGreetings() int {
	if srv.maxFiles > 0 {
		return min(maxGreetings, max(1, srv.maxFiles/8))
	}
	return maxGreetings
}

// greetings are those that clients are in the midst of. Safe for any goroutine.
type greetings struct {
	work func() secure.Work // bounds handshakes: as many compute as cores may be busy while the loops go on

	mu    sync.Mutex // guards what follows, and here of each greeting
	all   list.List  // of *greeting, the one that began first at the front
	ended bool       // berth stops
	done  telemetry.Handshakes
}

func newGreetings() greetings {
	return greetings{work: sync.OnceValue(func() secure.Work { return secure.NewWork(max(1, runtime.GOMAXPROCS(0)/2)) })}
}

// begin hears a greeting, in a goroutine, and then lets the client in.
func (gs *greetings) begin(srv *server, g *greeting) {
	gs.enter(g, srv.maxGreetings())
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
		if !gs.leave(g, err) {
			if !srv.stopping.Load() {
				slog.Warn("client refused", "why", eventlog.Cause("too many handshakes at one time"), "addr", g.remote(), "limit", srv.maxGreetings())
			}
			return
		}
		if err == nil {
			g.login = srv.certLogin(g)
			srv.enrol(g)
			return
		}
		why := eventlog.Cause("TLS handshake")
		if g.secure == nil {
			why = "PROXY header"
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			why = "tls-handshake-timeout"
			err = fmt.Errorf("it has not said all of its handshake or header within tls-handshake-timeout (%v)", within)
		}
		addr := g.remote()
		if no, isNoTLS := errors.AsType[tls.RecordHeaderError](err); isNoTLS && no.Conn != nil {
			srv.pointTo(false, g.door, addr)
		} else {
			slog.Info("client refused", "why", why, "addr", addr, "door", g.door.name, "error", err)
		}
		if g.secure == nil {
			turnAway(g.conn, "-ERR berth: "+err.Error()+"\r\n")
		}
		_ = g.conn.Close()
	})
}

// enter lists a greeting. If there are too many, the one that takes longest is given up: strangers who
// dawdle keep nobody out.
func (gs *greetings) enter(g *greeting, most int) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g.given = make(chan struct{})
	g.here = gs.all.PushBack(g)
	switch {
	case gs.ended:
		gs.giveUp(g)
	case gs.all.Len() > most:
		gs.giveUp(gs.all.Front().Value.(*greeting))
	}
}

// giveUp ends a greeting. Called with gs.mu locked.
func (gs *greetings) giveUp(g *greeting) {
	gs.all.Remove(g.here)
	g.here = nil
	close(g.given)
	_ = g.conn.Close()
	gs.done.Failed++
}

// leave counts a greeting that has ended. It returns false if it was given up.
func (gs *greetings) leave(g *greeting, err error) bool {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if g.here == nil {
		return false
	}
	gs.all.Remove(g.here)
	g.here = nil
	switch {
	case !g.tls:
	case errors.Is(err, os.ErrDeadlineExceeded):
		gs.done.TimedOut++
	case err != nil:
		gs.done.Failed++
	case g.secure.ConnectionState().DidResume:
		gs.done.Resumed++
	default:
		gs.done.Full++
	}
	return true
}

// look copies what is counted.
func (gs *greetings) look() telemetry.Handshakes {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	done := gs.done
	done.Now = gs.all.Len()
	return done
}

// end gives up those that are in the midst of one, and all that come later.
func (gs *greetings) end() {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.ended = true
	for gs.all.Len() > 0 {
		gs.giveUp(gs.all.Front().Value.(*greeting))
	}
}
