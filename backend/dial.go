package backend

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/codec"
)

// The first and the longest pause before a node that failed is dialled again; each failure doubles it and a
// random half is taken off, so that many pipes do not come back in one instant.
const (
	BackOffMin = 50 * time.Millisecond
	BackOffMax = 2 * time.Second
)

// DialInto connects to addr and enrols the socket in the loop with owner as its context.
func (s *LinkSettings) DialInto(loop gnet.EventLoop, owner any, addr string) error {
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
	enrolled, err := loop.Enroll(gnet.NewContext(context.Background(), owner), conn)
	if err != nil {
		_ = conn.Close()
		return err
	}
	return (<-enrolled).Err
}

// EndDials waits until no socket is between being connected and being enrolled. No socket is enrolled
// from then on. It must return before the loops end, because a loop that has ended never answers
// Enroll.
func (s *LinkSettings) EndDials() {
	s.loops.Lock()
	defer s.loops.Unlock()
	s.ended = true
}

// network is the name net.Dial wants for a node's address: a path is a unix socket.
func Network(addr string) string {
	if len(addr) > 0 && addr[0] == '/' {
		return "unix"
	}
	return "tcp"
}

// dialError takes off what net puts around the reason, since the address is said once by LostError.
func DialError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// handshake is what makes a fresh connection one of the identity, and how many replies it is owed.
func Handshake(id Identity) (b []byte, replies int) {
	if id.Authenticated() {
		if id.User != "" {
			b = codec.AppendCommandString(b, "AUTH", id.User, id.Password)
		} else {
			b = codec.AppendCommandString(b, "AUTH", id.Password)
		}
		replies++
	}
	if id.RESP == 3 {
		b = codec.AppendCommandString(b, "HELLO", "3")
		replies++
	}
	if id.DB > 0 {
		b = codec.AppendCommandString(b, "SELECT", strconv.Itoa(id.DB))
		replies++
	}
	return b, replies
}
