//go:build linux

package main

import (
	"fmt"
	"syscall"
)

// The sending half of the driver: exchanges, the schedule of an open loop, and writing.

// begin starts an exchange of n requests. Their duration counts from began.
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

// exchange sends the next n requests of an exchange that has begun.
func (d *driver) exchange(c *client, n int) {
	c.wants, c.head = c.wants[:0], 0
	c.unsent = n
	d.push(c)
}

// next lets a client continue after its last reply: at once in a closed loop, or as the schedule
// says in an open loop.
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

// fallDue sends the requests that have fallen due. A client that still waits for a reply sends its
// request later, but the duration counts from when the request was due. A slow endpoint therefore
// cannot improve its figures by receiving fewer requests.
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

// issue sends a client's next scheduled request.
func (d *driver) issue(c *client) {
	turn := c.issued*int64(len(d.issuers)) + int64(c.id)
	c.issued++
	d.begin(c, 1, d.started+int64(float64(turn)*d.interval))
}

// push sends a client's data until everything is sent or the socket accepts no more.
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

// pushBody sends a piece of a long value. It returns false if the socket accepts no more.
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

// write sends bytes and returns how many the socket accepted. It returns false if that is not all;
// then epoll reports when the client can continue.
func (d *driver) write(c *client, p []byte) (int, bool) {
	n, errno := writeSocket(c.fd, p)
	switch errno {
	case 0:
		d.bytes += int64(n)
		if n == len(p) {
			return n, true
		}
	case syscall.EAGAIN, syscall.ENOTCONN: // ENOTCONN: still connecting
		n = 0
	default:
		d.lost(c, "write: "+errno.Error())
		return len(p), false
	}
	d.await(c, true)
	return n, false
}

// await sets whether epoll reports that the socket accepts more.
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
