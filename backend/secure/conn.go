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

// Server returns the server's side of a connection. Its handshake has not begun. It computes when
// there is work free, and fails when given is closed. Both may be nil.
func Server(sock net.Conn, config *tls.Config, work Work, given <-chan struct{}) *Conn {
	w := &wire{sock: sock, work: work, given: given}
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
	defer func() { _ = c.wire.sock.SetDeadline(time.Time{}) }()
	if err := c.wire.begin(); err != nil {
		return err
	}
	defer c.wire.end()
	return c.Handshake()
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

// errGivenUp is why a handshake fails that may not go on.
var errGivenUp = errors.New("there are too many handshakes, and others began later")

// begin waits until the handshake may compute. What has been given up meanwhile, or whose peer has
// left, is not worth it.
func (w *wire) begin() error {
	if w.work == nil {
		return nil
	}
	select {
	case w.work <- struct{}{}:
	case <-w.given:
		return errGivenUp
	}
	w.computes = true
	if err := w.left(); err != nil {
		w.end()
		return err
	}
	return nil
}

func (w *wire) end() {
	if w.computes {
		w.computes = false
		<-w.work
	}
}

// left returns an error if the peer has reset the connection.
func (w *wire) left() error {
	sock, ok := w.sock.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var left error
	if err := raw.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if !errors.Is(err, syscall.EAGAIN) {
			left = err
		}
	}); err != nil {
		return err
	}
	return left
}
