package backend

import (
	"errors"
	"net"
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
	conn, err := net.DialTimeout(Network(addr), addr, s.DialTimeout())
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

// Network returns the network that net.Dial wants for a node's address: a path is a unix socket.
func Network(addr string) string {
	if len(addr) > 0 && addr[0] == '/' {
		return "unix"
	}
	return "tcp"
}

// DialError returns the reason without what package net puts around it. The caller adds the
// address itself.
func DialError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
