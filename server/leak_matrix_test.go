package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// leftState is what a client has done when it goes.
type leftState struct {
	name   string
	did    []string // answered, one way or another
	left   string   // sent behind that; nobody waits for an answer
	blocks string   // it is blocked in this command at the node
	only   string   // the backend it makes sense for; "": both
	own    bool     // with pubsub-sharing no
	deaf   bool     // what is sent now is not read, or is part of what was sent before
	stays  bool     // the idle timeout does not count for it
}

// leftStates has all that a connection can remember of a client, and what a client can be in the middle of.
func leftStates() []leftState {
	const watch = "WATCH {d}victim"
	states := []leftState{
		{name: "AUTH", did: []string{"AUTH alice secret", watch}},
		{name: "HELLO 3 AUTH SETNAME", did: []string{"HELLO 3 AUTH alice secret SETNAME bob", watch}},
		{name: "SELECT", did: []string{"SELECT 3", watch}, only: "standalone"},
		{name: "SELECT inside MULTI", did: []string{watch, "MULTI", "SELECT 3", "GET {d}victim"}, only: "standalone"},
		{name: "SELECT inside MULTI, EXEC", did: []string{watch, "MULTI", "SELECT 3", "EXEC", watch}, only: "standalone"},
		{name: "HELLO 3", did: []string{"HELLO 3", watch}},
		{name: "HELLO 3 inside MULTI", did: []string{watch, "MULTI", "HELLO 3", "EXEC", watch}},
		{name: "HELLO 3 behind WATCH", did: []string{watch, "HELLO 3", "GET {d}victim"}},
		{name: "SETNAME", did: []string{"CLIENT SETNAME bob", watch}},
		{name: "SETNAME inside MULTI", did: []string{watch, "MULTI", "CLIENT SETNAME bob", "EXEC", watch}},
		{name: "REPLY OFF", did: []string{watch}, left: pipeline("CLIENT REPLY OFF", "GET {d}victim")},
		{name: "REPLY SKIP", did: []string{watch}, left: pipeline("CLIENT REPLY SKIP")},
		{name: "REPLY SKIP and a command", did: []string{watch}, left: pipeline("CLIENT REPLY SKIP", "GET {d}victim")},
		{name: "TRACKING", did: []string{"HELLO 3", "CLIENT TRACKING ON", "GET {d}victim", watch}},
		{name: "TRACKING BCAST", did: []string{"HELLO 3", "CLIENT TRACKING ON BCAST PREFIX {d}", watch}},
		{name: "TRACKING OPTIN and CACHING", did: []string{"HELLO 3", "CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES"}},
		{name: "TRACKING in RESP2", did: []string{"CLIENT TRACKING ON", watch, "GET {d}victim"}},
		{name: "NO-EVICT", did: []string{"CLIENT NO-EVICT ON", watch}},
		{name: "READONLY", did: []string{"READONLY", watch}},
		{name: "ASKING", did: []string{"ASKING"}},
		{name: "ASKING behind WATCH", did: []string{watch, "ASKING"}},
		{name: "WATCH", did: []string{watch}},
		{name: "dirty WATCH", did: []string{watch, "SET {d}victim mine"}},
		{name: "MULTI", did: []string{"MULTI", "SET {d}victim mine"}},
		{name: "WATCH, MULTI", did: []string{watch, "MULTI"}},
		{name: "WATCH, MULTI, queued commands", did: []string{watch, "MULTI", "SET {d}victim mine", "GET {d}victim"}},
		{name: "MULTI with an error", did: []string{watch, "MULTI", "GET", "SET {d}victim mine"}},
		{name: "MULTI with an error, EXEC", did: []string{watch, "MULTI", "GET", "EXEC", watch}},
		{name: "EXEC unheard", did: []string{watch, "MULTI", "GET {d}victim"}, left: pipeline("EXEC", "WATCH {d}victim")},
		{name: "RESET", did: []string{watch, "HELLO 3 SETNAME bob", "MULTI", "RESET", watch}},
		{name: "SUBSCRIBE", did: []string{"SUBSCRIBE d"}, stays: true},
		{name: "PSUBSCRIBE", did: []string{"PSUBSCRIBE d*"}, stays: true},
		{name: "SSUBSCRIBE", did: []string{"SSUBSCRIBE d"}, stays: true},
		{name: "SUBSCRIBE in RESP3, WATCH", did: []string{"HELLO 3", "SUBSCRIBE d", watch}, stays: true},
		{name: "SUBSCRIBE, UNSUBSCRIBE", did: []string{"SUBSCRIBE d", "UNSUBSCRIBE d", watch}},
		{name: "SUBSCRIBE on its own", did: []string{"SUBSCRIBE d"}, own: true, stays: true},
		{name: "PSUBSCRIBE on its own", did: []string{"PSUBSCRIBE d*"}, own: true, stays: true},
		{name: "SSUBSCRIBE on its own", did: []string{"SSUBSCRIBE d"}, own: true, stays: true},
		{name: "SUBSCRIBE, UNSUBSCRIBE on its own", did: []string{"HELLO 3", "SUBSCRIBE d", "UNSUBSCRIBE d"}, own: true},
		{name: "MONITOR", did: []string{"MONITOR"}, stays: true},
		{name: "half a request", did: []string{watch}, left: "*2\r\n$3\r\nGET\r\n$50\r\nab", deaf: true},
		{name: "half an EXEC", did: []string{watch, "MULTI", "SET {d}victim mine"}, left: "*1\r\n$4\r\nEX", deaf: true},
		{name: "half a line", did: []string{watch}, left: "SET {d}victim \"mi", deaf: true},
	}
	for _, blocking := range []string{
		"BLPOP {d}list 0", "BRPOP {d}list 0", "BLMOVE {d}list {d}to LEFT LEFT 0", "BRPOPLPUSH {d}list {d}to 0", "BLMPOP 0 1 {d}list LEFT",
		"BZPOPMIN {d}zset 0", "XREAD BLOCK 0 STREAMS {d}stream $",
	} {
		name := strings.Fields(blocking)[0]
		states = append(states, leftState{name: name, left: pipeline(blocking), blocks: strings.ToLower(name), deaf: true, stays: true})
	}
	return append(states,
		leftState{name: "BLPOP while watching", did: []string{watch}, left: pipeline("BLPOP {d}list 0"), blocks: "blpop", deaf: true, stays: true},
		leftState{name: "BLPOP in RESP3, named", did: []string{"HELLO 3 SETNAME bob"}, left: pipeline("BLPOP {d}list 0"), blocks: "blpop", deaf: true, stays: true})
}

// goneHow are the ways in which a client goes.
var goneHow = []string{"QUIT", "FIN", "RST", "idle timeout", "CLIENT KILL", "protocol error"}

// begin brings a client into the state.
func (l *leftState) begin(t *testing.T, b *berthServer, node *redistest.Server) *redistest.Conn {
	t.Helper()
	b.set("pubsub-sharing", map[bool]string{true: "no", false: "yes"}[l.own])
	c := dial(t, b.Addr())
	for _, did := range l.did {
		c.DoRaw(strings.Fields(did))
	}
	b.feed(c, l.left)
	if l.blocks != "" {
		awaitCommand(t, node, l.blocks)
	}
	return c
}

// end has the client go and returns when berth knows.
func (l *leftState) end(t *testing.T, b *berthServer, c *redistest.Conn, how string) {
	t.Helper()
	seen := b.readsOf(c)
	switch how {
	case "QUIT":
		c.Send("QUIT")
	case "protocol error":
		c.WriteString("*1\r\n!\r\n")
	case "idle timeout":
		b.set("timeout", "1")
		eventually(t, "berth to find its client idle", func() bool { // not as long as it is owed a reply
			b.letIdle(c)
			return seen.bytes.Load() >= goneFar
		})
		b.set("timeout", "0")
	case "CLIENT KILL":
		script(t, dial(t, b.Addr()), "CLIENT KILL ADDR "+c.LocalAddr()+" → 1")
	case "RST":
		c.Reset()
	}
	switch {
	case how == "FIN", l.deaf && (how == "QUIT" || how == "protocol error"):
		c.Close()
	case how != "RST":
		_ = c.ReadAll()
		c.Close()
	}
	eventually(t, "berth to see its client go", func() bool { return seen.bytes.Load() >= goneFar })
}

// letIdle makes berth believe that a client has been silent for long.
func (b *berthServer) letIdle(c *redistest.Conn) {
	for _, l := range b.srv.eachLoop() {
		done := make(chan bool)
		l.Post(func() {
			defer close(done)
			for s := l.first; s != nil; s = s.next {
				if remote, _ := s.addresses(); remote == c.LocalAddr() {
					s.lastHeard = 0
				}
			}
			l.tickSessions()
		})
		<-done
	}
}

// nothingWaits tells whether what a client has left behind in blocking commands takes what comes now.
func nothingWaits(t *testing.T, node *redistest.Server) {
	t.Helper()
	direct := dial(t, node.Addr())
	defer direct.Close()
	script(t, direct, "RPUSH {d}list x → 1", "LPOP {d}list → x", "EXISTS {d}to → 0",
		"ZADD {d}zset 1 m → 1", "ZCARD {d}zset → 1", "DEL {d}zset → 1")
}

// noTraces looks at all that berth has open at a node for the user of most clients. Alice's connection waits in her own
// pool for the next client that is alice.
func noTraces(t *testing.T, b *berthServer, node *redistest.Server) {
	t.Helper()
	alice, direct := dial(t, b.Addr()), dial(t, node.Addr())
	defer alice.Close()
	defer direct.Close()
	script(t, alice, "AUTH alice secret → OK", "WATCH {d}other → OK")
	direct.Do("SET", "{d}victim", "changed again")
	script(t, alice, "CLIENT GETNAME → <nil>", "MULTI → OK", "ACL WHOAMI → QUEUED", "GET {d}victim → QUEUED", "EXEC → [alice changed again]")
	direct.Do("DEL", "{d}victim")
	for _, n := range nodeClients(t, node) {
		if !b.outsideMulti(n) || strings.Trim(n["flags"], "NP") != "" || n["name"] == "bob" {
			t.Errorf("the node has a connection with flags=%s multi=%s name=%s cmd=%s", n["flags"], n["multi"], n["name"], n["cmd"])
		}
	}
}

func TestNothingOfAClientReachesTheNext(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0, "--hz", "100")
	home := cluster.Node(cluster.Owner(int(router.Slot([]byte("d")))))
	for name, node := range map[string]*redistest.Server{"standalone": redistest.Start(t, "--hz", "100"), "cluster": home} {
		backend, nodes := node.Addr(), []*redistest.Server{node}
		if name == "cluster" {
			backend, nodes = clusterURL(cluster), []*redistest.Server{cluster.Node(0), cluster.Node(1), cluster.Node(2)}
		}
		for _, n := range nodes {
			n.Do(t, "ACL", "SETUSER", "alice", "on", ">secret", "~*", "&*", "+@all")
			t.Cleanup(func() { n.Do(t, "ACL", "DELUSER", "alice") })
		}
		b := oneLease(t, backend)
		cells := 0
		for _, state := range leftStates() {
			if state.only != "" && state.only != name {
				continue
			}
			for _, how := range goneHow {
				if how == "idle timeout" && state.stays || !chosen(3) {
					continue
				}
				cells++
				t.Run(fmt.Sprintf("%s/%s, %s", name, state.name, how), func(t *testing.T) {
					c := state.begin(t, b, node)
					state.end(t, b, c, how)
					mustBePristine(t, b, node, "d")
					nothingWaits(t, node)
					noTraces(t, b, node)
				})
			}
		}
		t.Logf("%s: %d cells", name, cells)
		if s := b.leases(); s.Leased != 0 || s.Waiting != 0 || s.Idle > 3 {
			t.Errorf("%s: the pools hold %+v at the end", name, s)
		}
	}
}
