//go:build linux

package main

import (
	"bytes"
	"strconv"

	"github.com/berth-proxy/berth/codec"
)

// The workloads that pass messages between clients: queue and pubsub.

// queue is a workload of pairs of clients. The first half of the clients wait in BLPOP, each on its
// own list, and the second half push to these lists. The duration of a request is the time from
// RPUSH until the waiting client receives the element.
type queue struct {
	plain
	names [][]byte // by consumer
	count []uint32 // by consumer: elements that it has received
}

func newQueue() *queue { return &queue{} }

func (q *queue) start(d *driver) {
	half := len(d.clients) / 2
	q.count = make([]uint32, half)
	for i := range half {
		// The names are new, because lists of earlier rounds may still have an element.
		q.names = append(q.names, []byte("queue:"+strconv.FormatUint(d.random(), 36)+":"+strconv.Itoa(i)))
		consumer, producer := d.clients[i], d.clients[half+i]
		consumer.peer, producer.peer = producer, consumer
		consumer.parked = true
		d.begin(consumer, 1, d.time())
		d.begin(producer, 1, d.time())
	}
}

func (q *queue) request(_ *driver, c *client, dst []byte) []byte {
	if c.parked {
		c.owes(wantOwn, q.count[c.id], true)
		return codec.AppendCommand(dst, []byte("BLPOP"), q.names[c.id], []byte("0"))
	}
	consumer := c.peer
	c.owes(wantInt, 0, false)
	dst = append(dst, "*3\r\n$5\r\nRPUSH\r\n"...)
	dst = codec.AppendBulk(dst, q.names[consumer.id])
	return c.shape.appendBulk(dst, q.count[consumer.id])
}

func (q *queue) judge(_ *driver, c *client, w want, raw []byte) bool {
	c.began = c.peer.began
	want := codec.AppendBulk(codec.AppendArray(nil, 2), q.names[c.id])
	want = c.shape.appendBulk(want, w.key)
	return bytes.Equal(raw, want)
}

// answered sends the next element once the last one has arrived and its RPUSH is answered.
func (q *queue) answered(d *driver, c *client, now int64) {
	if c.parked {
		q.count[c.id]++
		d.begin(c, 1, now)
	} else {
		c.busy = false
		d.busy--
		c = c.peer
	}
	producer := c.peer
	if d.going() && !producer.busy && producer.step < int(q.count[c.id]) {
		producer.step = int(q.count[c.id])
		d.begin(producer, 1, d.time())
	}
}

// pubsub is a workload of one client that publishes and many clients that listen to one channel
// each. It publishes as many messages at once as the pipeline is long, to the channels in turn, and
// the next ones when all listeners have received them. A request is the delivery of a message to
// one listener.
type pubsub struct {
	channels int
	names    [][]byte // of the channels
	heads    [][]byte // by channel: the beginning of each message
	hearers  []int    // by channel: number of clients that listen
	seq      []uint32 // by channel: number of the next message
	next     []uint32 // by client: number of the next message that it receives
	turn     int      // messages published so far
	missing  int      // deliveries of this exchange that are missing
	listen   int      // clients that have subscribed
}

func (p *pubsub) start(d *driver) {
	run := strconv.FormatUint(d.random(), 36)
	for i := range p.channels {
		name := []byte("channel:" + run + ":" + strconv.Itoa(i))
		head := codec.AppendBulkString(codec.AppendArray(nil, 3), "message")
		p.names, p.heads = append(p.names, name), append(p.heads, codec.AppendBulk(head, name))
	}
	p.hearers, p.seq, p.next = make([]int, p.channels), make([]uint32, p.channels), make([]uint32, len(d.clients))
	for _, c := range d.clients[1:] {
		p.hearers[p.channelOf(c)]++
		d.begin(c, 1, d.time())
	}
}

// channelOf returns the channel that a client listens to.
func (p *pubsub) channelOf(c *client) int { return (c.id - 1) % p.channels }

func (p *pubsub) request(d *driver, c *client, dst []byte) []byte {
	if c.id != 0 {
		c.owes(wantOwn, 0, false)
		return codec.AppendCommand(dst, []byte("SUBSCRIBE"), p.names[p.channelOf(c)])
	}
	c.owes(wantOwn, 1, false)
	i := p.turn % p.channels
	p.turn++
	dst = append(dst, "*3\r\n$7\r\nPUBLISH\r\n"...)
	dst = codec.AppendBulk(dst, p.names[i])
	dst = c.shape.appendBulk(dst, p.seq[i])
	p.seq[i]++
	return dst
}

// judge checks the confirmation of SUBSCRIBE or the reply to PUBLISH.
func (p *pubsub) judge(d *driver, _ *client, w want, raw []byte) bool {
	if w.key == 0 {
		return bytes.HasPrefix(raw, codec.AppendBulkString(codec.AppendArray(nil, 3), "subscribe"))
	}
	return bytes.HasPrefix(raw, []byte(":"))
}

func (p *pubsub) answered(d *driver, c *client, now int64) {
	c.busy = false
	d.busy--
	if c.id != 0 {
		p.listen++
	}
	p.publish(d)
}

// publish sends the next messages if all clients listen and have received the last ones.
func (p *pubsub) publish(d *driver) {
	c := d.clients[0]
	if !d.going() || c.busy || p.missing > 0 || p.listen < len(d.clients)-1 {
		return
	}
	for k := range d.pipeline {
		p.missing += p.hearers[(p.turn+k)%p.channels]
	}
	d.begin(c, d.pipeline, d.time())
}

// pushed checks a message and counts its delivery.
func (p *pubsub) pushed(d *driver, c *client, raw []byte, now int64) bool {
	head := p.heads[p.channelOf(c)]
	if len(raw) < len(head) || !bytes.Equal(raw[:len(head)], head) || !c.shape.isReply(raw[len(head):], p.next[c.id]) {
		return false
	}
	p.next[c.id]++
	p.missing--
	if d.measuring() {
		d.hist[0].record(now - d.clients[0].began)
		d.count[0]++
	}
	p.publish(d)
	return true
}
