//go:build linux

package main

import "strconv"

// The workloads with transactions: txnBlob and txnWatch.

// txnBlob sends a transaction in one write: MULTI, SET, GET, STRLEN, EXISTS, EXEC.
type txnBlob struct {
	plain
	want []byte // the end of EXEC's reply, after the value
}

func (t *txnBlob) request(d *driver, c *client, dst []byte) []byte {
	k := d.anyKey(c)
	dst = append(dst, "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n"...)
	dst = appendKeyBulk(dst, k)
	dst = c.shape.appendBulk(dst, k)
	dst = append(dst, "*2\r\n$3\r\nGET\r\n"...)
	dst = appendKeyBulk(dst, k)
	dst = append(dst, "*2\r\n$6\r\nSTRLEN\r\n"...)
	dst = appendKeyBulk(dst, k)
	dst = append(dst, "*2\r\n$6\r\nEXISTS\r\n"...)
	dst = appendKeyBulk(dst, k)
	dst = append(dst, "*1\r\n$4\r\nEXEC\r\n"...)
	c.owes(wantOK, k, false)
	for range 4 {
		c.owes(wantQueued, k, false)
	}
	c.owes(wantOwn, k, true)
	return dst
}

func (t *txnBlob) judge(_ *driver, c *client, w want, raw []byte) bool {
	if t.want == nil {
		t.want = append([]byte("\r\n:"), strconv.Itoa(c.shape.size)+"\r\n:1\r\n"...)
	}
	const head = "*4\r\n+OK\r\n"
	value := len(c.shape.header) + c.shape.size
	return len(raw) == len(head)+value+len(t.want) && string(raw[:len(head)]) == head &&
		c.shape.isReply(raw[len(head):][:value+2], w.key) && string(raw[len(head)+value:]) == string(t.want)
}

// txnWatch locks a key optimistically, as clients usually do, in three exchanges: WATCH; GET;
// MULTI, SET and EXEC.
type txnWatch struct {
	plain
	key []uint32 // by client: key of its current transaction
}

func (t *txnWatch) start(d *driver) {
	t.key = make([]uint32, len(d.clients))
	t.plain.start(d)
}

func (t *txnWatch) request(d *driver, c *client, dst []byte) []byte {
	k := t.key[c.id]
	switch c.step {
	case 0:
		k = d.anyKey(c)
		t.key[c.id] = k
		c.owes(wantOK, k, false)
		return appendKeyBulk(append(dst, "*2\r\n$5\r\nWATCH\r\n"...), k)
	case 1:
		c.owes(wantValue, k, false)
		return appendKeyBulk(append(dst, "*2\r\n$3\r\nGET\r\n"...), k)
	}
	c.owes(wantOK, k, false)
	c.owes(wantQueued, k, false)
	c.owes(wantOwn, k, true)
	dst = append(dst, "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n"...)
	dst = appendKeyBulk(dst, k)
	dst = c.shape.appendBulk(dst, k)
	return append(dst, "*1\r\n$4\r\nEXEC\r\n"...)
}

func (t *txnWatch) answered(d *driver, c *client, now int64) {
	if c.step < 2 {
		c.step++
		d.exchange(c, 1)
		return
	}
	c.step = 0
	d.next(c, now)
}

// judge accepts a transaction that was refused because its key had changed. It counts these
// conflicts.
func (t *txnWatch) judge(d *driver, _ *client, _ want, raw []byte) bool {
	if string(raw) == "*-1\r\n" {
		if d.measuring() {
			d.other["conflicts"]++
		}
		return true
	}
	return string(raw) == "*1\r\n+OK\r\n"
}
