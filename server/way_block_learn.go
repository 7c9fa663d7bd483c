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
//	shared ──a reply holds up a pipe──▶ on leases ──no slow reply for slowMemory, or none of fastInRow──▶ shared
//
// The node may have been busy with something else when the reply was late. A command that is called
// often is soon back on pipes then: its replies on leases are fast.
//
// lease-commands says for some commands that they travel on leases, or on pipes, whatever happens.

const (
	slowMemory   = 10 * time.Minute // how long a slow reply is remembered
	fastInRow    = 100              // fast replies on leases, one after the other, that show a command to be fast
	maxSlowNames = 256              // commands remembered; further ones stay on pipes
)

// slowness is what is remembered of a slow command.
type slowness struct {
	at   int64 // when a slow reply came last, unix nanoseconds
	fast int   // replies on leases since then
}

// commandBook is the commands that berth knows, and which of them travel on leases because they are
// slow. Safe for any goroutine.
type commandBook struct {
	current atomic.Pointer[router.Table] // the table that sessions use; stored under mu, read without

	mu    sync.Mutex      // guards what follows
	known *router.Table   // as the nodes tell of it
	named map[string]bool // lease-commands
	slow  map[string]*slowness
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
	b.known, b.named, b.slow = table, named, map[string]*slowness{}
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
		b.slow[cmd.Name] = &slowness{at: now}
		b.set()
		slog.Info("command travels on connections of its own", "command", cmd.Name, "why", "its reply has held up others")
	}
}

// answered counts a reply that came on a lease after so many nanoseconds.
func (b *commandBook) answered(cmd *router.Command, took, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.slow[cmd.Name]
	switch {
	case s == nil:
	case took >= int64(pipe.HeldFor):
		*s = slowness{at: now}
	default:
		if s.fast++; s.fast == fastInRow {
			b.drop(cmd.Name)
			b.set()
		}
	}
}

// forget has commands without a slow reply for slowMemory travel on pipes again.
func (b *commandBook) forget(now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.slow)
	for name, s := range b.slow {
		if now-s.at > int64(slowMemory) {
			b.drop(name)
		}
	}
	if len(b.slow) < before {
		b.set()
	}
}

// drop forgets that a command is slow; set follows. The caller holds mu.
func (b *commandBook) drop(name string) {
	delete(b.slow, name)
	slog.Info("command travels on shared connections again", "command", name)
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

// isScript tells a pipe what a script's reply is, or that of a transaction with scripts.
func isScript(to backend.Receiver) bool {
	r, ok := to.(*request)
	if !ok || r.cmd == nil {
		return false
	}
	b := r.blob()
	return r.cmd.Flags.Has(router.NoMandatoryKeys) || b != nil && len(b.scripts)+len(b.evals) > 0
}

// noteReply counts the lease's reply to a command that only the nodes know.
func (st *stay) noteReply(r *request) {
	if l := st.s.loop; r.cmd.Learned() {
		l.srv.commands.answered(r.cmd, l.clock-st.sentAt, l.clock)
	}
}
