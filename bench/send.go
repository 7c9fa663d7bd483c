//go:build linux

package main

import (
	"fmt"
	"syscall"
)

// begin starts an exchange of n requests, which began at the given time.
func (d *driver) begin(c *client, n int, began int64) {
	if c.fd < 0 {
		return
	}
	if !c.busy {
		c.busy = true
		if !c.parked {
			d.busy++
		}
	}
	c.began = began
	d.exchange(c, n)
}

// exchange is begin for a further step of what has begun.
func (d *driver) exchange(c *client, n int) {
	c.wants, c.head = c.wants[:0], 0
	c.unsent = n
	d.push(c)
}

// next lets a client go on after it has got all replies: at once, or when its next request falls
// due.
func (d *driver) next(c *client, now int64) {
	if c.busy {
		c.busy = false
		if !c.parked {
			d.busy--
		}
	}
	if !d.going() {
		return
	}
	if d.interval == 0 {
		d.begin(c, d.pipeline, now)
		return
	}
	if c.issued < c.scheduled {
		d.issue(c)
	}
}

// fallDue sends the requests whose time has come. A client that still waits for a reply sends its
// own later, and its duration is counted from when it was due: a slow endpoint cannot hide by being
// asked less.
func (d *driver) fallDue() {
	if !d.going() {
		return
	}
	now := d.time()
	for d.started+int64(float64(d.turn)*d.interval) <= now {
		c := d.issuers[d.turn%int64(len(d.issuers))]
		d.turn++
		c.scheduled++
		if !c.busy {
			d.issue(c)
		}
	}
}

// issue sends a client's next request of the schedule.
func (d *driver) issue(c *client) {
	turn := c.issued*int64(len(d.issuers)) + int64(c.id)
	c.issued++
	d.begin(c, 1, d.started+int64(float64(turn)*d.interval))
}

// push sends what a client has to send, until the socket takes no more.
func (d *driver) push(c *client) {
	for {
		switch {
		case len(c.rest) > 0:
			n, ok := d.write(c, c.rest)
			c.rest = append(c.rest[:0], c.rest[n:]...)
			if !ok {
				return
			}
		case c.body.left > 0:
			if !d.pushBody(c) {
				return
			}
		case c.unsent > 0:
			out := d.scratch[:0]
			for c.unsent > 0 && len(out) < streamFrom && c.body.left == 0 {
				c.unsent--
				out = d.work.request(d, c, out)
			}
			d.scratch = out[:0]
			n, ok := d.write(c, out)
			if !ok {
				if c.fd >= 0 {
					c.rest = append(c.rest, out[n:]...)
				}
				return
			}
		default:
			d.await(c, false)
			return
		}
	}
}

// pushBody sends a piece of a long value.
func (d *driver) pushBody(c *client) bool {
	b := &c.body
	piece := d.scratch[:0]
	if b.left > 2 {
		var room [2 * keySize]byte
		text := appendKey(appendKey(room[:0], b.key), b.key)[b.at%keySize:][:keySize]
		piece = append(piece, text...)
		size := min(b.left-2, 2*streamFrom-keySize)
		for len(piece) < size {
			piece = append(piece, piece[:min(len(piece), size-len(piece))]...)
		}
		piece = piece[:size]
	} else {
		piece = append(piece, "\r\n"[2-b.left:]...)
	}
	n, ok := d.write(c, piece)
	b.at += n
	b.left -= n
	return ok
}

// write sends bytes; false: not all were taken, and epoll will tell when to go on.
func (d *driver) write(c *client, p []byte) (int, bool) {
	n, errno := writeSocket(c.fd, p)
	switch errno {
	case 0:
		d.bytes += int64(n)
		if n == len(p) {
			return n, true
		}
	case syscall.EAGAIN, syscall.ENOTCONN: // the latter: connect is still under way
		n = 0
	default:
		d.lost(c, "write: "+errno.Error())
		return len(p), false
	}
	d.await(c, true)
	return n, false
}

// await asks epoll to tell, or not to tell, when the socket takes more.
func (d *driver) await(c *client, writable bool) {
	if c.writable == writable || c.fd < 0 {
		return
	}
	c.writable = writable
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.id)}
	if writable {
		event.Events |= syscall.EPOLLOUT
	}
	if err := syscall.EpollCtl(d.epfd, syscall.EPOLL_CTL_MOD, c.fd, &event); err != nil {
		d.giveUp(fmt.Errorf("epoll_ctl: %w", err))
	}
}
