package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/router"
)

// Dial connects to addr in a goroutine, because a node that does not answer must not hold the loop.
// It gives the socket to the loop, which passes the socket's events to owner. lost runs on the loop
// if either fails.
func (s *LinkSettings) Dial(loop Loop, addr string, owner any, lost func(error)) {
	go func() {
		if err := s.dial(loop, addr, owner); err != nil {
			loop.Post(func() { lost(err) })
		}
	}()
}

func (s *LinkSettings) dial(loop Loop, addr string, owner any) error {
	conn, err := s.Dialer.Connect(context.Background(), addr, s.DialTimeout())
	if err != nil {
		return DialError(err)
	}
	s.loops.RLock()
	defer s.loops.RUnlock()
	if s.ended {
		_ = conn.Close()
		return ErrShutdown
	}
	return loop.Enroll(conn, owner)
}

// EndDials waits for the sockets that are being given to a loop. No socket is given to one from
// then on: Dial fails with ErrShutdown. EndDials must return before the loops end, because a loop
// that has ended never answers Enroll.
func (s *LinkSettings) EndDials() {
	s.loops.Lock()
	defer s.loops.Unlock()
	s.ended = true
}

// A host that has gone without a word takes its connections with it. The kernel ends one whose
// bytes are not acknowledged for hostPatience, and asks after hostQuiet whether the host of a
// silent one is there. A node that is merely slow acknowledges.
const (
	hostPatience = 30 * time.Second
	hostQuiet    = 10 * time.Second
)

// Dialer makes connections to nodes: all begin here. nil speaks plain TCP, or to unix sockets.
type Dialer struct {
	tls   atomic.Pointer[func() *tls.Config]
	names atomic.Pointer[map[string]string]
}

// SpeakTLS has connections from now on speak TLS with what config returns then; nil: they speak none. A
// configuration without a server name is used with the host of each address.
func (d *Dialer) SpeakTLS(config func() *tls.Config) {
	if config == nil {
		d.tls.Store(nil)
	} else {
		d.tls.Store(&config)
	}
}

// Take makes the dialer speak as another one does.
func (d *Dialer) Take(from *Dialer) {
	d.tls.Store(from.tls.Load())
	d.names.Store(from.names.Load())
}

// speaks returns what a connection speaks TLS with; nil: it speaks none.
func (d *Dialer) speaks() *tls.Config {
	if d == nil || d.tls.Load() == nil {
		return nil
	}
	return (*d.tls.Load())()
}

// Named takes the names by which addresses were looked up: their certificates are for these.
func (d *Dialer) Named(names map[string]string) {
	if d != nil {
		d.names.Store(&names)
	}
}

// NamesOf returns the names of the primaries that have one.
func (d *Dialer) NamesOf(shards []router.Shard) map[string]string {
	kept := map[string]string{}
	if d == nil || d.names.Load() == nil {
		return kept
	}
	for _, s := range shards {
		if name := (*d.names.Load())[s.Primary]; name != "" {
			kept[s.Primary] = name
		}
	}
	return kept
}

var errNoHandshake = errors.New("the handshake is not answered; does the node speak TLS on this port?")

// nameOf is what the certificate of an address must be for.
func (d *Dialer) nameOf(addr string) string {
	if names := d.names.Load(); names != nil && (*names)[addr] != "" {
		return (*names)[addr]
	}
	host, _, _ := net.SplitHostPort(addr)
	return host
}

// Connect connects to a node within timeout; 0: no limit. Over TLS it returns a *secure.Conn.
func (d *Dialer) Connect(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error) {
	if timeout > 0 {
		timed, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = timed
	}
	dialer := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: hostQuiet, Interval: hostQuiet / 2, Count: 4},
		Control:         boundPatience,
	}
	conn, err := dialer.DialContext(ctx, Network(addr), addr)
	config := d.speaks()
	if err != nil || config == nil {
		return conn, err
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = d.nameOf(addr)
	}
	c := secure.Client(conn, config)
	if err := c.ShakeContext(ctx); err != nil {
		_ = conn.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			err = errNoHandshake
		}
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}

// Network returns the network that net.Dial wants for a node's address: a path is a unix socket.
func Network(addr string) string {
	if len(addr) > 0 && addr[0] == '/' {
		return "unix"
	}
	return "tcp"
}

// DialError returns the reason without what packages net and os put around it: "connection
// refused". The caller adds the address itself.
func DialError(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	return err
}
