package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

func clientInfo(s *session, args [][]byte, out []byte) []byte {
	return codec.AppendVerbatim(out, "txt", string(s.appendLine(nil, s.loop.srv.lineFields(), sizesOf(args))), s.resp())
}

// clientLine is a client as CLIENT LIST shows it.
type clientLine struct {
	id   int64
	text []byte
}

// clientList shows the clients of all loops, in the order in which they came, or in Redis those of
// the given numbers in the given order. How many clients there are others decide: they are visited
// in slices.
func clientList(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	options, own, resp := &clientOptions{}, sizesOf(args), s.resp()
	return options.read(s, cmd, raw, func(r *request) {
		list := &listing{r: r, filter: options.filter, ids: options.order, own: own, resp: resp}
		list.ask()
	})
}

// listing is a CLIENT LIST on its way.
type listing struct {
	r      *request
	filter clientFilter
	ids    []int64 // in the client's order, in which the lines are wanted; nil: the order of the clients
	own    sizes
	resp   int
}

// ask has all loops write the lines of their clients.
func (list *listing) ask() {
	s := list.r.s
	fields := s.loop.srv.lineFields()
	askEverySession(list.r, func(c *session) (line clientLine, wanted bool) {
		if !list.filter.admits(c) {
			return line, false
		}
		asks := sizes{}
		if c == s {
			asks = list.own
		}
		return clientLine{c.id, c.appendLine(nil, fields, asks)}, true
	}, list.reply)
}

// reply puts the lines together.
func (list *listing) reply(lines []clientLine) []byte {
	slices.SortFunc(lines, func(a, b clientLine) int { return cmp.Compare(a.id, b.id) })
	if list.ids != nil {
		lines = pickLines(lines, list.ids)
	}
	var text strings.Builder
	for _, line := range lines {
		if text.Len() > maxAside {
			return codec.AppendError(nil, errTooLong)
		}
		text.Write(line.text)
	}
	return codec.AppendVerbatim(nil, "txt", text.String(), list.resp)
}

// pickLines returns the lines of those of ids that there are, a line as often as its number.
func pickLines(sorted []clientLine, ids []int64) (picked []clientLine) {
	for _, id := range ids {
		i, found := slices.BinarySearchFunc(sorted, id, func(line clientLine, id int64) int { return cmp.Compare(line.id, id) })
		if found {
			picked = append(picked, sorted[i])
		}
	}
	return picked
}

// sizes are those of the request by which a client asks for its line, which Redis counts in.
type sizes struct{ request, words int }

func sizesOf(args [][]byte) (z sizes) {
	for _, a := range args {
		z.words += len(a)
	}
	z.request = len(codec.AppendCommand(nil, args...))
	return z
}

// lineFields says which fields a line has beyond those of Redis 7.0.
type lineFields struct {
	capa    bool // Valkey 8.1
	watch   bool // Redis 7.4, Valkey 8.0
	library bool // Redis 7.2
	traffic bool // Valkey 8.0, whose clients share the buffer that a request is read into
	thread  bool // Redis 8.0
}

// lineFields returns the fields that the nodes have.
func (srv *server) lineFields() lineFields {
	valkey := srv.nodes.Info().Product == "valkey"
	return lineFields{
		capa: srv.isValkeySince(8, 1), traffic: srv.isValkeySince(8, 0),
		watch:   srv.clientOptions() >= agedOptions, // which came with it
		library: srv.table().Find("client|setinfo") != nil,
		thread:  !valkey && !srv.isBefore(8, 0),
	}
}

// appendLine appends the client's line, in the fields of the nodes. What a node would count and
// berth does not have is 0.
func (s *session) appendLine(dst []byte, fields lineFields, asks sizes) []byte {
	var name label
	if s.label != nil {
		name = *s.label
	}
	queued, queuedBytes := -1, 0
	if s.txn != nil {
		queued, queuedBytes = s.txn.n, len(s.txn.bytes)
	}
	last := "NULL"
	switch {
	case s.execReply != nil: // it runs what EXEC has brought, whatever the client has sent after it
		queued, last = s.execReply.n, s.execReply.r.cmd.Name
	case s.lastCmd != nil:
		last = s.lastCmd.Name
	}
	if fields.traffic {
		asks.request = 0
	}
	unread := s.conn.OutboundBuffered()
	events := "r"
	if unread > 0 {
		events = "rw"
	}
	id := s.pipes.Identity()
	redirect := -1
	if s.tracking != nil {
		redirect = int(s.tracking.redirect)
	}
	remote, local := s.addresses()
	memory := int(unsafe.Sizeof(*s)) + cap(s.in) + cap(s.out) + unread + queuedBytes
	dst = fmt.Appendf(dst, "id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s",
		s.id, remote, local, s.conn.Fd(), name.name, (s.loop.clock-s.born)/int64(time.Second), (s.loop.clock-s.lastHeard)/int64(time.Second), s.flags())
	if fields.capa {
		dst = append(append(dst, " capa="...), s.capabilities()...)
	}
	dst = fmt.Appendf(dst, " db=%d sub=%d psub=%d ssub=%d multi=%d", id.DB, s.subscriptions(feed.PlainChannel),
		s.subscriptions(feed.PatternChannel), s.subscriptions(feed.ShardChannel), queued)
	if fields.watch {
		dst = append(dst, " watch=0"...)
	}
	dst = fmt.Appendf(dst, " qbuf=%d qbuf-free=%d argv-mem=%d multi-mem=%d rbs=%d rbp=%d obl=%d oll=0 omem=%d tot-mem=%d events=%s "+
		"cmd=%s user=%s redir=%d resp=%d", asks.request+len(s.in)-s.inPos, cap(s.in)-len(s.in), asks.words, queuedBytes,
		cap(s.out), len(s.out), unread, unread, memory, events, last, s.user(), redirect, id.RESP)
	if fields.library {
		dst = fmt.Appendf(dst, " lib-name=%s lib-ver=%s", name.libName, name.libVer)
	}
	if fields.traffic {
		dst = append(dst, " tot-net-in=0 tot-net-out=0 tot-cmds=0"...)
	}
	if fields.thread {
		dst = append(dst, " io-thread=0"...)
	}
	return append(dst, '\n')
}

// capabilities are the letters of CLIENT LIST for what the client has said with CLIENT CAPA.
func (s *session) capabilities() string {
	if s.redirects {
		return "r"
	}
	return ""
}

// flags are the letters of CLIENT LIST for what the client is in the middle of.
func (s *session) flags() string {
	_, unix := s.remote().(unixClient)
	var b []byte
	for _, f := range []struct {
		letter byte
		holds  bool
	}{
		{'O', s.monitors()},
		{'S', s.tunnel.streams()},
		{'P', s.subscribed()},
		{'x', s.txn != nil || s.execReply != nil},
		{'b', s.pause == pauseBlocked || s.pause == pauseGated},
		{'t', s.tracking != nil},
		{'R', s.tracking != nil && s.tracking.broken},
		{'B', s.tracking != nil && s.tracking.bcast},
		{'d', s.stay != nil && s.stay.broken},
		{'c', s.closing},
		{'U', unix},
		{'r', s.readonly},
		{'e', s.noEvict},
		{'T', s.noTouch},
	} {
		if f.holds {
			b = append(b, f.letter)
		}
	}
	if b == nil {
		return "N"
	}
	return string(b)
}
