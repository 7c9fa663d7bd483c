package lane

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// command is a blocking command as it is shared by those who wait with it. Immutable once it has
// joined a group.
type command struct {
	signature string // clients with the same one are a group
	identity  backend.Identity
	cmd       *router.Command
	words     [][]byte
	timeout   router.Timeout
	slot      int
	client    int64 // whose command made the group: it chooses the shard of a command without keys
	dbs       int   // how many changes of Lanes.dbs identity has seen
}

// Waiter is one client's blocking command. Its home, the loop of its group, decides what it gets.
//
//	client's loop ─Join─▶ home ─deliver─▶ client's loop ─▶ Answer
//	            └─Leave─▶            └─ client gone: returned ─▶ home
type Waiter struct {
	*command
	home     *Lanes
	from     *Lanes // the client's
	id       int64
	addr     net.Addr // the client's
	name     string
	since    int64 // when the client began to wait, unix nanoseconds
	again    bool  // it has waited before: see Again
	deadline int64 // unix nanoseconds; 0: it waits for ever

	// owned by the client's loop
	client Client // nil: it has left, or has its reply
	joined bool

	// owned by home
	g          *group // nil: it has been answered or has left
	prev, next *Waiter
	timer      *time.Timer
	late       bool // its time is up
}

// LogValue is the client in a line of a log, as attributes of the line itself.
func (w *Waiter) LogValue() slog.Value {
	attrs := []slog.Attr{slog.Any("addr", w.addr), slog.Int64("id", w.id), slog.String("user", cmp.Or(w.identity.User, "default"))}
	if w.name != "" {
		attrs = append(attrs, slog.String("name", w.name))
	}
	return slog.GroupValue(append(attrs, slog.String("cmd", w.cmd.Name))...)
}

// Asker is who asks for a Waiter.
type Asker struct {
	Client
	ID       int64
	Addr     net.Addr
	Name     string
	Identity backend.Identity
	Slot     int // of the command's keys, which counts over a Cluster; below 0: they have none in common
}

// NewWaiter reads what a client asks for. The words are copied.
func (ls *Lanes) NewWaiter(by Asker, cmd *router.Command, args [][]byte) *Waiter {
	c := &command{cmd: cmd, identity: by.Identity, client: by.ID, slot: by.Slot, dbs: len(ls.dbs)}
	c.words = make([][]byte, len(args))
	size := 0
	for _, a := range args {
		size += len(a)
	}
	bytes := make([]byte, 0, size)
	for i, a := range args {
		bytes = append(bytes, a...)
		c.words[i] = bytes[len(bytes)-len(a) : len(bytes) : len(bytes)]
	}
	c.timeout, _ = cmd.Timeout(args)
	w := &Waiter{command: c, from: ls, id: by.ID, addr: by.Addr, name: by.Name, client: by.Client, since: ls.loop.Now()}
	if c.timeout.Asked > 0 {
		w.deadline = ls.loop.Now() + int64(c.timeout.Asked)
	}
	return w
}

// Again returns a Waiter for the same command, with the time that is left and the client's place among
// others, for a client that has left and goes on as another identity.
func (w *Waiter) Again(by Asker) *Waiter {
	c := *w.command
	c.signature, c.identity, c.dbs = "", by.Identity, len(w.from.dbs)
	return &Waiter{command: &c, from: w.from, id: by.ID, addr: by.Addr, name: by.Name, client: by.Client,
		since: w.since, again: true, deadline: w.deadline}
}

// Words are the command's. A caller may replace one before Join.
func (w *Waiter) Words() [][]byte { return w.words }

// Slot is that of the command's keys.
func (w *Waiter) Slot() int { return w.slot }

// Waits reports whether the client is there and has no reply yet.
func (w *Waiter) Waits() bool { return w.client != nil }

// Join takes the waiter to the group of its command, which may be another loop's.
func (w *Waiter) Join() {
	sh := w.from.shared
	w.joined = true
	w.home = w.from
	if w.sharable() {
		w.signature = w.sign()
		w.home = sh.homeOf(w.signature)
	} else { // a group that nobody else finds
		w.signature = "alone " + strconv.FormatInt(sh.loners.Add(1), 10)
	}
	if w.home == w.from {
		w.home.join(w)
		return
	}
	w.home.loop.Post(func() { w.home.join(w) })
}

// EndWait answers the client as its timeout would, or with an error, unless it has its reply already. It
// returns false if the client waits for nothing yet. On the client's loop.
func (w *Waiter) EndWait(withError bool) bool {
	switch {
	case !w.joined:
		return false
	case w.home == w.from:
		return w.home.Unblock(w.id, withError)
	}
	w.home.loop.Post(func() { w.home.Unblock(w.id, withError) })
	return true
}

// sharable reports whether others may wait with the same command.
func (w *Waiter) sharable() bool {
	if w.timeout.Opaque || w.cmd.Is(router.Personal) || !w.from.shared.Settings().Share {
		return false
	}
	if w.cmd.Is(router.Broadcast) { // `$` is another entry for each of them
		for _, word := range w.words {
			if len(word) == 1 && word[0] == '$' {
				return false
			}
		}
	}
	return true
}

// sign makes the signature: all that decides what the command gets, but for its timeout.
func (w *Waiter) sign() string {
	id := w.identity
	b := make([]byte, 0, 128)
	for _, word := range []string{id.User, w.cmd.Name} {
		b = binary.AppendUvarint(b, uint64(len(word)))
		b = append(b, word...)
	}
	b = binary.AppendUvarint(b, uint64(id.Credential))
	b = binary.AppendUvarint(b, uint64(id.DB))
	b = binary.AppendUvarint(b, uint64(id.RESP))
	for i, word := range w.words[1:] {
		if i+1 == w.timeout.Arg {
			word = nil
		}
		b = binary.AppendUvarint(b, uint64(len(word)))
		b = append(b, word...)
	}
	return string(b)
}

// appendRefused appends the command with a timeout that is none. Its user may run it, and a node refuses
// it before it does anything.
func (c *command) appendRefused(dst []byte) []byte {
	dst = codec.AppendArray(dst, len(c.words))
	for i, word := range c.words {
		if i == c.timeout.Arg {
			word = []byte("none")
		}
		dst = codec.AppendBulk(dst, word)
	}
	return dst
}

// append appends the command. Its timeout is the time left until a deadline; 0: for ever.
func (c *command) append(dst []byte, until, now int64) []byte {
	dst = codec.AppendArray(dst, len(c.words))
	for i, word := range c.words {
		switch {
		case i != c.timeout.Arg || c.timeout.Opaque:
			dst = codec.AppendBulk(dst, word)
		case until == 0:
			dst = codec.AppendBulkString(dst, "0")
		default:
			var text [32]byte
			dst = codec.AppendBulk(dst, c.timeout.AppendLeft(text[:0], time.Duration(until-now)))
		}
	}
	return dst
}

// timedOut is the reply to a client whose time is up.
func (w *Waiter) timedOut() []byte { return codec.AppendNullArray(nil, w.identity.RESP) }

// deliver takes a reply to the client. On home.
func (w *Waiter) deliver(reply []byte) {
	if w.from == w.home {
		w.receive(reply)
		return
	}
	reply = bytes.Clone(reply)
	w.from.loop.Post(func() { w.receive(reply) })
}

// receive ends the command with its reply. On the client's loop. An element whose client has left
// meanwhile goes back to those who still wait for it.
func (w *Waiter) receive(reply []byte) {
	if c := w.client; c != nil {
		w.client = nil
		c.Answer(reply)
		return
	}
	if reply[0] != '-' && !isNil(reply) && !w.cmd.Is(router.Broadcast) {
		w.home.loop.Post(func() { w.home.returned(w.command, reply) })
	}
}

// Leave ends the command of a client that is gone, and returns the client; nil: it has had its
// reply.
func (w *Waiter) Leave() Client {
	c := w.client
	w.client = nil
	switch {
	case !w.joined:
	case w.home == w.from:
		w.home.withdraw(w)
	default:
		w.home.loop.Post(func() { w.home.withdraw(w) })
	}
	return c
}
