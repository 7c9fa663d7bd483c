package redistest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Conn is a client with one socket. It sends exactly the bytes it is given and returns replies in
// the order they arrive. It never reconnects. A write has a deadline, and a read waits only so long
// for the next byte. One goroutine may write while another reads.
//
// Methods named Try… return network errors. The same methods without Try fail the test instead.
type Conn struct {
	t       testing.TB
	net     net.Conn
	in      *bufio.Reader
	raw     []byte // bytes of the current reply
	timeout time.Duration
}

// Dial connects to addr, "host:port" or the path of a unix socket. t.Cleanup closes the connection
// if the test has not closed it.
func Dial(t testing.TB, addr string) *Conn {
	t.Helper()
	c, err := TryDial(t, addr)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return c
}

// TryDial is Dial for tests in which the server may refuse the connection.
func TryDial(t testing.TB, addr string) (*Conn, error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	nc, err := net.DialTimeout(network, addr, Patience(5*time.Second))
	if err != nil {
		return nil, err
	}
	c := newConn(t, nc)
	t.Cleanup(func() { c.Close() })
	return c, nil
}

// newConn returns a client of an open connection.
func newConn(t testing.TB, nc net.Conn) *Conn {
	c := &Conn{t: t, net: nc, timeout: Patience(10 * time.Second)}
	c.in = bufio.NewReaderSize(byteWaiter{c}, 16<<10)
	return c
}

// byteWaiter reads the socket of a Conn. The time limit is that of the next byte: a long reply may
// take longer.
type byteWaiter struct{ *Conn }

func (w byteWaiter) Read(b []byte) (int, error) {
	if err := w.net.SetReadDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	return w.net.Read(b)
}

// SetTimeout sets how long a write may take, and how long a read waits for the next byte. The
// default is Patience of ten seconds.
func (c *Conn) SetTimeout(d time.Duration) { c.timeout = d }

// LocalAddr returns the local address, which the server's CLIENT LIST shows as addr=.
func (c *Conn) LocalAddr() string { return c.net.LocalAddr().String() }

// Close closes the socket. Closing twice is harmless.
func (c *Conn) Close() { _ = c.net.Close() }

// CloseWrite closes only the sending side (TCP FIN). Replies can still be read.
func (c *Conn) CloseWrite() {
	c.t.Helper()
	half, ok := c.net.(interface{ CloseWrite() error })
	if !ok {
		c.t.Fatalf("redistest: %T has no half close", c.net)
	}
	c.check(half.CloseWrite())
}

// Reset closes the socket so that the peer receives a RST instead of a FIN.
func (c *Conn) Reset() {
	if tcp, ok := c.net.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// Narrow has the kernel keep few bytes that the test has not read.
func (c *Conn) Narrow() {
	c.t.Helper()
	c.check(c.net.(interface{ SetReadBuffer(int) error }).SetReadBuffer(32 << 10))
}

// Do sends a command and reads its reply: Send and Recv.
func (c *Conn) Do(args ...any) any {
	c.t.Helper()
	reply, err := c.TryDo(args...)
	c.check(err)
	return reply
}

// TryDo is Do, but returns network errors. An error reply is a reply of type Error.
func (c *Conn) TryDo(args ...any) (any, error) {
	if err := c.TrySend(args...); err != nil {
		return nil, err
	}
	return c.TryRecv()
}

// Send writes one command. A []string or []any argument stands for its elements. A []byte is used
// as it is, and fmt.Sprint formats any other argument.
func (c *Conn) Send(args ...any) {
	c.t.Helper()
	c.check(c.TrySend(args...))
}

// TrySend is Send, but returns network errors.
func (c *Conn) TrySend(args ...any) error { return c.TryWrite(Command(args...)) }

// Write writes bytes unchanged.
func (c *Conn) Write(b []byte) {
	c.t.Helper()
	c.check(c.TryWrite(b))
}

// WriteString is Write for a string.
func (c *Conn) WriteString(s string) {
	c.t.Helper()
	c.Write([]byte(s))
}

// TryWrite is Write, but returns network errors.
func (c *Conn) TryWrite(b []byte) error {
	if err := c.net.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err := c.net.Write(b)
	return err
}

// Recv reads one reply or push and returns it as a Go value; see Error for the types.
func (c *Conn) Recv() any {
	c.t.Helper()
	reply, err := c.TryRecv()
	c.check(err)
	return reply
}

// TryRecv is Recv, but returns network errors.
func (c *Conn) TryRecv() (any, error) {
	c.raw = c.raw[:0]
	return c.readReply()
}

// RecvRaw reads one reply and returns its bytes unchanged.
func (c *Conn) RecvRaw() string {
	c.t.Helper()
	_, err := c.TryRecv()
	c.check(err)
	return string(c.raw)
}

// DoRaw sends a command and returns the bytes of its reply: Send and RecvRaw.
func (c *Conn) DoRaw(args ...any) string {
	c.t.Helper()
	c.Send(args...)
	return c.RecvRaw()
}

// ReadUntil reads up to and including delim and returns everything it has read.
func (c *Conn) ReadUntil(delim string) string {
	c.t.Helper()
	var got []byte
	for !bytes.HasSuffix(got, []byte(delim)) {
		b, err := c.in.ReadByte()
		if err != nil {
			c.t.Fatalf("redistest: %s: %v before %q; got %q", c.net.RemoteAddr(), err, delim, got)
		}
		got = append(got, b)
	}
	return string(got)
}

// ReadN reads exactly n bytes.
func (c *Conn) ReadN(n int) string {
	c.t.Helper()
	got := make([]byte, n)
	if m, err := io.ReadFull(c.in, got); err != nil {
		c.t.Fatalf("redistest: %s: %v after %d of %d bytes: %q", c.net.RemoteAddr(), err, m, n, got[:m])
	}
	return string(got)
}

// ReadAll reads until the peer closes the connection and returns everything it has read. It fails
// the test if the peer does not close in time. A RST counts as closing.
func (c *Conn) ReadAll() string {
	c.t.Helper()
	got, err := io.ReadAll(c.in)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatalf("redistest: %s did not close within %s; got %q", c.net.RemoteAddr(), c.timeout, got)
	}
	return string(got)
}

// check fails the test if there is an error.
func (c *Conn) check(err error) {
	if err != nil {
		c.t.Helper()
		c.t.Fatalf("redistest: %s: %v", c.net.RemoteAddr(), err)
	}
}

// Command returns the bytes of a request with args; see Send for their types.
func Command(args ...any) []byte {
	var flat []string
	for _, a := range args {
		switch a := a.(type) {
		case string:
			flat = append(flat, a)
		case []byte:
			flat = append(flat, string(a))
		case []string:
			flat = append(flat, a...)
		case []any:
			for _, e := range a {
				flat = append(flat, fmt.Sprint(e))
			}
		default:
			flat = append(flat, fmt.Sprint(a))
		}
	}
	b := append([]byte{'*'}, strconv.Itoa(len(flat))...)
	b = append(b, "\r\n"...)
	for _, a := range flat {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}
