//go:build linux

package main

import (
	"bytes"
	"strconv"
	"syscall"

	"github.com/berth-proxy/berth/codec"
)

// receive reads from a client's socket and checks the replies.
func (d *driver) receive(c *client) {
	n, errno := readSocket(c.fd, d.in)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return
	case errno != 0:
		d.lost(c, "read: "+errno.Error())
		return
	case n == 0:
		d.lost(c, "the endpoint closed the connection")
		return
	}
	d.bytes += int64(n)
	buf := d.in[:n]
	if len(c.part) > 0 {
		c.part = append(c.part, buf...)
		buf = c.part
	}
	epoch := c.epoch
	used := d.consume(c, buf, d.time())
	if c.epoch == epoch {
		c.part = append(c.part[:0], buf[used:]...)
	}
}

// consume checks the complete replies in buf and returns how many bytes it has processed.
func (d *driver) consume(c *client, buf []byte, now int64) int {
	epoch, pos := c.epoch, 0
	for pos < len(buf) && c.epoch == epoch {
		if c.long.left > 0 {
			pos += d.consumeLong(c, buf[pos:], now)
			continue
		}
		n, err := c.scan.Scan(buf[pos:])
		if err != nil {
			d.lost(c, "not a reply: "+err.Error())
			break
		}
		if n == 0 {
			if head := d.longHeader(c, buf[pos:]); head > 0 {
				pos += head
				continue
			}
			break
		}
		raw := buf[pos : pos+n]
		pos += n
		d.reply(c, raw, now)
	}
	return pos
}

// longHeader returns the length of the first line of a long value and prepares to receive the value
// in pieces. It returns 0 if buf does not begin with a long value.
func (d *driver) longHeader(c *client, buf []byte) int {
	if buf[0] != '$' || c.scan.Need() < streamFrom || c.head == len(c.wants) || c.wants[c.head].kind != wantValue {
		return 0
	}
	end := bytes.IndexByte(buf, '\n')
	size, err := strconv.Atoi(string(buf[1:max(1, end-1)]))
	if end < 0 || err != nil {
		return 0
	}
	c.scan = codec.ReplyScanner{}
	c.long = body{key: c.wants[c.head].key, left: size + 2, bad: size != c.shape.size}
	return end + 1
}

// consumeLong checks a piece of a long value.
func (d *driver) consumeLong(c *client, buf []byte, now int64) int {
	b := &c.long
	if n := min(len(buf), b.left-2); n > 0 {
		b.bad = b.bad || !isValue(buf[:n], b.key, b.at)
		b.at += n
		b.left -= n
		return n
	}
	n := min(len(buf), b.left)
	b.left -= n
	if b.left == 0 {
		d.answer(c, !b.bad, nil, now)
	}
	return n
}

// reply checks one complete reply.
func (d *driver) reply(c *client, raw []byte, now int64) {
	if c.head == len(c.wants) {
		if !d.work.pushed(d, c, raw, now) {
			d.fail("an unexpected reply: " + strconv.Quote(string(raw[:min(len(raw), errorWords)])))
		}
		return
	}
	w := &c.wants[c.head]
	var right bool
	switch w.kind {
	case wantValue:
		right = c.shape.isReply(raw, w.key)
	case wantOK:
		right = string(raw) == "+OK\r\n"
	case wantQueued:
		right = string(raw) == "+QUEUED\r\n"
	case wantPong:
		right = string(raw) == "+PONG\r\n"
	case wantInt:
		right = raw[0] == ':'
	case wantOwn:
		right = d.work.judge(d, c, *w, raw)
	}
	d.answer(c, right, raw, now)
}

// answer counts a reply that was checked and lets the client continue after its last one.
func (d *driver) answer(c *client, right bool, raw []byte, now int64) {
	w := c.wants[c.head]
	c.head++
	switch {
	case !right && len(raw) > 0 && raw[0] == '-':
		d.fail(string(bytes.TrimSpace(raw[1:])))
	case !right:
		if d.wrong == "" {
			d.wrong = "a wrong reply, such as " + strconv.Quote(string(raw[:min(len(raw), 30)]))
		}
		d.fail(d.wrong)
	case w.ends && d.measuring():
		d.hist[c.class].record(now - c.began)
		d.count[c.class]++
	}
	if !c.settled() {
		return
	}
	if c.greeted {
		d.work.answered(d, c, now)
		return
	}
	c.greeted = true
	d.greeted++
	if d.greeted == len(d.clients) {
		d.ready <- nil
	}
	d.openMore()
}
