package secure

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Stream is a TLS connection without its socket. One goroutine at a time opens, one at a time seals;
// they may be two.
type Stream struct {
	tls  *tls.Conn
	wire *wire
}

// Open appends to plain what the peer has said, as far as cipher, which came from the socket, completes
// it. io.EOF means that the peer says no more. After any error the connection must end. Open may leave
// bytes to Take: the answer to a change of keys, or the reason for an error.
func (s *Stream) Open(cipher, plain []byte) ([]byte, error) {
	s.wire.in = cipher
	for {
		plain = slices.Grow(plain, minRead)
		n, err := s.tls.Read(plain[len(plain):cap(plain)])
		plain = plain[:len(plain)+n]
		switch {
		case err == nil && s.wire.owes() > maxOwed:
			return plain, errKeys
		case err == nil:
		case errors.Is(err, errMore):
			return plain, nil
		default:
			return plain, err
		}
	}
}

// minRead is the least room that a read has.
const minRead = 512

// maxOwed bounds what a peer may have answered in one Open: to change the keys again and again is
// much work for nothing. A peer that means it changes them after millions of records.
const maxOwed = 512

var errKeys = errors.New("the keys are changed again and again")

// Seal appends to cipher the bytes for the socket that say plain, after what Open has left. They must be
// written before the next call's.
func (s *Stream) Seal(plain, cipher []byte) ([]byte, error) {
	s.wire.lend(cipher)
	_, err := s.tls.Write(plain)
	return s.wire.take(), err
}

// SealEnd is Seal for the word that nothing more is to come.
func (s *Stream) SealEnd(cipher []byte) []byte {
	s.wire.lend(cipher)
	_ = s.tls.CloseWrite() // fails only when there was an error before
	return s.wire.take()
}

// Left returns what Open has left to be written.
func (s *Stream) Left() []byte { return s.wire.take() }

// Attach returns the connection on its socket again, after all that came from it was opened.
func (s *Stream) Attach(sock net.Conn) *Conn {
	s.wire.sock = sock
	return &Conn{s.tls, s.wire}
}

// wire is what a tls.Conn takes for its socket: the socket itself, or memory once that is gone.
type wire struct {
	sock     net.Conn
	work     Work
	given    <-chan struct{} // closed when the handshake is given up
	computes bool            // it has a part of work

	in []byte // from the socket, not read yet

	mu    sync.Mutex // guards what follows: an Open may answer the peer while another goroutine seals
	out   []byte     // for the socket; lent by who seals, so that an idle stream keeps no memory
	seals bool       // it is lent
}

// lend makes b the memory of out.
func (w *wire) lend(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out, w.seals = append(b, w.out...), true
}

// owes is how much is to be written that the peer has caused.
func (w *wire) owes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seals {
		return 0
	}
	return len(w.out)
}

func (w *wire) take() (out []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out, w.out, w.seals = w.out, nil, false
	return out
}

// errMore means that the socket must bring more bytes. To crypto/tls it is a temporary error: a read
// goes on where it stopped, in the middle of a record as well.
var errMore more

type more struct{}

func (more) Error() string   { return "more bytes are needed" }
func (more) Timeout() bool   { return true }
func (more) Temporary() bool { return true }

func (w *wire) Read(b []byte) (int, error) {
	if w.sock != nil {
		computes := w.computes
		w.end()
		n, err := w.sock.Read(b)
		if err == nil && computes {
			err = w.begin()
		}
		return n, err
	}
	if len(w.in) == 0 {
		return 0, errMore
	}
	n := copy(b, w.in)
	if w.in = w.in[n:]; len(w.in) == 0 {
		w.in = nil // it was another's memory
	}
	return n, nil
}

func (w *wire) Write(b []byte) (int, error) {
	if w.sock != nil {
		return w.sock.Write(b)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = append(w.out, b...)
	return len(b), nil
}

func (w *wire) Close() error {
	if w.sock != nil {
		return w.sock.Close()
	}
	return nil
}

func (w *wire) LocalAddr() net.Addr {
	if w.sock != nil {
		return w.sock.LocalAddr()
	}
	return nil
}

func (w *wire) RemoteAddr() net.Addr {
	if w.sock != nil {
		return w.sock.RemoteAddr()
	}
	return nil
}

// The deadlines of memory mean nothing: it never waits.

func (w *wire) SetDeadline(t time.Time) error {
	if w.sock != nil {
		return w.sock.SetDeadline(t)
	}
	return nil
}

func (w *wire) SetReadDeadline(t time.Time) error {
	if w.sock != nil {
		return w.sock.SetReadDeadline(t)
	}
	return nil
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.sock != nil {
		return w.sock.SetWriteDeadline(t)
	}
	return nil
}
