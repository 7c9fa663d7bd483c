package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/berth-proxy/berth/router"
)

// What MONITOR shows: the node's lines, without what berth has asked for itself, and a line for
// each command that berth answers itself, with the client's own address. A client's other commands
// have the address of the connection of berth that they travel on.

// monitors are the clients in MONITOR.
type monitors struct {
	n   atomic.Int32 // as many as there are in all: a loop that reads 0 takes no lock
	mu  sync.Mutex   // guards all, and the mail of each; a leaf
	all []*monitor
}

// monitor is a client in MONITOR. Its session belongs to its loop.
type monitor struct {
	s    *session
	mail []byte // lines that its loop has not taken yet
}

// Bounds of the lines that berth makes.
const (
	maxMonitored   = 64 << 10 // bytes of a command that are shown; a word counts as wordCost more
	wordCost       = 3        // of the blank and the quotes
	maxMonitorMail = 8 << 20  // bytes of lines that a loop may be behind; those over it are not shown
)

func (m *monitors) add(s *session) *monitor {
	m.mu.Lock()
	defer m.mu.Unlock()
	one := &monitor{s: s}
	m.all = append(m.all, one)
	m.n.Store(int32(len(m.all)))
	return one
}

func (m *monitors) remove(one *monitor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = slices.DeleteFunc(m.all, func(o *monitor) bool { return o == one })
	m.n.Store(int32(len(m.all)))
}

// tell gives a line to all.
func (m *monitors) tell(line []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.all {
		wakes := len(one.mail) == 0
		if len(one.mail)+len(line) <= maxMonitorMail {
			one.mail = append(one.mail, line...)
		}
		if wakes {
			one.s.loop.Post(func() { m.deliver(one) })
		}
	}
}

// deliver writes a monitor's mail. It runs on its loop.
func (m *monitors) deliver(one *monitor) {
	m.mu.Lock()
	mail := one.mail
	one.mail = nil
	m.mu.Unlock()
	if one.s.monitors() && one.s.sub.own.lease != nil { // after a move, when the new node has let it in
		one.s.write(mail)
	}
}

// showsItself reports whether berth shows the command to MONITOR, in place of the node: no node
// sees it, or it is one of those that berth says for itself.
func showsItself(cmd *router.Command) bool {
	return cmd.Way == router.Local || cmd.Is(router.Undoes)
}

// monitored shows a command that has just run to the clients in MONITOR.
func (s *session) monitored(cmd *router.Command, args [][]byte) {
	if !showsItself(cmd) || cmd.Flags.Has(router.Admin) || cmd.Flags.Has(router.SkipMonitor) {
		return
	}
	s.show(cmd, args)
}

// showUnsent shows the ends of a transaction of which no node has heard.
func (s *session) showUnsent(names ...string) {
	for _, name := range names {
		words := [][]byte{[]byte(name)}
		if cmd, err := router.Builtin().Lookup(words); err == nil {
			s.show(cmd, words)
		}
	}
}

// show shows a command to the clients in MONITOR.
func (s *session) show(cmd *router.Command, args [][]byte) {
	all := &s.loop.srv.monitors
	if all.n.Load() == 0 {
		return
	}
	from := s.remote().String()
	if path, unix := s.remote().(unixClient); unix {
		from = "unix:" + string(path)
	}
	micros := s.loop.clock / 1000
	line := fmt.Appendf(nil, "+%d.%06d [%d %s]", micros/1e6, micros%1e6, s.pipes.Identity().DB, from)
	secret := 0
	left := maxMonitored
	for _, word := range args {
		if left <= 0 {
			break
		}
		shown := word[:min(len(word), left)]
		left -= len(shown) + wordCost
		if secret > 0 {
			secret--
			line = append(line, ` "(redacted)"`...)
		} else {
			line = appendQuoted(append(line, ' '), shown)
		}
		if cmd.Flags.Has(router.NoAuth) && strings.EqualFold(string(word), "auth") { // AUTH, or HELLO's
			secret = 2
		}
	}
	all.tell(append(line, "\r\n"...))
}

// appendQuoted appends a word as Redis shows it.
func appendQuoted(dst, word []byte) []byte {
	dst = append(dst, '"')
	for _, c := range word {
		switch at := strings.IndexByte("\\\"\n\r\t\a\b", c); {
		case at >= 0:
			dst = append(dst, '\\', `\"nrtab`[at])
		case c < ' ' || c > '~':
			dst = append(dst, '\\', 'x', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// hides reports whether a line of the node is about a command of berth's own, or one that berth
// shows itself: +1339518083.107412 [0 127.0.0.1:60866] "ping". host is where berth's connections to
// the node come from.
func (srv *server) hides(line []byte, host netip.Addr) bool {
	head, command, ok := bytes.Cut(line, []byte(`] "`))
	_, from, also := bytes.Cut(head, []byte(" ["))
	_, from, _ = bytes.Cut(from, []byte(" "))
	if !ok || !also || !isFrom(string(from), host) {
		return false
	}
	words := bytes.SplitN(bytes.TrimRight(command, "\"\r\n"), []byte(`" "`), 3)
	if bytes.EqualFold(words[0], []byte("SPUBLISH")) { // WAIT's
		return len(words) > 1 && bytes.HasPrefix(words[1], []byte(waitChannel))
	}
	cmd, err := srv.table().Lookup(words)
	return err == nil && cmd != nil && showsItself(cmd)
}

// isFrom reports whether an address of the node's line is of a host; no host: of this machine, by a
// unix socket.
func isFrom(addr string, host netip.Addr) bool {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return !host.IsValid() && strings.HasPrefix(addr, "unix:")
	}
	return at.Addr().Unmap() == host.Unmap()
}
