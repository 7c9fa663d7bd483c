package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// predecessor is a running berth whose place this one takes (--take-over), and what it has handed over:
// see handOver. It serves until relieve.
type predecessor struct {
	conn  *net.UnixConn
	doors []door
	admin []net.Listener
	next  *net.UnixListener // take-over-socket itself
}

// meet asks the berth that listens on take-over-socket for its sockets.
func (p *predecessor) meet(path string) (err error) {
	if p.conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
		return fmt.Errorf("no berth to take over from: %w", err)
	}
	if err := p.take(); err != nil {
		return fmt.Errorf("take over by %s: %w", path, err)
	}
	return nil
}

func (p *predecessor) take() error {
	uid, _, err := peerOf(p.conn)
	if self := os.Geteuid(); err == nil && uid != 0 && uid != self && self != 0 {
		err = fmt.Errorf("the other berth is user %d", uid)
	}
	if err != nil {
		return err
	}
	_ = p.conn.SetDeadline(time.Now().Add(handOverPatience)) // a closed socket fails below
	if _, err := p.conn.Write([]byte(askSockets)); err != nil {
		return err
	}
	what, fds, err := receiveSockets(p.conn)
	if err != nil {
		return err
	}
	for i, s := range what {
		if err := p.enter(s, fds[i]); err != nil {
			return fmt.Errorf("descriptor %d (%s): %w", fds[i], s.Use, err)
		}
	}
	if p.next == nil {
		return errFewSockets
	}
	return nil
}

var (
	errFewSockets = errors.New("it has not sent all sockets")
	errCutSockets = errors.New("not all sockets have come; is the descriptor limit too low?")
)

// receiveSockets reads lines of handedSockets up to the last one.
func receiveSockets(conn *net.UnixConn) (what []handedSocket, fds []int, err error) {
	var text []byte
	data, aside := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*handedAtOnce))
	for {
		n, m, flags, _, err := conn.ReadMsgUnix(data, aside)
		switch {
		case err != nil:
			return nil, nil, err
		case n == 0:
			return nil, nil, io.ErrUnexpectedEOF
		case flags&unix.MSG_CTRUNC != 0:
			return nil, nil, errCutSockets
		}
		more, err := descriptors(aside[:m])
		if err != nil {
			return nil, nil, err
		}
		text, fds = append(text, data[:n]...), append(fds, more...)
		for {
			line, rest, whole := bytes.Cut(text, []byte("\n"))
			if !whole {
				break
			}
			text = rest
			var said handedSockets
			if err := json.Unmarshal(line, &said); err != nil {
				return nil, nil, err
			}
			what = append(what, said.Sockets...)
			switch {
			case said.Refused != "":
				return nil, nil, errors.New(said.Refused)
			case !said.More && len(what) != len(fds):
				return nil, nil, errFewSockets
			case !said.More:
				return what, fds, nil
			}
		}
	}
}

// descriptors are those that came beside data.
func descriptors(aside []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(aside)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

// enter takes one socket.
func (p *predecessor) enter(s handedSocket, fd int) error {
	name := s.Use
	if s.TLS {
		name = passedTLS
	}
	d, err := passedDoor(fd, name)
	if err != nil {
		return err
	}
	d.passed, d.handed = s.Passed, true
	ln, isUnix := d.Listener.(*net.UnixListener)
	switch {
	case s.Use == useClients:
		p.doors = append(p.doors, d)
	case s.Use == useAdmin:
		p.admin = append(p.admin, d.Listener)
	case s.Use == useTakeOver && isUnix:
		p.next = ln
	default:
		_ = d.Close() // of a later version
	}
	return nil
}

// relieve tells the predecessor that this berth accepts clients, and returns when the predecessor
// accepts no more.
func (p *predecessor) relieve() {
	if p.conn == nil {
		return
	}
	defer p.conn.Close()
	_ = p.conn.SetDeadline(time.Now().Add(handOverPatience)) // a closed socket fails below
	answer := make([]byte, len(sayGone))
	_, err := p.conn.Write([]byte(sayReady))
	if err == nil {
		_, err = io.ReadFull(p.conn, answer)
	}
	if err != nil {
		slog.Warn("the berth before this one has not said that it goes", "why", err)
	}
	p.next.SetUnlinkOnClose(true) // the paths are this berth's now
	for _, d := range p.doors {
		if ln, isUnix := d.Listener.(*net.UnixListener); isUnix && !d.passed {
			ln.SetUnlinkOnClose(true)
		}
	}
}
