package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// forgeries are requests to which some node answers with an error that has a reply of the client's
// choice after it.
var forgeries = [][]any{
	{"EVAL", `#!lua flags="x\r\n+FORGED"` + "\nreturn 1", 0},
	{"EVAL", `#!lua "flags=no-writes,\r\n+FORGED"` + "\nreturn 1", 0},
	{"EVAL", `#!lua "x\x0d\x0a+FORGED"` + "\nreturn 1", 0},
	{"EVAL", `#!"x\r\n+FORGED"` + "\nreturn 1", 0},
	{"EVAL_RO", `#!lua "x\r\n$6\r\nFORGED"` + "\nreturn 1", 0},
	{"SCRIPT", "LOAD", `#!lua flags="x\r\n+FORGED"` + "\nreturn 1"},
	{"FUNCTION", "LOAD", `#!lua "x\r\n+FORGED"` + "\nreturn 1"},
	{"FUNCTION", "LOAD", "REPLACE", `#!"x\r\n+FORGED" name=lib` + "\nreturn 1"},
	{"FUNCTION", "LOAD", "#!lua name=l\nlocal t = {} t['\\r\\n$6\\r\\nFORGED\\r\\n+'].x = 1"},
	{"FUNCTION", "LOAD", "#!lua name=l\nlocal t = {} t['\\r\\n+FORGED\\r\\n+']()"},
	{"FUNCTION", "LOAD", "#!lua name=l\nreturn 1 '\\r\\n+FORGED'"},
	{"FUNCTION", "LOAD", "#!lua name=l\nlocal '\\r\\n+FORGED'"},
	{"FUNCTION", "LIST", "x\r\n+FORGED"},
	{"FUNCTION", "LIST", "WITHCODE", "x\r\n$6\r\nFORGED\r\n"},
	{"FUNCTION", "RESTORE", "x\r\n+FORGED"},
	{"EVAL", `error('x\r\n+FORGED')`, 0},
	{"EVAL", `error({err = 'x\r\n+FORGED'})`, 0},
	{"EVAL", `return nosuch['x\r\n+FORGED']`, 0},
	{"EVAL", `return redis.error_reply('x\r\n+FORGED')`, 0},
	{"EVAL", `return {1, {err = 'x\r\n+FORGED'}}`, 0},
	{"EVAL", `return redis.status_reply('x\r\n+FORGED')`, 0},
	{"FCALL", "x\r\n+FORGED", 0},
	{"x\r\n+FORGED"},
	{"GET", "k", "x\r\n+FORGED"},
}

// One client asks for what forges replies, another one for its own key on the same connections.
func TestNoClientChoosesWhatAnotherReads(t *testing.T) {
	parallel(t)
	for over, url := range map[string]string{"standalone": sharedNode(t).Addr(), "cluster": clusterURL(sharedCluster(t))} {
		t.Run(over, func(t *testing.T) {
			b := startBerth(t, url, "--loops", "1")
			key := "apart:" + over
			victim := dial(t, b.Addr())
			victim.Do("SET", key, "mine")
			unharmed := func(after any) {
				t.Helper()
				for range 3 { // what was forged would be the reply to what comes next on the connection
					if got := victim.Do("GET", key); got != "mine" {
						t.Fatalf("after %q: GET: %v", after, got)
					}
				}
			}
			for _, words := range forgeries {
				for _, resp := range []int{2, 3} {
					attacker := dial(t, b.Addr())
					attacker.Do("HELLO", resp)
					attacker.Send(words...)
					attacker.Send("GET", key)
					victim.Send("GET", key)
					if got := attacker.RecvRaw(); got[0] != '-' && got[0] != '*' && got[0] != '+' {
						t.Errorf("%q: %q", words, got)
					}
					if got := attacker.Recv(); got != "mine" {
						t.Errorf("%q: the attacker's own GET: %v", words, got)
					}
					if got := victim.Recv(); got != "mine" {
						t.Fatalf("beside %q: GET: %v", words, got)
					}
					attacker.Do("MULTI")
					attacker.Do(words...)
					attacker.Do("GET", key)
					attacker.DoRaw("EXEC")
					unharmed(words)
					attacker.Close()
				}
				unharmed(words)
			}
		})
	}
}

// Which commands travel apart rests on this: the node answers every other command of the table with one
// reply, whatever its client says. A word with a line break takes the place of each word in turn.
func TestOnlyCommandsThatTravelApartBreakTheirLine(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	asked := 0
	for _, cmd := range router.Builtin().Commands() {
		name := strings.Split(cmd.Name, "|")
		turns := slices.Contains(turnsConnection, cmd.Name) || cmd.Way == router.Refused && cmd.Name != "debug"
		if turns || cmd.MayQuote() || cmd.Is(router.TakesCode) || len(cmd.Subcommands()) > 0 {
			continue
		}
		c := redistest.Dial(t, node.Addr())
		line := rightsLine(cmd, "k")
		for at := len(name); at <= len(line)+1; at++ {
			for _, word := range []string{"x\r\n+FORGED", "\r\n:1", "1\r\n$6\r\nFORGED"} {
				words := slices.Clone(line)
				words = append(words[:min(at, len(line))], append([]string{word}, words[min(at+1, len(line)):]...)...)
				c.Send(anys(words)...)
				c.Send("ECHO", "end")
				got := c.RecvRaw()
				if end := c.Recv(); end != "end" {
					t.Fatalf("%q: %q, and then %v", words, got, end)
				}
				asked++
			}
		}
		c.Close()
	}
	if asked < 2000 {
		t.Errorf("only %d requests", asked)
	}
}

// What travels apart keeps its place among the requests of its client.
func TestWhatTravelsApartIsRunInOrder(t *testing.T) {
	parallel(t)
	for over, url := range map[string]string{"standalone": redistest.Start(t).Addr(), "cluster": clusterURL(redistest.StartCluster(t, 2, 0))} {
		b := startBerth(t, url)
		c := dial(t, b.Addr())
		for i := range sized(20, 200) {
			code := fmt.Sprintf("#!lua name=l%d\nredis.register_function('f%d', function() return 1 end)", i, i)
			name := fmt.Sprint("l", i)
			c.Send("FUNCTION", "LOAD", code)
			c.Send("FUNCTION", "LOAD", "REPLACE", code)
			c.Send("FUNCTION", "DELETE", name)
			c.Send("FUNCTION", "DELETE", name)
			for k, want := range []string{name, name, "OK", "ERR Library not found"} {
				if got := fmt.Sprint(c.Recv()); got != want {
					t.Fatalf("%s, reply %d: %s", over, k, got)
				}
			}
		}
	}
}

// Only so many of one user travel apart at a time. The others wait for them, and none is lost.
func TestMoreThanMayTravelApartWaitForOneAnother(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0)
	b := startBerth(t, clusterURL(cluster), "--loops", "1")
	const many = 100
	var clients []*redistest.Conn
	for range many {
		clients = append(clients, dial(t, b.Addr()))
	}
	for round := range 3 {
		for i, c := range clients {
			c.Send("FUNCTION", "LOAD", "REPLACE", fmt.Sprintf("#!lua name=l%d\nredis.register_function('f%d', function() return %d end)", i, i, round))
			c.Send("FCALL", fmt.Sprint("f", i), 1, "k")
		}
		for i, c := range clients {
			if i == 50 && round == 2 { // one leaves while it waits
				c.Close()
				continue
			}
			if name, got := c.Recv(), c.Recv(); name != fmt.Sprint("l", i) || got != int64(round) {
				t.Fatalf("round %d, client %d: %v, %v", round, i, name, got)
			}
		}
	}
	for _, addr := range cluster.Addrs() {
		if got := len(redistest.Dial(t, addr).Do("FUNCTION", "LIST").([]any)); got < many-1 {
			t.Errorf("%s has %d libraries", addr, got)
		}
	}
}

// A module's command that blocks has a lease for itself. Its status may quote a client's words as well.
func TestALeaseWhoseModuleQuotedALineBreakIsNotUsedAgain(t *testing.T) {
	parallel(t)
	says := maps.Clone(valkey9)
	says["FT.SAY x\r\ny"], says["FT.SAY x"] = "+x\r\n", "+x\r\n"
	b := startBerth(t, scriptedProduct(t, says), "--loops", "1")
	if err := b.srv.commands.learn([]byte("*1\r\n*6\r\n$6\r\nft.say\r\n:2\r\n*0\r\n:0\r\n:0\r\n:0\r\n")); err != nil {
		t.Fatal(err)
	}
	c := dial(t, b.Addr())
	for words, idle := range map[string]int{"x": 1, "x\r\ny": 0} {
		if got := c.Do("FT.SAY", words); got != "x" {
			t.Errorf("FT.SAY %q: %v", words, got)
		}
		eventually(t, fmt.Sprintf("%d idle connections after %q", idle, words), func() bool {
			leases := b.leases()
			return leases.Leased == 0 && leases.Idle == idle
		})
	}
}

// What travels apart leaves no connection that could bring its surplus to another client.
func TestALeaseWhoseReplyMayGoOnIsNotUsedAgain(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1")
	c := dial(t, b.Addr())
	for _, test := range []struct {
		words []any
		again bool
	}{
		{[]any{"FUNCTION", "LIST", "no\r\nsuch"}, false},
		{[]any{"FUNCTION", "LIST", "LIBRARYNAME", "no\r\nsuch"}, true},
		{[]any{"FUNCTION", "RESTORE", "x"}, false},
		{[]any{"FUNCTION", "LOAD", "x"}, false},
	} {
		c.Do(test.words...)
		idle := 0
		if test.again {
			idle = 1
		}
		eventually(t, fmt.Sprintf("%d idle connections after %q", idle, test.words), func() bool {
			leases := b.leases()
			return leases.Leased == 0 && leases.Idle == idle
		})
	}
}

func TestScriptsTravelApartWhereANodeBreaksTheirErrors(t *testing.T) {
	for _, test := range []struct {
		info  nodes.Info
		apart bool
	}{
		{nodes.Info{Product: "redis", Version: "8.0.1"}, false},
		{nodes.Info{Product: "redis", Version: "7.2.4", Server: []nodes.Field{{}}}, false},
		{nodes.Info{Product: "redis", Version: "7.2.4"}, true},
		{nodes.Info{Product: "redis", Version: "7.4.0", Server: []nodes.Field{{Name: "redis_version"}, {Name: "gcc_version"}}}, false},
		{nodes.Info{Product: "redis", Version: "7.4.0", Server: []nodes.Field{{Name: "redis_version"}, {Name: "dragonfly_version"}}}, true},
		{nodes.Info{}, true},
		{nodes.Info{Product: "other", Version: "7.2.4"}, true},
	} {
		if got := breaksScriptLines(&test.info); got != test.apart {
			t.Errorf("%+v: %t", test.info, got)
		}
	}
	for release, apart := range map[string]bool{
		"7.2.11": true, "7.2.12": false, "8.0.1": true, "8.0.7": false, "8.1.5": true, "8.1.6": false, "9.0.1": true, "9.0.2": false, "9.1.0": false, "x": true,
	} {
		if got := breaksScriptLines(&nodes.Info{Product: "valkey", Release: release, Version: "7.2.4"}); got != apart {
			t.Errorf("Valkey %s: %t, want %t", release, got, apart)
		}
	}
}

func TestABackslashIsRefusedInTheFirstLineOfAScriptAlone(t *testing.T) {
	for text, want := range map[string]bool{
		"#!lua\nreturn '\\n'": false, "return '\\n'": false, "#!lua name=x": false, "#!lua \"a\\x\"\n": true, "#!\\": true, "#!lua\r\n\\": false, "\\#!": false,
	} {
		if got := hasBackslash([][]byte{[]byte("EVAL"), []byte(text), []byte("0")}); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	if !strings.Contains(errBackslash, "through berth") {
		t.Error("the refusal does not say whose it is")
	}
}
