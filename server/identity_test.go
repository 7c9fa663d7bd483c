package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/redistest"
)

// connections is how many connections a node has.
func connections(t *testing.T, node *redistest.Server) int {
	t.Helper()
	return strings.Count(fmt.Sprint(node.Do(t, "CLIENT", "LIST")), "addr=")
}

// Any password of a user that needs none is accepted: an attacker must not get connections for it. A bystander is served
// meanwhile.
func TestManyPasswordsOfAUserCostWhatOneCosts(t *testing.T) {
	overBackends(t, []string{"--requirepass", "secret", "--hz", "500"}, tryManyPasswords)
}

func tryManyPasswords(t *testing.T, nodes backing) {
	parallel(t)
	for _, user := range []string{"writer on >wpass ~* &* +@all", "nopass on nopass ~* &* +@all"} {
		nodes.each(t, toWords("ACL SETUSER "+user)...)
	}
	b := startBerth(t, nodes.url(":secret@"))
	bystander := dial(t, b.Addr())
	script(t, bystander, "AUTH writer wpass → OK", "SET by 1 → OK")
	defer startBystander(t, b.Addr(), "AUTH", "writer", "wpass").end()
	attacker := dial(t, b.Addr())
	use := func(i int) {
		attacker.Do("AUTH", "nopass", fmt.Sprint("random", i))
		script(t, attacker, "GET by → 1", "WATCH by → OK", "UNWATCH → OK")
		script(t, bystander, "INCR by → 2", "DECR by → 1")
	}
	use(0)
	before := connections(t, nodes[0])
	for i := range sized(500, 12_000) {
		use(i)
	}
	if after := connections(t, nodes[0]); after > before+1 {
		t.Errorf("the node has %d connections, and had %d after the first password", after, before)
	}
	pools := 0
	b.srv.pools.Each(func(string, string, *pool.Pool) { pools++ })
	if pools > 2 {
		t.Errorf("there are %d pools of 2 users", pools)
	}
}

func TestALoginThatOpensNoConnectionIsRefused(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	b := startBerth(t, "redis://:secret@"+node.Addr())
	c := dial(t, b.Addr())
	script(t, c, "AUTH nopass x → OK")
	long := strings.Repeat("x", backend.MaxCredential+1)
	for _, login := range [][]any{{"AUTH", "nopass", long}, {"AUTH", long}, {"AUTH", long, "x"}, {"HELLO", 3, "AUTH", "nopass", long}} {
		if got := c.Do(login...); got != redistest.Error(errCredential) {
			t.Errorf("%v with %d bytes: %.80v", login[0], len(long), got)
		}
	}
	if got := c.Do("AUTH", "nopass", long[1:]); got != "OK" {
		t.Errorf("with %d bytes: %.80v", len(long)-1, got)
	}
}

// Redis serves a client on, whatever becomes of its password; berth, with the password that was accepted last.
func TestAClientOutlivesItsPassword(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	b := startBerth(t, "redis://:secret@"+node.Addr())
	old := dial(t, b.Addr())
	script(t, old, "AUTH writer wpass → OK", "SET op:k v → OK")
	node.Do(t, "ACL", "SETUSER", "writer", "resetpass", ">wpass2")
	script(t, old, "GET op:k → v")
	script(t, dial(t, b.Addr()), "AUTH writer wpass → "+wrongPass, "AUTH writer wpass2 → OK")
	node.Do(t, "CLIENT", "KILL", "USER", "writer")
	script(t, old, "GET op:k → v", "WATCH op:k → OK", "UNWATCH → OK", "BLPOP op:l 0.01 → <nil>", "SUBSCRIBE op:c → [subscribe op:c 1]")
	node.Do(t, "PUBLISH", "op:c", "m")
	if got := fmt.Sprint(old.Recv()); got != "[message op:c m]" {
		t.Error(got)
	}
}

// failedLogins is how often a node has refused a password of the user.
func failedLogins(t *testing.T, node *redistest.Server, user string) (n int) {
	t.Helper()
	for _, entry := range node.Do(t, "ACL", "LOG", "100").([]any) {
		fields := entry.([]any)
		if fields[3] != "auth" || fields[9] != user {
			continue
		}
		n += int(fields[1].(int64))
	}
	return n
}

func TestClientsOfADeletedUserAreToldAndClosed(t *testing.T) {
	overBackends(t, []string{"--requirepass", "secret", "--hz", "500"}, deleteAUser)
}

func deleteAUser(t *testing.T, nodes backing) {
	parallel(t)
	for _, user := range []string{"writer on >wpass ~* &* +@all", "nopass on nopass ~* &* +@all"} {
		nodes.each(t, toWords("ACL SETUSER "+user)...)
	}
	b := startBerth(t, nodes.url(":secret@"))
	defer startBystander(t, b.Addr(), "AUTH", "nopass", "x").end()
	bystander := dial(t, b.Addr())
	script(t, bystander, "AUTH nopass x → OK")
	clients := map[string]*redistest.Conn{}
	for _, does := range []string{"nothing", "GET {du}k", "WATCH {du}k", "BLPOP {du}l 0", "SUBSCRIBE du:c", "XREAD BLOCK 0 STREAMS {du}s $"} {
		c := dial(t, b.Addr())
		script(t, c, "AUTH writer wpass → OK")
		switch word, _, _ := strings.Cut(does, " "); word {
		case "nothing":
		case "BLPOP", "XREAD":
			c.Send(toWords(does)...)
		default:
			c.Do(toWords(does)...)
		}
		clients[does] = c
	}
	eventually(t, "two to block", func() bool {
		for _, node := range nodes {
			if strings.Contains(fmt.Sprint(node.Do(t, "INFO", "clients")), "blocked_clients:2") {
				return true
			}
		}
		return false
	})
	begun := time.Now()
	nodes.each(t, "ACL", "DELUSER", "writer")
	for does, c := range clients {
		if got := c.ReadAll(); !strings.Contains(got, "-"+wrongPass+"\r\n") {
			t.Errorf("%s: told %q", does, got)
		}
	}
	t.Logf("figure: %s: all closed after %v", t.Name(), time.Since(begun))
	for _, node := range nodes {
		if n := failedLogins(t, node, "writer"); n > 2+2*len(clients) {
			t.Errorf("%d failed logins for %d clients", n, len(clients))
		}
	}
	script(t, bystander, "SET {du}k 1 → OK", "BLPOP {du}none 0.01 → <nil>")
	script(t, dial(t, b.Addr()), "AUTH writer wpass → "+wrongPass)
}

func toWords(line string) (words []any) {
	for _, w := range strings.Fields(line) {
		words = append(words, w)
	}
	return words
}

// A user who is switched off is served on the connections that there are, as by Redis; no new one is to be had.
func TestClientsOfAUserWhoIsOffAreServedOn(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	b := startBerth(t, "redis://:secret@"+node.Addr())
	c, blocked := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, c, "AUTH writer wpass → OK", "SET uo:k v → OK")
	script(t, blocked, "AUTH writer wpass → OK")
	blocked.Send("BLPOP", "uo:l", 0)
	eventually(t, "one to block", func() bool {
		return strings.Contains(fmt.Sprint(node.Do(t, "INFO", "clients")), "blocked_clients:1")
	})
	node.Do(t, "ACL", "SETUSER", "writer", "off")
	script(t, c, "GET uo:k → v", "WATCH uo:k → "+wrongPass, "GET uo:k → v", "RPUSH uo:l e → 1")
	if got := fmt.Sprint(blocked.Recv()); got != "[uo:l e]" {
		t.Error(got)
	}
	node.Do(t, "CLIENT", "KILL", "USER", "writer")
	for _, one := range []*redistest.Conn{c, blocked} {
		if got := one.ReadAll(); got != "-"+wrongPass+"\r\n" {
			t.Errorf("told %q", got)
		}
	}
}

func TestStrangersComeInAsSoonAsTheNodeLetsThem(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--requirepass", "secret")
	b := startBerth(t, "redis://:secret@"+node.Addr())
	early := dial(t, b.Addr())
	direct := dial(t, node.Addr())
	script(t, direct, "AUTH secret → OK")
	for i := range 5 {
		script(t, direct, "CONFIG SET requirepass secret → OK")
		b.srv.nodes.Refresh()
		eventually(t, "strangers to be refused", func() bool { return dial(t, b.Addr()).Do("GET", "k") == redistest.Error(noAuth) })
		if got := direct.Do("CONFIG", "SET", "requirepass", ""); got != "OK" {
			t.Fatal(got)
		}
		script(t, dial(t, b.Addr()), "GET k → <nil>", "BLPOP l 0.01 → <nil>")
		if got := fmt.Sprint(dial(t, b.Addr()).Do("HELLO", 3)); !strings.Contains(got, "proto") {
			t.Errorf("round %d: HELLO: %s", i, got)
		}
		script(t, early, "GET k → <nil>")
	}
}

// A password that is set on a node directly is noticed when the next connection is made, not in the next round.
func TestPasswordSetOnTheNodeIsNoticedAtTheFirstConnection(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--topology-refresh-interval", "1h")
	old := dial(t, b.Addr())
	script(t, old, "GET k → <nil>")
	direct := dial(t, node.Addr())
	script(t, direct, "CONFIG SET requirepass secret → OK")
	script(t, old, "GET k → <nil>", "BLPOP l 0.01 → "+noAuth) // a lease is a new connection
	script(t, dial(t, b.Addr()), "GET k → "+noAuth, "AUTH secret → OK", "GET k → <nil>", "BLPOP l 0.01 → <nil>")
	script(t, old, "BLPOP l 0.01 → <nil>") // with the password that another client has given
}

// The words of a script's error are no node's refusal of a login.
func TestAScriptsWordsAboutPasswordsStayWords(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	b := startBerth(t, "redis://:secret@"+node.Addr())
	bystander, attacker := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, bystander, "AUTH writer wpass → OK", "SET sw:k v → OK")
	script(t, attacker, "AUTH writer wpass → OK")
	for _, text := range []string{noAuth, wrongPass} {
		for range 20 {
			if got := attacker.Do("EVAL", "return redis.error_reply('"+text+"')", 0); got != redistest.Error(text) {
				t.Fatal(got)
			}
			script(t, bystander, "GET sw:k → v")
		}
	}
	script(t, attacker, "GET sw:k → v", "WATCH sw:k → OK")
}

// A lease that watches is taken along to another user, also to the default one where that needs no password.
func TestAWatchIsTakenAlongToTheDefaultUser(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "ann", "on", ">pw", "~*", "&*", "+@all")
	c := dial(t, startBerth(t, node.Addr()).Addr())
	script(t, c, "AUTH ann pw → OK", "WATCH aw:k → OK", "AUTH default x → OK", "MULTI → OK", "ACL WHOAMI → QUEUED", "SET aw:k 1 → QUEUED",
		"EXEC → [default OK]", "GET aw:k → 1")
}

// The connection on which AUTHs are checked is the last user's, and goes with the user.
func TestAUTHSurvivesTheRemovalOfAnotherUser(t *testing.T) {
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1")
	for _, user := range []string{"doomed", "spared"} {
		node.Do(t, "ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all")
	}
	script(t, dial(t, b.Addr()), "AUTH doomed secret → OK")
	c, direct := dial(t, b.Addr()), dial(t, node.Addr())
	script(t, direct, "PING → PONG")
	node.Pause()
	defer node.Resume()
	direct.Send("ACL", "DELUSER", "doomed")
	b.feed(c, pipeline("AUTH spared secret")) // which reaches the node after that
	pending := func() bool { return b.count(func(s *session) bool { return s.pause == pauseAnswering }) == 1 }
	eventually(t, "AUTH to be on its way", pending)
	node.Resume()
	if got := c.Recv(); got != "OK" {
		t.Errorf("AUTH: %v", got)
	}
	script(t, c, "ACL WHOAMI → spared")
	if got := direct.Recv(); got != int64(1) {
		t.Errorf("ACL DELUSER: %v", got)
	}
}
