//go:build linux

package main

import (
	"github.com/berth-proxy/berth/codec"
)

// client is one simulated client: its socket, the data it still has to send and the replies it is
// owed. Owned by its driver.
type client struct {
	id    int // index in driver.clients
	fd    int // -1: not connected
	to    target
	keys  []uint32 // keys that its address serves; nil: all
	shape *shape   // of the values it sends and receives
	class int      // index of the driver's histogram that counts its requests
	step  int      // current step in a workload of several exchanges
	peer  *client  // the other client of a pair, in workloads with pairs

	greeted  bool // its first PING was answered
	busy     bool // between begin and the last reply
	parked   bool // its request may stay unanswered; the end of a round does not wait for it
	writable bool // epoll reports when the socket accepts more
	epoch    int  // changes with each connect and each close

	// Sending.
	unsent int    // requests of this exchange that are not generated yet
	rest   []byte // generated, but not accepted by the socket yet
	body   body   // the long value that follows rest

	// Receiving.
	began int64 // when the exchange was sent, or was due in an open loop; driver time
	wants []want
	head  int    // wants[head] is answered next
	part  []byte // the received beginning of a reply
	scan  codec.ReplyScanner
	long  body // the long value that is being received

	// Open loop.
	issued, scheduled int64 // requests that were sent and that fell due, since the start
}

// body is a long value that is sent or received in pieces, so it is never in memory as a whole.
type body struct {
	key  uint32
	left int // bytes that are missing, including the line end; 0: no body
	at   int // offset in the value
	bad  bool
}

// streamFrom is the size in bytes from which values are sent and checked in pieces.
const streamFrom = 64 << 10

// want is an expected reply.
type want struct {
	kind wantKind
	ends bool // this reply completes a request of the scenario, so its duration counts
	key  uint32
}

type wantKind uint8

const (
	wantPong   wantKind = iota
	wantOK              // +OK
	wantQueued          // +QUEUED
	wantValue           // the value of the key
	wantInt             // any integer
	wantOwn             // the workload judges the reply
)

// owes adds an expected reply.
func (c *client) owes(kind wantKind, key uint32, ends bool) {
	c.wants = append(c.wants, want{kind: kind, key: key, ends: ends})
}

// settled reports whether everything is sent and answered.
func (c *client) settled() bool {
	return c.head == len(c.wants) && c.unsent == 0 && len(c.rest) == 0 && c.body.left == 0
}
