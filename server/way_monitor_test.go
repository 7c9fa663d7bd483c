package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

func TestMonitorShowsWhatClientsAskAndNotWhatBerthAsks(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr())
	watcher, c := dial(t, b.Addr()), dial(t, b.Addr())
	if got := watcher.Do("MONITOR"); got != "OK" {
		t.Fatal(got)
	}
	for _, line := range []string{"HELLO 3 AUTH default x", "AUTH x", "AUTH default x", "HELLO 3 SETNAME auth AUTH default x", "SELECT 3", "PING", "ECHO \"\n\xff", "CLIENT LIST", "MULTI", "CLIENT ID", "GET a", "EXEC",
		"WATCH w", "UNWATCH", "SUBSCRIBE ch", "UNSUBSCRIBE ch", "GET end", "ECHO end"} {
		c.Do(anys(strings.Split(line, " "))...)
	}
	var ours, nodes []string
	for !slices.Contains(ours, `3 "ECHO" "end"`) || !slices.Contains(nodes, `"GET" "end"`) {
		line, ok := watcher.Recv().(string)
		_, line, isLine := strings.Cut(line, " [")
		from, command, _ := strings.Cut(line, "] ")
		db, addr, _ := strings.Cut(from, " ")
		switch {
		case !ok || !isLine:
			t.Fatalf("%q", line)
		case addr == c.LocalAddr():
			ours = append(ours, db+" "+command)
		default:
			nodes = append(nodes, command)
		}
	}
	if got, want := strings.Join(ours, "\n"), strings.Join([]string{
		`0 "HELLO" "3" "AUTH" "(redacted)" "(redacted)"`, `0 "AUTH" "(redacted)"`, `0 "AUTH" "(redacted)" "(redacted)"`,
		`0 "HELLO" "3" "SETNAME" "auth" "(redacted)" "(redacted)" "(redacted)"`, `3 "SELECT" "3"`, `3 "PING"`, `3 "ECHO" "\"\n\xff"`, `3 "CLIENT" "ID"`, `3 "UNWATCH"`,
		`3 "ECHO" "end"`,
	}, "\n"); strings.ReplaceAll(got, `0 "SELECT"`, `3 "SELECT"`) != want {
		t.Errorf("of the client\n%s, want\n%s", got, want)
	}
	nodes = slices.DeleteFunc(nodes, func(line string) bool { return line == `"UNSUBSCRIBE" "ch"` }) // on a connection of its own: sooner or later
	if got, want := strings.Join(nodes, " "), `"multi" "GET" "a" "exec" "WATCH" "w" "SUBSCRIBE" "ch" "GET" "end"`; got != want {
		t.Errorf("of the node %s, want %s", got, want)
	}
	watcher.Close()
	eventually(t, "the monitor to be forgotten", func() bool { return b.srv.monitors.n.Load() == 0 })
}

// A transaction of which no node hears is shown as well.
func TestMonitorShowsTransactionsThatAreNotSent(t *testing.T) {
	parallel(t)
	var seen [2]string
	for i, addr := range []string{redistest.Start(t).Addr(), startBerth(t, redistest.Start(t).Addr()).Addr()} {
		watcher, c := dial(t, addr), dial(t, addr)
		watcher.Do("MONITOR")
		pipelined(c, "multi", "nosuch", "exec", "multi", "set a 1", "discard", "multi", "exec", "multi", "nosuch", "discard", "echo end")
		for !strings.Contains(seen[i], `"end"`) {
			line := fmt.Sprint(watcher.Recv())
			_, words, _ := strings.Cut(line, "] ")
			if words != `"PING"` { // berth's own
				seen[i] += words + "\n"
			}
		}
	}
	if seen[0] != seen[1] {
		t.Errorf("berth shows\n%s, Redis\n%s", seen[1], seen[0])
	}
}

// The line is made on the loop, and a client chooses how many words it has.
func TestMonitorShowsNoMoreOfACommandThanItsBound(t *testing.T) {
	parallel(t)
	b := startBerth(t, sharedNode(t).Addr())
	watcher, c := dial(t, b.Addr()), dial(t, b.Addr())
	watcher.Do("MONITOR")
	long := strings.Repeat("\x01", maxMonitored)
	for _, words := range [][]any{
		{"ECHO", long}, {"COMMAND", "INFO", long[:maxMonitored/2], long, long}, append([]any{"COMMAND", "DOCS"}, make([]any, maxMonitored)...),
	} {
		for i, word := range words {
			if word == nil {
				words[i] = ""
			}
		}
		c.Do(words...)
		line, _ := watcher.Recv().(string)
		for !strings.Contains(line, c.LocalAddr()+"]") {
			line, _ = watcher.Recv().(string)
		}
		if n := len(line); n < maxMonitored || n > maxMonitored*len(`\x01`)+100 {
			t.Errorf("%s of %d words: a line of %d bytes", words[0], len(words), n)
		}
	}
}

func TestNodeThatIsSilentToASubscriberOfItsOwnIsWaitedForNoLongerThanItsTimeout(t *testing.T) {
	for _, words := range []string{"monitor", "subscribe other"} {
		t.Run(words, func(t *testing.T) {
			parallel(t)
			asked, isOver := make(chan struct{}), make(chan struct{})
			defer close(isOver)
			b := startBerth(t, startGate(t, redistest.Start(t).Addr(), func(said string) {
				if said == words {
					close(asked)
					<-isOver
				}
			}).addr, "--pubsub-sharing", "no")
			c, other := dial(t, b.Addr()), dial(t, b.Addr())
			if words != "monitor" {
				c.Do("SUBSCRIBE", "one")
			}
			c.WriteString(words + "\r\n")
			<-asked
			script(t, other, "CONFIG SET backend-timeout-ms 50 → OK")
			if got := c.RecvRaw(); !strings.HasPrefix(got, "-ERR berth: connection to ") {
				t.Errorf("%q", got)
			}
			if words == "monitor" {
				script(t, c, "ECHO x → x")
			} else if got := c.ReadAll(); got != "" {
				t.Errorf("%q", got)
			}
			eventually(t, "the connection to be closed", func() bool { return b.leases().Leased == 0 })
		})
	}
}

func TestMonitorHidesOnlyWhatIsBerthsOwn(t *testing.T) {
	srv := &server{}
	srv.commands.begin(router.Builtin(), nil)
	here := netip.MustParseAddr("10.0.0.1")
	for line, want := range map[string]bool{
		`+1.5 [0 10.0.0.1:7] "PING"`:                                true,
		`+1.5 [3 10.0.0.1:7] "client" "ID"`:                         true,
		`+1.5 [0 10.0.0.1:7] "SPUBLISH" "berth:wait:7" ""`:          true,
		`+1.5 [0 10.0.0.1:7] "SPUBLISH" "berth" ""`:                 false,
		`+1.5 [0 10.0.0.2:7] "PING"`:                                false,
		`+1.5 [0 10.0.0.1:7] "GET" "] \"PING"`:                      false,
		`+1.5 [0 lua] "ping"`:                                       false,
		`+1.5 [0 unix:/s] "PING"`:                                   false,
		`+1.5 [0 10.0.0.1:7] "NOTHING"`:                             false,
		`+PING`:                                                     false,
		`+1.5 [0 10.0.0.1:7] `:                                      false,
		`+1.5 [0 10.0.0.1:7] "`:                                     false,
		`+1.5 [0 10.0.0.1:7] "CLIENT" "LIST" "` + `x" "` + `y" "z"`: true,
	} {
		if got := srv.hides([]byte(line+"\r\n"), here); got != want {
			t.Errorf("%s: hidden %t", line, got)
		}
	}
}
