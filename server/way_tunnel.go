package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bytedance/gopkg/util/gopool"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// tunnel is a replica's own connection to the node: REPLCONF, PSYNC and SYNC travel on it. From the
// first byte of the replication stream on, what the node sends goes to the client as it is. What the
// client sends is a replica's REPLCONFs and empty lines. Any other command ends it: the node would
// run what berth refuses. The user's rights are the node's to judge: the connection has logged in as
// the user.
//
//	node ─▶ read, a piece at a time ─▶ session.out ─▶ client    not read over maxUnread in out
//	node ◀─ written, a piece at a time ◀─ session.in ◀─ client  not read over maxUntaken in in
//
// Owned by the session's loop. Two goroutines use conn: one reads, one writes; each tells the loop
// when it has done so. It is a pool.Taker.
type tunnel struct {
	s       *session
	addr    string
	user    string // as whom the connection has logged in
	state   tunnelState
	lease   *pool.Lease
	waiter  *pool.Waiter
	err     error         // why there is no connection
	conn    net.Conn      // from tunnelQuiet on
	askedAt int64         // when the node was last asked something, unix nanoseconds
	request *request      // in tunnelAsked
	reply   []byte        // the beginning of its reply
	goesOn  chan struct{} // a word on it: read the next piece; closed: read no more
	isFull  bool          // the reader waits for the client to read
	writing bool          // a piece is on its way to the node
}

// tunnelState is where a tunnel is.
//
//	opening ─▶ quiet ⇄ asked ─▶ streaming
//	   │         └───────┴─────────┴──▶ closed
//	   └─▶ failed ─▶ closed
type tunnelState uint8

const (
	tunnelOpening   tunnelState = iota // the pool has no connection yet, or netpoll has not let go of it
	tunnelFailed                       // err says why
	tunnelQuiet                        // no reply is owed
	tunnelAsked                        // the reply to REPLCONF, PSYNC or SYNC is to come
	tunnelStreaming                    // bytes go both ways
	tunnelClosed
)

// tunnelMoves lists where each state leads.
var tunnelMoves = [...][]tunnelState{
	tunnelOpening:   {tunnelFailed, tunnelQuiet, tunnelClosed},
	tunnelFailed:    {tunnelClosed},
	tunnelQuiet:     {tunnelAsked, tunnelClosed},
	tunnelAsked:     {tunnelQuiet, tunnelStreaming, tunnelClosed},
	tunnelStreaming: {tunnelClosed},
	tunnelClosed:    {},
}

// move is the only write of a tunnel's state.
func (t *tunnel) move(to tunnelState) {
	if !slices.Contains(tunnelMoves[t.state], to) {
		panic(fmt.Sprintf("a tunnel went from state %d to %d", t.state, to))
	}
	t.state = to
}

// streams reports whether the client is a replica that a node speaks to.
func (t *tunnel) streams() bool { return t != nil && t.state == tunnelStreaming }

const (
	tunnelPiece  = 64 << 10 // bytes that are read from the node at once
	maxTunnelAsk = 64 << 10 // bytes of a reply that is one line
)

// replicate runs REPLCONF, PSYNC and SYNC.
func (s *session) replicate(cmd *router.Command, raw []byte, args [][]byte) bool {
	topology := s.loop.srv.nodes.Topology()
	shard, text := shardOf(topology, 0, s.id)
	switch {
	case s.loop.srv.sharded():
		return s.refuse(cmd, "ERR "+strings.ToUpper(cmd.Name)+" is not possible through berth over a Redis Cluster: "+
			"a replica follows one node, and berth stands for all of them")
	case s.sub != nil || s.tracking != nil:
		return s.refuse(cmd, "ERR berth: a client that is sent messages cannot be a replica")
	case text != "":
		return s.refuse(cmd, text)
	case s.waiting > 0:
		return s.hold(pauseDraining)
	}
	addr := topology.Shards()[shard].Primary
	if t := s.tunnel; t != nil && (t.addr != addr || t.user != s.pipes.Identity().User) {
		s.closeTunnel("another node or user")
	}
	if s.tunnel == nil {
		s.openTunnel(addr)
	}
	t := s.tunnel
	switch {
	case t.state == tunnelFailed:
		s.closeTunnel("failed")
		return s.refuse(cmd, s.noLease(addr, t.err))
	case t.state == tunnelOpening:
		return s.hold(pauseLeasing)
	case t.writing:
		return s.hold(pauseReplicating)
	}
	if !isSilent(args) || cmd.Is(router.BeginsStream) {
		t.move(tunnelAsked)
		t.askedAt = s.loop.clock
		t.request = s.newRequest(cmd)
		s.pauseFor(pauseReplicating)
	}
	t.send(withoutAddress(raw, args))
	return true
}

// withoutAddress returns a REPLCONF in which the client does not say where it can be reached: berth would
// take that for a replica that may be read, and tell it passwords. A node refuses a port that is no
// number.
func withoutAddress(raw []byte, args [][]byte) []byte {
	if !namesAddress(args) {
		return raw
	}
	args = slices.Clone(args)
	for i := 1; i+1 < len(args); i += 2 {
		_, err := strconv.ParseInt(string(args[i+1]), 10, 64)
		switch {
		case bytes.EqualFold(args[i], []byte("listening-port")) && err == nil:
			args[i+1] = []byte("0")
		case bytes.EqualFold(args[i], []byte("ip-address")):
			args[i+1] = nil
		}
	}
	return codec.AppendCommand(nil, args...)
}

// namesAddress reports whether a REPLCONF says where its client can be reached.
func namesAddress(args [][]byte) bool {
	return slices.ContainsFunc(args, func(word []byte) bool {
		return bytes.EqualFold(word, []byte("listening-port")) || bytes.EqualFold(word, []byte("ip-address"))
	})
}

// isSilent reports whether a node answers nothing to a REPLCONF, unless it is wrong: a node that
// the client does not follow takes no notice of an ACK.
func isSilent(args [][]byte) bool {
	for i := 1; i < len(args); i += 2 {
		if word := string(args[i]); strings.EqualFold(word, "ack") || strings.EqualFold(word, "getack") {
			return true
		}
	}
	return false
}

// openTunnel asks the pool for a connection.
func (s *session) openTunnel(addr string) {
	id := s.loop.srv.asUser(s.pipes.Identity())
	t := &tunnel{s: s, addr: addr, user: id.User, goesOn: make(chan struct{}, 1)}
	s.tunnel = t
	if t.lease, t.waiter = s.loop.srv.pools.For(addr, id).Get(t, s.loop.inbox, id, pool.ReasonPin); t.lease != nil {
		t.clean()
	}
}

// clean has the pool undo what an earlier holder has left on the connection. When the node has
// answered, nothing is on the way.
func (t *tunnel) clean() {
	t.lease.Mark(pool.DirtOther)
	t.lease.Send(pingCommand, 1)
	t.lease.Flush()
	t.askedAt = t.s.loop.clock
}

// Owner is where the client is.
func (t *tunnel) Owner() netip.Addr { return backend.HostOf(t.s.conn.RemoteAddr()) }

// Attached is the pool's late answer.
func (t *tunnel) Attached(l *pool.Lease, err error) {
	t.lease, t.waiter = l, nil
	if err != nil {
		t.fail(err)
		return
	}
	t.clean()
}

// LeaseReply takes the reply to PING: it does not matter which.
func (t *tunnel) LeaseReply(l *pool.Lease, _ []byte) {
	if err := l.Take(); err != nil {
		l.Close("lost")
		t.fail(err)
	}
}

// LeaseTaken has the connection. The node is read from now on, so that its end is seen.
func (t *tunnel) LeaseTaken(l *pool.Lease, conn net.Conn, err error) {
	if err != nil {
		l.Close("lost")
		t.fail(err)
		return
	}
	t.conn = conn
	t.move(tunnelQuiet)
	go t.read(conn, t.s.loop)
	t.s.resumeFrom(pauseLeasing)
}

// LeaseLost says that there is no connection after all.
func (t *tunnel) LeaseLost(_ *pool.Lease, err error) { t.fail(err) }

// fail has the request that waits for the connection refused.
func (t *tunnel) fail(err error) {
	t.lease, t.err = nil, err
	t.move(tunnelFailed)
	t.s.resumeFrom(pauseLeasing)
}

// read reads the node, in a goroutine of its own: one piece, and the next one when the loop says
// so.
func (t *tunnel) read(conn net.Conn, l *loop) {
	piece := make([]byte, tunnelPiece)
	for {
		n, err := conn.Read(piece)
		if n > 0 {
			l.Post(func() { t.arrived(piece[:n]) })
			if _, goesOn := <-t.goesOn; !goesOn {
				return
			}
		}
		if err != nil {
			l.Post(func() { t.lost(err) })
			return
		}
	}
}

// arrived takes a piece of what the node says.
func (t *tunnel) arrived(b []byte) {
	s := t.s
	if t.state == tunnelClosed {
		return
	}
	if t.state == tunnelAsked {
		b = t.answer(b)
	}
	if len(b) > 0 {
		s.write(b)
	}
	if t.isFull = true; t.state != tunnelClosed {
		t.goOn()
	}
}

// goOn has the next piece read, if the client has read most of what it was sent. Otherwise the loop
// looks again.
func (t *tunnel) goOn() {
	switch {
	case t == nil || !t.isFull || t.state == tunnelClosed:
	case t.s.hasRoom():
		t.isFull = false
		t.goesOn <- struct{}{} // has room: the reader waits
	default:
		t.s.loop.slowReaders.watch(t.s)
	}
}

// answer takes bytes while a reply is owed, and returns those that are none of it. An error, and
// the reply to REPLCONF, is one line. Anything else begins the stream. A node that prepares one
// says empty lines.
func (t *tunnel) answer(b []byte) (rest []byte) {
	t.reply = append(t.reply, b...)
	said := bytes.TrimLeft(t.reply, "\n")
	if blank := len(t.reply) - len(said); blank > 0 {
		t.s.write(t.reply[:blank])
		t.reply = said
	}
	if len(said) == 0 {
		return nil
	}
	if said[0] != '-' && t.request.cmd.Is(router.BeginsStream) {
		t.request.mute = false
		t.finish(tunnelStreaming, said)
		t.take()
		return nil
	}
	end := bytes.IndexByte(said, '\n') + 1
	if end == 0 {
		if len(said) > maxTunnelAsk {
			t.s.kill(telemetry.ReplicationLost)
		}
		return nil
	}
	t.finish(tunnelQuiet, said[:end])
	t.s.resumeFrom(pauseReplicating)
	return said[end:]
}

// finish ends the request under way.
func (t *tunnel) finish(to tunnelState, reply []byte) {
	r := t.request
	t.request, t.reply = nil, nil
	t.move(to)
	r.done(reply)
}

// take sends the node what the client of a stream has sent.
func (t *tunnel) take() {
	if !t.streams() || t.writing || t.s.inPos == len(t.s.in) {
		return
	}
	s := t.s
	n, ok := t.relayed(s.in[s.inPos:])
	if !ok || len(s.in)-s.inPos-n > maxTunnelAsk {
		s.kill(telemetry.ReplicaCommand)
		return
	}
	if n > 0 {
		t.send(s.in[s.inPos : s.inPos+n])
	}
	if s.inPos += n; s.inPos == len(s.in) {
		s.loop.drop(s.in)
		s.in, s.inPos = nil, 0
	}
}

// relayed reports how many bytes are whole lines and commands of a replica, and whether that is all
// there is.
func (t *tunnel) relayed(b []byte) (n int, ok bool) {
	p := t.s.loop.parser()
	defer t.s.loop.dropParser(p)
	for n < len(b) {
		if b[n] == '\n' {
			n++
			continue
		}
		p.Reset()
		size, err := p.ParseAll(b[n:], t.s.loop.srv.limits(true))
		args := p.Args()
		switch {
		case err == nil && size == 0:
			return n, true
		case err != nil, len(args) > 0 && (!bytes.EqualFold(args[0], []byte("replconf")) || namesAddress(args)):
			return n, false
		}
		n += size
	}
	return n, true
}

// send writes to the node, off the loop. No other piece may be on its way.
func (t *tunnel) send(b []byte) {
	piece, conn, l := bytes.Clone(b), t.conn, t.s.loop
	t.writing = true
	gopool.Go(func() {
		_, _ = conn.Write(piece) // a failure ends the reader as well
		l.Post(t.sent)
	})
}

// sent has the next piece written.
func (t *tunnel) sent() {
	t.writing = false
	switch t.state {
	case tunnelStreaming:
		t.take()
		t.s.steerReading()
	case tunnelQuiet:
		t.s.resumeFrom(pauseReplicating)
	}
}

// lost says that the node has closed the connection. The client's ends as well, once all that came
// is with the client: it would have ended without berth.
func (t *tunnel) lost(err error) {
	s := t.s
	if t.state == tunnelClosed {
		return
	}
	if t.state == tunnelAsked {
		t.finish(tunnelQuiet, codec.AppendError(nil, "ERR berth: connection to "+t.addr+" lost ("+err.Error()+"), command may have been executed"))
	}
	s.end(telemetry.ReplicationLost, "node", t.addr, "error", err)
	s.closeTunnel("lost")
}

// check gives up a node that is silent. To PSYNC it may say nothing for as long as it likes: it
// prepares a copy of its data.
func (t *tunnel) check(patience time.Duration) {
	switch {
	case t == nil || patience == 0 || time.Duration(t.s.loop.clock-t.askedAt) <= patience:
	case t.state == tunnelOpening && t.lease != nil:
		t.lease.Close("backend-timeout-ms")
		t.fail(errNoReply)
	case t.state == tunnelAsked && !t.request.cmd.Is(router.BeginsStream):
		t.lost(errNoReply)
	}
}

// closeTunnel closes the client's connection to the node, if there is one.
func (s *session) closeTunnel(why string) {
	t := s.tunnel
	if t == nil {
		return
	}
	s.tunnel = nil
	t.move(tunnelClosed)
	close(t.goesOn)
	if t.waiter != nil {
		t.waiter.Cancel()
	}
	if t.conn != nil {
		_ = t.conn.Close() // ends the reader and the writer
	}
	if t.lease != nil {
		t.lease.Close(why)
	}
}
