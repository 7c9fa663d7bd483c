package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

// Conn is a TLS connection on a socket that blocks: for the handshake, and for connections that one
// goroutine serves.
type Conn struct {
	*tls.Conn
	wire *wire
}

// Server returns the server's side of a connection. Its handshake has not begun. work may be nil.
func Server(sock net.Conn, config *tls.Config, work Work) *Conn {
	w := &wire{sock: sock, work: work}
	return &Conn{tls.Server(w, config), w}
}

// Client returns the client's side of a connection. Its handshake has not begun.
func Client(sock net.Conn, config *tls.Config) *Conn {
	w := &wire{sock: sock}
	return &Conn{tls.Client(w, config), w}
}

// Shake makes the handshake within so long; 0: no limit.
func (c *Conn) Shake(within time.Duration) error {
	if within > 0 {
		_ = c.wire.sock.SetDeadline(time.Now().Add(within)) // a closed socket fails below
	}
	c.wire.work.begin()
	err := c.Handshake()
	c.wire.work.end()
	_ = c.wire.sock.SetDeadline(time.Time{})
	return err
}

// ShakeContext makes the handshake before ctx ends.
func (c *Conn) ShakeContext(ctx context.Context) error {
	err := c.HandshakeContext(ctx) // which closes the socket when ctx ends
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// SyscallConn is the socket's.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	sock, ok := c.wire.sock.(syscall.Conn)
	if !ok {
		return nil, errors.New("this connection has no socket")
	}
	return sock.SyscallConn()
}

// LocalAddr is the socket's.
func (c *Conn) LocalAddr() net.Addr { return c.wire.sock.LocalAddr() }

// Detach parts the TLS session from its socket, after the handshake. Nobody may read from or write to
// Conn any more.
func (c *Conn) Detach() (*Stream, net.Conn) {
	sock := c.wire.sock
	c.wire.sock, c.wire.work = nil, nil
	return &Stream{tls: c.Conn, wire: c.wire}, sock
}

// Work bounds how many handshakes compute at the same time. One that waits for its peer does not
// count. nil: there is no bound.
type Work chan struct{}

// NewWork lets so many compute.
func NewWork(most int) Work { return make(Work, most) }

func (w Work) begin() {
	if w != nil {
		w <- struct{}{}
	}
}

func (w Work) end() {
	if w != nil {
		<-w
	}
}
