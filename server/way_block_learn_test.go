package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// modSlow is what COMMAND says of a module's command. The nodes of these tests run INCR by its name.
const modSlow = "*1\r\n*6\r\n$8\r\nmod.slow\r\n:2\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n"

// startSlow starts berth over a node that knows mod.slow. before is called with each of them, before the
// node gets it.
func startSlow(t *testing.T, before func(node *redistest.Server), args ...string) *berthServer {
	t.Helper()
	node := redistest.Start(t, "--rename-command", "incr", "mod.slow")
	b := startBerth(t, startGate(t, node.Addr(), func(words string) {
		if strings.HasPrefix(words, "mod.slow ") {
			before(node)
		}
	}).addr, append(args, "--loops", "1")...)
	if err := b.srv.commands.learn([]byte(modSlow)); err != nil {
		t.Fatal(err)
	}
	return b
}

// travels is the way of mod.slow.
func (b *berthServer) travels(t *testing.T) router.Way {
	t.Helper()
	cmd, err := b.srv.table().Lookup([][]byte{[]byte("MOD.SLOW")})
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Way
}

func TestCommandThatHeldUpAPipeTravelsOnALease(t *testing.T) {
	parallel(t)
	open := make(chan bool)
	b := startSlow(t, func(*redistest.Server) { <-open })
	t.Cleanup(func() { close(open) })
	slow, other := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, other, "SET k v → OK")
	slowCommands := func() any { return fields(t, dial(t, b.Addr()).Do("PROXY", "STATS"))["slow_commands"] }
	if got := slowCommands(); got != "" || b.travels(t) != router.Shared {
		t.Errorf("at first: %q, %v", got, b.travels(t))
	}
	slow.Send("MOD.SLOW", "n")
	eventually(t, "the command to be under way", func() bool { return b.owed(t) == 1 })
	other.Send("GET", "k")
	eventually(t, "berth to notice", func() bool { return slowCommands() == "mod.slow" })
	open <- true
	if a, v := slow.Recv(), other.Recv(); a != int64(1) || v != "v" {
		t.Errorf("got %v and %v", a, v)
	}

	slow.Send("MOD.SLOW", "n")
	eventually(t, "the command to have a connection", func() bool {
		rows := proxy(t, dial(t, b.Addr()), "PINS")
		return len(rows) == 1 && rows[0]["reason"] == "blocking" && rows[0]["command"] == "mod.slow"
	})
	script(t, other, "GET k → v", "CONFIG SET lease-commands -mod.slow → OK")
	if b.travels(t) != router.Shared {
		t.Error("lease-commands says no")
	}
	script(t, other, "CONFIG SET lease-commands mod.other → OK")
	b.longAgo(slowMemory - time.Minute)
	b.sentLongAgo()
	open <- true
	if got := slow.Recv(); got != int64(2) {
		t.Errorf("got %v", got)
	}
	b.longAgo(2 * time.Minute)
	b.srv.commands.forget(time.Now().UnixNano())
	if b.travels(t) != router.Blocking {
		t.Error("forgotten, though the latest reply was slow")
	}
	b.longAgo(slowMemory)
	eventually(t, "the command to be forgotten", func() bool { return slowCommands() == "" && b.travels(t) == router.Shared })
}

// longAgo has the slow replies have come earlier.
func (b *berthServer) longAgo(d time.Duration) {
	b.srv.commands.mu.Lock()
	defer b.srv.commands.mu.Unlock()
	for _, s := range b.srv.commands.slow {
		s.at -= int64(d)
	}
}

// sentLongAgo has the requests on leases have been sent earlier.
func (b *berthServer) sentLongAgo() {
	done := make(chan bool)
	l := b.srv.eachLoop()[0]
	l.Post(func() {
		for s := l.first; s != nil; s = s.next {
			if s.stay != nil {
				s.stay.sentAt -= int64(time.Minute)
			}
		}
		close(done)
	})
	<-done
}

// owed is how many replies nodes owe on pipes.
func (b *berthServer) owed(t *testing.T) (owed int) {
	for _, c := range b.figures(t).Pipes {
		owed += c.Owed
	}
	return owed
}

func TestSlowCommandsAreRememberedWithinBounds(t *testing.T) {
	b := &commandBook{}
	b.begin(router.WithOwn(), map[string]bool{"mod.3": false, "mod.4": true})
	var rows strings.Builder
	for i := range maxSlowNames + 10 {
		name := fmt.Sprintf("mod.%d", i)
		fmt.Fprintf(&rows, "*6\r\n$%d\r\n%s\r\n:2\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n", len(name), name)
	}
	if err := b.learn(fmt.Appendf(nil, "*%d\r\n%s", maxSlowNames+10, rows.String())); err != nil {
		t.Fatal(err)
	}
	b.heldUp(b.current.Load().Find("get"), 1)
	for i := range maxSlowNames + 10 {
		b.heldUp(b.current.Load().Find(fmt.Sprintf("mod.%d", i)), 1)
	}
	if len(b.slow) != maxSlowNames {
		t.Errorf("%d remembered", len(b.slow))
	}
	for name, way := range map[string]router.Way{
		"get": router.Shared, "mod.0": router.Blocking, "mod.3": router.Shared, "mod.4": router.Blocking, fmt.Sprintf("mod.%d", maxSlowNames+9): router.Shared,
	} {
		if got := b.current.Load().Find(name).Way; got != way {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A node that was busy makes a fast command look slow.
func TestCommandThatIsFastOnLeasesTravelsOnPipesAgain(t *testing.T) {
	b := &commandBook{}
	b.begin(router.WithOwn(), nil)
	if err := b.learn([]byte(modSlow)); err != nil {
		t.Fatal(err)
	}
	way := func() router.Way { return b.current.Load().Find("mod.slow").Way }
	b.heldUp(b.current.Load().Find("mod.slow"), 1)
	cmd := b.current.Load().Find("mod.slow")
	for range 2 {
		for range fastInRow - 1 {
			b.answered(cmd, 0, 2)
		}
		b.answered(cmd, int64(pipe.HeldFor), 2)
	}
	if way() != router.Blocking {
		t.Error("a slow reply does not count")
	}
	for range fastInRow {
		b.answered(cmd, 0, 3)
	}
	if way() != router.Shared || b.slowNames() != "" {
		t.Errorf("%v, %q are slow", way(), b.slowNames())
	}
}

// What works while it blocks is executed once, however long it has blocked when its connection is lost.
func TestCommandOnALeaseIsNotRepeatedWhenItsConnectionIsLost(t *testing.T) {
	parallel(t)
	var came atomic.Int32
	arrived, lose := make(chan time.Time, 2), make(chan bool)
	b := startSlow(t, func(node *redistest.Server) {
		if arrived <- time.Now(); came.Add(1) == 1 {
			<-lose
			node.Do(t, "CLIENT", "KILL", "TYPE", "normal")
		}
	}, "--lease-commands", "mod.slow")
	t.Cleanup(func() { close(lose) })
	c := dial(t, b.Addr())
	c.Send("MOD.SLOW", "n")
	began := <-arrived
	eventually(t, "the command to have worked for a while", func() bool { return time.Since(began) > 2*lane.Doubt })
	lose <- true
	if got := fmt.Sprint(c.Recv()); !strings.HasPrefix(got, "ERR berth: connection to ") || !strings.HasSuffix(got, "command may have been executed") {
		t.Errorf("got %q", got)
	}
	script(t, c, "GET none → <nil>") // a read: the shared connection is lost, too, and berth may hear of it later
	if n := came.Load(); n != 1 {
		t.Errorf("the node got it %d times", n)
	}
}

func TestLeaseCommandsRefusesCommandsOfRedis(t *testing.T) {
	c := dial(t, startBerth(t, sharedNode(t).Addr()).Addr())
	if got := fmt.Sprint(c.Do("CONFIG", "SET", "lease-commands", "mod.x -get")); !strings.Contains(got, "a command of Redis itself") {
		t.Errorf("got %q", got)
	}
	script(t, c, "CONFIG SET lease-commands mod.x → OK", "CONFIG GET lease-commands → [lease-commands mod.x]")
}
