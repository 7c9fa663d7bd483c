package main

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"net"
	"strconv"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// blocking is a blocking command as it is shared by those who wait with it. Immutable once it has joined a group.
type blocking struct {
	signature string // clients with the same one are a group
	identity  backend.Identity
	cmd       *router.Command
	words     [][]byte
	timeout   int           // position of the timeout among the words
	unit      time.Duration // of the timeout
	opaque    bool          // the timeout, if there is any, is none that berth understands: the node's matter
	broadcast bool          // a reply takes nothing away: all may have it
	slot      int
	client    int64 // whose command made the group: it chooses the shard of a command without keys
}

// waiter is one client's blocking command. Its home, the loop of its group, decides what it gets.
//
//	session's loop ─join─▶ home ─deliver─▶ session's loop ─▶ client
//	             └─withdraw─▶            └─ client gone: returned ─▶ home
type waiter struct {
	*blocking
	home     *loop
	from     *loop // the session's
	client   int64
	addr     net.Addr // the client's
	name     string
	since    int64 // unix nanoseconds
	deadline int64 // 0: it waits for ever

	// owned by the session's loop
	s      *session
	r      *request // nil: the client has left, or has its reply
	joined bool

	// owned by home
	g          *group // nil: it has been answered or has left
	prev, next *waiter
	timer      *time.Timer
	late       bool // its time is up
}

// block has the client wait with others for the same elements. While it watches or tracks keys, and when it keeps its
// connections, the command goes on its own.
func (s *session) block(cmd *router.Command, raw []byte, args [][]byte) bool {
	cfg := s.loop.srv.config()
	if s.stay != nil && s.stay.watching || s.tracking != nil || !cfg.PoolEnabled {
		return s.blockAlone(cmd, raw, args)
	}
	t := s.loop.srv.nodes.Topology()
	shard, text := s.place(t, cmd, args)
	if text != "" {
		return s.refuse(cmd, text)
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	s.side, s.topology = onLease, t
	w := s.newWaiter(cmd, args)
	if t.Sharded() {
		w.slot = s.slotOf(cmd, args)
	}
	w.r = s.newRequest(cmd)
	s.blocked = w
	s.pauseFor(pauseBlocked)
	if cmd.Is(router.Broadcast) {
		last := &lastEntries{s: s, ids: map[int]string{}, done: w.pinned}
		if last.ask(t.Shards()[shard].Primary, cmd, w.words); last.asked > 0 {
			return true
		}
	}
	w.join()
	return true
}

// newWaiter reads what a client asks for.
func (s *session) newWaiter(cmd *router.Command, args [][]byte) *waiter {
	b := &blocking{cmd: cmd, identity: s.pipes.Identity(), client: s.id, broadcast: cmd.Is(router.Broadcast)}
	b.words = make([][]byte, len(args))
	size := 0
	for _, a := range args {
		size += len(a)
	}
	bytes := make([]byte, 0, size)
	for i, a := range args {
		bytes = append(bytes, a...)
		b.words[i] = bytes[len(bytes)-len(a) : len(bytes) : len(bytes)]
	}
	w := &waiter{
		blocking: b, s: s, from: s.loop, client: s.id, since: s.loop.clock,
		addr: s.conn.RemoteAddr(),
	}
	if s.label != nil {
		w.name = s.label.name
	}
	b.timeout, b.unit = cmd.BlockTimeout(args)
	asked, ok := time.Duration(0), false
	if b.timeout >= 0 {
		asked, ok = parseTimeout(args[b.timeout], b.unit)
	}
	b.opaque = !ok
	if asked > 0 {
		w.deadline = w.since + int64(asked)
	}
	return w
}

// maxTimeout keeps deadlines within what time can count; a longer wait is the node's matter.
const maxTimeout = 50 * 365 * 24 * time.Hour

// parseTimeout reads a timeout more strictly than Redis does; what it does not take is left to the node.
func parseTimeout(text []byte, unit time.Duration) (d time.Duration, ok bool) {
	for i, c := range text {
		if (c < '0' || c > '9') && (c != '.' || unit != time.Second || i == 0 || i == len(text)-1) {
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil || v*float64(unit) > float64(maxTimeout) {
		return 0, false
	}
	d = time.Duration(v * float64(unit))
	if v > 0 {
		d = max(d, time.Millisecond)
	}
	return d, true
}

// pinned goes on when the nodes have said what `$` stands for.
func (w *waiter) pinned(ids map[int]string) {
	if w.r == nil { // the client has left
		return
	}
	for at, id := range ids {
		w.words[at] = []byte(id)
	}
	w.join()
}

// join takes the waiter to the group of its command, which may be another loop's.
func (w *waiter) join() {
	srv := w.from.srv
	w.joined = true
	w.home = w.from
	if w.sharable() {
		w.signature = w.sign()
		w.home = srv.homeOf(w.signature)
	} else { // a group that nobody else finds
		w.signature = "alone " + strconv.FormatInt(srv.loners.Add(1), 10)
	}
	if w.home == w.from {
		w.home.joinGroup(w)
		return
	}
	w.home.Post(func() { w.home.joinGroup(w) })
}

// sharable tells whether others may wait with the same command.
func (w *waiter) sharable() bool {
	if w.opaque || w.cmd.Is(router.Personal) || !w.from.srv.config().BlockingShare {
		return false
	}
	if w.broadcast { // `$` is another entry for each of them
		for _, word := range w.words {
			if len(word) == 1 && word[0] == '$' {
				return false
			}
		}
	}
	return true
}

// sign makes the signature: all that decides what the command gets, but for its timeout.
func (w *waiter) sign() string {
	id := w.identity
	b := make([]byte, 0, 128)
	for _, word := range []string{id.User, id.Password, w.cmd.Name} {
		b = binary.AppendUvarint(b, uint64(len(word)))
		b = append(b, word...)
	}
	b = binary.AppendUvarint(b, uint64(id.DB))
	b = binary.AppendUvarint(b, uint64(id.RESP))
	for i, word := range w.words[1:] {
		if i+1 == w.timeout {
			word = nil
		}
		b = binary.AppendUvarint(b, uint64(len(word)))
		b = append(b, word...)
	}
	return string(b)
}

var homeSeed = maphash.MakeSeed()

// homeOf is the loop on which the clients of a signature meet.
func (srv *server) homeOf(signature string) *loop {
	homes := *srv.homes.Load()
	return homes[maphash.String(homeSeed, signature)%uint64(len(homes))]
}

// asUser is the identity of the pipes on which berth itself asks a node something in a user's name.
func (srv *server) asUser(id backend.Identity) backend.Identity {
	return backend.Identity{User: id.User, Password: id.Password, DB: srv.nodes.Target().DB, RESP: 2}
}

// appendCommand appends the command with what is left of the time until a deadline; 0: it waits for ever.
func (b *blocking) appendCommand(dst []byte, until, now int64) []byte {
	dst = codec.AppendArray(dst, len(b.words))
	for i, word := range b.words {
		if i != b.timeout || b.opaque {
			dst = codec.AppendBulk(dst, word)
			continue
		}
		millis := int64(0)
		if until != 0 {
			millis = max(1, (until-now+int64(time.Millisecond)-1)/int64(time.Millisecond))
		}
		if b.unit == time.Millisecond {
			dst = codec.AppendBulkString(dst, strconv.FormatInt(millis, 10))
		} else {
			dst = codec.AppendBulkString(dst, strconv.FormatFloat(float64(millis)/1000, 'f', -1, 64))
		}
	}
	return dst
}

// timedOut is the reply to a client whose time is up.
func (w *waiter) timedOut() []byte { return codec.AppendNullArray(nil, w.identity.RESP) }

// deliver takes a reply to the waiter's session. On home; g was its group.
func (w *waiter) deliver(g *group, reply []byte) {
	if w.from == g.l {
		w.receive(reply)
		return
	}
	reply = bytes.Clone(reply)
	w.from.Post(func() { w.receive(reply) })
}

// receive ends the command with its reply. On the session's loop. An element whose client has left meanwhile goes back to
// those who still wait for it.
func (w *waiter) receive(reply []byte) {
	r := w.r
	if r != nil {
		w.r, w.s.blocked = nil, nil
		r.done(reply)
		return
	}
	if reply[0] != '-' && !isNil(reply) && !w.broadcast {
		w.home.Post(func() { w.home.returned(w.blocking, reply) })
	}
}

// leaveGroup ends the blocking command of a client that is gone.
func (s *session) leaveGroup() {
	w := s.blocked
	if w == nil {
		return
	}
	s.blocked = nil
	s.loop.dropRequest(w.r)
	w.r = nil
	switch {
	case !w.joined:
	case w.home == w.from:
		w.home.withdraw(w)
	default:
		w.home.Post(func() { w.home.withdraw(w) })
	}
}

// shortened is a blocking request with its timeout reduced by what has passed: however often it is redirected, the client
// waits no longer than it asked for. What cannot be reduced is returned as it is.
func (s *session) shortened(r *request) []byte {
	l := s.loop
	p := l.parser()
	defer l.dropParser(p)
	if n, err := p.ParseAll(r.sent, l.srv.limits(true)); n == 0 || err != nil {
		return r.sent
	}
	args := p.Args()
	at, unit := r.cmd.BlockTimeout(args)
	if at < 0 {
		return r.sent
	}
	asked, err := strconv.ParseFloat(string(args[at]), 64)
	if err != nil || asked <= 0 { // 0: for ever
		return r.sent
	}
	left := max(asked-float64(l.clock-r.start)/float64(unit), float64(time.Millisecond)/float64(unit))
	changed := make([][]byte, len(args))
	copy(changed, args)
	if unit == time.Millisecond {
		changed[at] = strconv.AppendInt(nil, int64(left), 10)
	} else {
		changed[at] = strconv.AppendFloat(nil, left, 'f', 3, 64)
	}
	return codec.AppendCommand(nil, changed...)
}
