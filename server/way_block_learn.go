package main

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/router"
)

// A module's command may be answered by a thread of the module, which COMMAND need not say. On a pipe
// the replies of other clients wait for its reply. So a command that only the nodes know travels on
// leases once a reply of it has held up a pipe, as a blocking command does:
//
//	shared ──a reply holds up a pipe──▶ on leases ──no slow reply for slowMemory──▶ shared
//
// lease-commands says for some commands that they travel on leases, or on pipes, whatever happens.

const (
	slowMemory   = 10 * time.Minute // how long a slow reply is remembered
	maxSlowNames = 256              // commands remembered; further ones stay on pipes
)

// commandBook is the commands that berth knows, and which of them travel on leases because they are
// slow. Safe for any goroutine.
type commandBook struct {
	current atomic.Pointer[router.Table] // the table that sessions use; stored under mu, read without

	mu    sync.Mutex       // guards what follows
	known *router.Table    // as the nodes tell of it
	named map[string]bool  // lease-commands
	slow  map[string]int64 // by name: when a slow reply came last, unix nanoseconds
}

// leased reports whether a command travels on leases, if anything is said of it. What lease-commands
// says of a container holds for its subcommands. The caller holds mu.
func (b *commandBook) leased(cmd *router.Command) (leased, named bool) {
	for c := cmd; c != nil; c = c.Container() {
		if leased, named = b.named[c.Name]; named {
			return leased, true
		}
	}
	_, slow := b.slow[cmd.Name]
	return slow, slow
}

// set makes the table that sessions use. The caller holds mu.
func (b *commandBook) set() {
	table := b.known
	if len(b.named) > 0 || len(b.slow) > 0 {
		table = table.Moved(b.leased)
	}
	b.current.Store(table)
}

// begin enters the commands that berth knows itself.
func (b *commandBook) begin(table *router.Table, named map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known, b.named, b.slow = table, named, map[string]int64{}
	b.set()
}

// learn adds the commands of a node's reply to COMMAND.
func (b *commandBook) learn(reply []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	table, err := b.known.With(reply)
	if err != nil {
		return err
	}
	b.known = table
	b.set()
	return nil
}

// name enters lease-commands.
func (b *commandBook) name(named map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.named = named
	b.set()
}

// heldUp has the command travel on leases from now on, because a reply of it has held up a pipe.
func (b *commandBook) heldUp(cmd *router.Command, now int64) {
	if !cmd.Learned() || !cmd.Moves() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.leased(cmd); !known && len(b.slow) < maxSlowNames {
		b.slow[cmd.Name] = now
		b.set()
		slog.Info("command travels on connections of its own", "command", cmd.Name, "why", "its reply has held up others")
	}
}

// answeredSlowly remembers a slow reply on a lease.
func (b *commandBook) answeredSlowly(cmd *router.Command, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, slow := b.slow[cmd.Name]; slow {
		b.slow[cmd.Name] = now
	}
}

// forget has commands without a slow reply for slowMemory travel on pipes again.
func (b *commandBook) forget(now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	forgotten := false
	for name, at := range b.slow {
		if now-at > int64(slowMemory) {
			delete(b.slow, name)
			forgotten = true
			slog.Info("command travels on shared connections again", "command", name)
		}
	}
	if forgotten {
		b.set()
	}
}

// slowNames lists the commands that travel on leases because they are slow, in order.
func (b *commandBook) slowNames() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.slow))
	for name := range b.slow {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// heldUp takes what a pipe reports: the reply to a request holds up those after it.
func (l *loop) heldUp(to backend.Receiver) {
	if r, ok := to.(*request); ok {
		l.srv.commands.heldUp(r.cmd, l.clock)
	}
}

// noteSlow remembers when a command that only the nodes know was answered slowly on a lease.
func (st *stay) noteSlow(r *request) {
	l := st.s.loop
	if r.cmd.Learned() && l.clock-st.sentAt >= int64(pipe.HeldFor) {
		l.srv.commands.answeredSlowly(r.cmd, l.clock)
	}
}
