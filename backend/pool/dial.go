package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/bytedance/gopkg/util/gopool"
	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/codec"
)

// kind is what the connections are called at the node: see backend.Naming.
const kind = "lease"

// mayDial reports whether the pool's own limits allow one more dial; nodeLimit.full is another one.
// Called with nodeLimit.mu locked.
func (p *Pool) mayDial(s *Values) bool {
	return !p.shut.Load() && (s.DialConcurrency == 0 || p.dialing < s.DialConcurrency)
}

// startDial begins a dial on behalf of w, or for MinIdle if w is nil. Called with nodeLimit.mu
// locked.
func (p *Pool) startDial(w *Waiter, want backend.Identity) {
	p.dialing++
	p.total.Add(1)
	p.limit.total.Add(1)
	p.metrics.dials.Add(1)
	want.User, want.Credential = p.user, p.credential
	gopool.Go(func() {
		c, err := p.dial(want)
		p.endDial(w, err)
		if err == nil {
			p.put(c)
		}
		p.limit.dialForWaiters()
		p.limit.relieve(p)
		p.warmer.look()
	})
}

// endDial keeps the accounts of a dial. If the dial failed and w is still queued, w gets the error.
func (p *Pool) endDial(w *Waiter, err error) {
	p.warmer.dialed(err)
	p.limit.mu.Lock()
	defer p.limit.mu.Unlock()
	p.dialing--
	if w != nil {
		w.dialed = false
	}
	if err == nil {
		return
	}
	p.metrics.dialFailed(err)
	p.total.Add(-1)
	p.limit.total.Add(-1)
	if w != nil && p.dequeue(w) {
		p.answer(w, nil, err)
	}
}

// dial makes a connection of the identity. The caller holds it.
func (p *Pool) dial(id backend.Identity) (*conn, error) {
	ctx, epoch := p.dialCtx, p.epoch.Load()
	if limit := p.settings.Load().DialTimeout; limit > 0 {
		timed, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		ctx = timed
	}
	if err := p.logins.Refused(id, p.addr); err != nil { // lately: the node is spared a connection
		return nil, err
	}
	nc, err := p.settings.Dialer.Connect(ctx, p.addr, 0)
	if err != nil {
		return nil, p.dialFailed(err)
	}
	defer func() { _ = nc.Close() }()
	shake, err := p.shake(ctx, nc, id)
	if err != nil {
		return nil, err
	}
	fd, err := duplicate(nc)
	if err != nil {
		return nil, p.dialFailed(err)
	}
	c := &conn{pool: p, nodeID: shake.NodeID, password: shake.Password(), local: backend.HostOf(nc.LocalAddr()), epoch: epoch, ledger: ledger{db: id.DB, resp: id.RESP}}
	c.alarm.value = c
	if s, ok := nc.(*secure.Conn); ok {
		c.wire.secure, nc = s.Detach()
	}
	if err := c.wire.open(fd, c); err != nil {
		return nil, p.dialFailed(err)
	}
	p.limit.seat(c)
	return c, nil
}

// shake runs the handshake within the dial's time. The node may not say its number of the connection
// (an ACL, an old version).
func (p *Pool) shake(ctx context.Context, nc net.Conn, id backend.Identity) (backend.Handshake, error) {
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	shake := p.logins.Handshake(p.addr, id)
	shake.Kind, shake.AsksNodeID = kind, true
	next, err := shake.Begin()
	r := replyReader{conn: nc, buf: make([]byte, 0, 512)}
	for err == nil && !shake.Over() {
		reply, failed := r.ask(next)
		if failed != nil {
			return shake, p.dialFailed(failed)
		}
		next, err = shake.Reply(reply)
	}
	if err == nil && len(r.buf) > r.taken {
		err = p.dialFailed(backend.ErrUnowed)
	}
	return shake, err
}

// replyReader reads the replies to a handshake. It blocks.
type replyReader struct {
	conn    net.Conn
	scanner codec.ReplyScanner
	buf     []byte // has arrived
	taken   int    // bytes of buf: the latest reply
}

// ask writes, and returns the next reply, valid until the next call.
func (r *replyReader) ask(request []byte) (reply []byte, err error) {
	if len(request) > 0 {
		if _, err := r.conn.Write(request); err != nil {
			return nil, err
		}
	}
	r.buf = r.buf[r.taken:]
	r.taken = 0
	for {
		if len(r.buf) > 0 {
			if r.taken, err = r.scanner.Scan(r.buf); err != nil || r.taken > 0 {
				return r.buf[:r.taken], err
			}
		}
		if len(r.buf) > backend.MaxHandshake {
			return nil, backend.ErrHandshake
		}
		r.buf = slices.Grow(r.buf, 512)
		n, err := r.conn.Read(r.buf[len(r.buf):cap(r.buf)])
		if err != nil {
			return nil, err
		}
		r.buf = r.buf[:len(r.buf)+n]
	}
}

// dialFailed returns err in one line that says what was dialled and why it failed.
func (p *Pool) dialFailed(err error) error {
	err = backend.DialError(err)
	if call := new(os.SyscallError); errors.As(err, &call) {
		err = call.Err
	}
	return fmt.Errorf("dial %s: %w", p.addr, err)
}

// duplicate returns a second descriptor of the connection's socket, owned by the caller. Package
// net keeps its own until Close.
func duplicate(nc net.Conn) (fd int, err error) {
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, err
	}
	controlErr := raw.Control(func(s uintptr) {
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	})
	return fd, errors.Join(controlErr, os.NewSyscallError("fcntl", err))
}
