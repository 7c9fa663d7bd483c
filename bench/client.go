//go:build linux

package main

import (
	"github.com/berth-proxy/berth/codec"
)

// client is one socket and what it is in the middle of. Owned by its driver.
type client struct {
	id    int // its place in driver.clients
	fd    int // -1: none
	to    target
	keys  []uint32 // the keys its address may be asked for; nil: all
	shape *shape   // of the values it sends and gets
	class int      // which of the driver's histograms counts it
	step  int      // how far it is in a workload of several exchanges
	peer  *client  // whom it works with, where a workload has pairs

	greeted  bool // its first PING was answered
	busy     bool // between begin and the last reply
	parked   bool // waits for as long as it takes: nobody waits for it at the end
	writable bool // epoll tells when the socket takes more
	epoch    int  // counts its connections

	// What is being sent.
	unsent int    // requests of this exchange that are not generated yet
	rest   []byte // generated, and the socket did not take it
	body   body   // the long value that follows rest

	// What is being received.
	began int64 // when the exchange was sent, or was due; driver time
	wants []want
	head  int    // wants[head] is answered next
	part  []byte // of a reply
	scan  codec.ReplyScanner
	long  body // the long value that is being received

	// Open loop.
	issued, scheduled int64 // requests sent, and due, since the start
}

// body is a long value on its way, which is never in memory as a whole.
type body struct {
	key  uint32
	left int // bytes still to come, the line end included; 0: none
	at   int // offset in the value
	bad  bool
}

// streamFrom is the size above which values are sent and checked piece by piece.
const streamFrom = 64 << 10

// want is a reply that is owed.
type want struct {
	kind wantKind
	ends bool // with it a request of the scenario is complete, and its duration counted
	key  uint32
}

type wantKind uint8

const (
	wantPong   wantKind = iota
	wantOK              // +OK
	wantQueued          // +QUEUED
	wantValue           // the value of the key
	wantInt             // any integer
	wantOwn             // what the workload itself judges
)

// owes notes that a reply is owed.
func (c *client) owes(kind wantKind, key uint32, ends bool) {
	c.wants = append(c.wants, want{kind: kind, key: key, ends: ends})
}

// settled reports whether all is sent and answered.
func (c *client) settled() bool {
	return c.head == len(c.wants) && c.unsent == 0 && len(c.rest) == 0 && c.body.left == 0
}
