//go:build linux

package main

import (
	"bytes"
	"strconv"

	"github.com/berth-proxy/berth/codec"
)

// workers is a workload of many clients that wait in BLPOP on a few lists. The first client pushes
// to these lists in turn: at the scenario's rate, or as soon as its last RPUSH is answered. The
// duration of a request is the time from when its RPUSH fell due until a waiting client receives
// the element.
type workers struct {
	plain
	lists int
	names [][]byte
	began []int64 // by element: when its RPUSH fell due, in driver time, or had
}

const had = -1 // value in began: a client has received the element

func (w *workers) start(d *driver) {
	run := strconv.FormatUint(d.random(), 36) // new names, because lists of earlier rounds may still have elements
	for i := range w.lists {
		w.names = append(w.names, []byte("workers:"+run+":"+strconv.Itoa(i)))
	}
	for _, c := range d.clients[1:] {
		c.parked = true
		d.begin(c, 1, d.time())
	}
	d.issuers = d.clients[:1]
	if d.interval == 0 {
		d.next(d.clients[0], d.time())
	}
}

// list returns the name of the list for client or element n.
func (w *workers) list(n int) []byte { return w.names[n%w.lists] }

func (w *workers) request(_ *driver, c *client, dst []byte) []byte {
	if c.parked {
		c.owes(wantOwn, 0, true)
		return codec.AppendCommand(dst, []byte("BLPOP"), w.list(c.id), []byte("0"))
	}
	c.owes(wantInt, 0, false)
	n := len(w.began)
	w.began = append(w.began, c.began)
	dst = append(dst, "*3\r\n$5\r\nRPUSH\r\n"...)
	dst = codec.AppendBulk(dst, w.list(n))
	return c.shape.appendBulk(dst, uint32(n))
}

// judge finds out which element a client has received. It fails if a client has received the
// element before.
func (w *workers) judge(_ *driver, c *client, _ want, raw []byte) bool {
	value, ours := bytes.CutPrefix(raw, codec.AppendBulk(codec.AppendArray(nil, 2), w.list(c.id)))
	at := len(c.shape.header)
	if !ours || len(value) < at+keySize {
		return false
	}
	n := int(keyNumber(value[at : at+keySize]))
	if n >= len(w.began) || w.began[n] == had || !c.shape.isReply(value, uint32(n)) {
		return false
	}
	c.began = w.began[n]
	w.began[n] = had
	return true
}

func (w *workers) answered(d *driver, c *client, now int64) {
	if c.parked {
		d.begin(c, 1, now)
		return
	}
	d.next(c, now)
}
