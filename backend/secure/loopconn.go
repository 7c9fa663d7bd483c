package secure

import (
	"errors"
	"io"
	"net"

	"github.com/panjf2000/gnet/v2"
)

// LoopConn is a TLS connection on a socket of gnet's. Next returns what the peer has said, and Write
// says something; both as they do for a plain socket. Owned by the event loop.
type LoopConn struct {
	gnet.Conn
	stream  *Stream
	scratch *Scratch
}

// Scratch is the memory in which the connections of one loop decrypt and encrypt.
type Scratch struct{ plain, cipher []byte }

// maxScratch bounds what a loop keeps. More than a read buffer is rare.
const maxScratch = 128 << 10

// maxSealed is how many bytes are encrypted at once: a long reply needs no second copy of itself.
const maxSealed = 32 << 10

// OnLoop returns a stream on the socket that it was detached from, which is gnet's now.
func OnLoop(c gnet.Conn, stream *Stream, scratch *Scratch) *LoopConn {
	return &LoopConn{c, stream, scratch}
}

// Raw returns the socket under a connection, which may be a plain one: gnet knows no other.
func Raw(c gnet.Conn) gnet.Conn {
	for {
		over, ok := c.(interface{ Under() gnet.Conn })
		if !ok {
			return c
		}
		c = over.Under()
	}
}

// Under is the connection that this one encrypts.
func (c *LoopConn) Under() gnet.Conn { return c.Conn }

// Close has the loop close a connection of its own.
func Close(c gnet.Conn) { _ = c.EventLoop().Close(Raw(c)) }

// Stream is what the connection encrypts and decrypts with.
func (c *LoopConn) Stream() *Stream { return c.stream }

// Next returns all that has come; n must be -1. The bytes are valid until another connection of the
// loop is read. An error means that nothing more comes, io.EOF that the peer said so.
func (c *LoopConn) Next(n int) ([]byte, error) {
	if n >= 0 {
		panic("a part of what came is not to be had")
	}
	cipher, _ := c.Conn.Next(-1)
	plain, err := c.stream.Open(cipher, c.scratch.plain[:0])
	if c.scratch.plain = plain; cap(plain) > maxScratch {
		c.scratch.plain = nil
	}
	if left := c.stream.Left(); len(left) > 0 {
		_, _ = c.Conn.Write(left) // a failure closes the socket
	}
	return plain, err
}

// Write encrypts b and writes it.
func (c *LoopConn) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		piece := b[n:min(len(b), n+maxSealed)]
		if c.scratch.cipher, err = c.stream.Seal(piece, c.scratch.cipher[:0]); err == nil {
			_, err = c.Conn.Write(c.scratch.cipher)
			n += len(piece)
		}
	}
	return n, err
}

// Writev writes several pieces.
func (c *LoopConn) Writev(pieces [][]byte) (n int, err error) {
	for _, b := range pieces {
		written, err := c.Write(b)
		if n += written; err != nil {
			return n, err
		}
	}
	return n, nil
}

// End tells the peer that nothing more is to come.
func (c *LoopConn) End() {
	c.scratch.cipher = c.stream.SealEnd(c.scratch.cipher[:0])
	_, _ = c.Conn.Write(c.scratch.cipher) // a failure closes the socket
}

// What else gnet.Conn can would go past the encryption.

var errPlain = errors.New("a TLS connection is read by Next and written by Write")

func (c *LoopConn) Read([]byte) (int, error)                       { return 0, errPlain }
func (c *LoopConn) WriteTo(io.Writer) (int64, error)               { return 0, errPlain }
func (c *LoopConn) Peek(int) ([]byte, error)                       { return nil, errPlain }
func (c *LoopConn) Discard(int) (int, error)                       { return 0, errPlain }
func (c *LoopConn) ReadFrom(io.Reader) (int64, error)              { return 0, errPlain }
func (c *LoopConn) SendTo([]byte, net.Addr) (int, error)           { return 0, errPlain }
func (c *LoopConn) AsyncWrite([]byte, gnet.AsyncCallback) error    { return errPlain }
func (c *LoopConn) AsyncWritev([][]byte, gnet.AsyncCallback) error { return errPlain }
