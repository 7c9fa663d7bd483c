package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// withUsers is a node with a password and users of different rights.
func withUsers(t *testing.T) *redistest.Server {
	t.Helper()
	node := redistest.Start(t, "--requirepass", "secret", "--hz", "100")
	for _, user := range []string{
		"writer on >wpass ~* &* +@all",
		"reader on >rpass ~* &* -@all +@read +@connection +@transaction +info +command",
		"tenant on >tpass ~tenant:* &tenant:* +@all",
		"nopass on nopass ~* &* +@all",
		"off off >opass ~* +@all",
	} {
		if got := node.Do(t, "ACL", "SETUSER", strings.Fields(user)); got != "OK" {
			t.Fatal(got)
		}
	}
	return node
}

const (
	noAuth    = "NOAUTH Authentication required."
	wrongPass = "WRONGPASS invalid username-password pair or user is disabled."
)

func TestPasswordsAreCheckedByTheNode(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	b := startBerth(t, "redis://:secret@"+node.Addr())
	for _, c := range []struct{ login, then string }{
		{"AUTH secret", "ACL WHOAMI → default"},
		{"AUTH default secret", "ACL WHOAMI → default"},
		{"AUTH writer wpass", "ACL WHOAMI → writer"},
		{"AUTH nopass anything", "ACL WHOAMI → nopass"},
		{"HELLO 3 AUTH writer wpass", "ACL WHOAMI → writer"},
		{"HELLO 2 AUTH default secret SETNAME me", "CLIENT GETNAME → me"},
	} {
		client := dial(t, b.Addr())
		script(t, client, "GET k → "+noAuth)
		if got := client.Do(strings.Fields(c.login)); got == nil || strings.HasPrefix(fmt.Sprint(got), "WRONG") {
			t.Errorf("%s: %v", c.login, got)
		}
		script(t, client, c.then, "GET k → <nil>")
	}
	for _, login := range []string{"AUTH nope", "AUTH default nope", "AUTH writer secret", "AUTH nobody x", "AUTH off opass",
		"HELLO 3 AUTH writer nope", "HELLO 3 AUTH off opass"} {
		client := dial(t, b.Addr())
		script(t, client, login+" → "+wrongPass, "GET k → "+noAuth, "PING → "+noAuth)
	}
}

func TestAWrongPasswordLeavesTheClientWhoItWas(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	b := startBerth(t, "redis://:secret@"+node.Addr())
	c := dial(t, b.Addr())
	script(t, c, "AUTH tenant tpass → OK", "AUTH writer nope → "+wrongPass, "ACL WHOAMI → tenant",
		"SET other 1 → "+b.noKey())
	c.Send("HELLO", 3, "AUTH", "writer", "nope")
	c.Recv()
	script(t, c, "ACL WHOAMI → tenant")
	if got := c.DoRaw("GET", "tenant:nothing"); got != "$-1\r\n" {
		t.Errorf("HELLO 3 with a wrong password changed the protocol: %q", got)
	}
	script(t, c, "RESET → RESET", "GET k → "+noAuth, "AUTH secret → OK", "ACL WHOAMI → default")
}

// Some nodes leave out the refusal of an AUTH that comes together with others. The next reply must
// not be taken for it.
func TestWrongPasswordsAmongRightOnesLetNobodyIn(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	b := startBerth(t, "redis://:secret@"+node.Addr(), "--loops", "1")
	var clients []*redistest.Conn
	for range 40 {
		clients = append(clients, dial(t, b.Addr()))
	}
	for range 3 {
		for i, c := range clients {
			c.Send("AUTH", "default", []string{"nope", "secret"}[i%2])
			c.Send("GET", "k")
			c.Send("RESET")
		}
		for i, c := range clients {
			got := fmt.Sprint(c.Recv(), " ", c.Recv(), " ", c.Recv())
			if want := []string{wrongPass + " " + noAuth + " RESET", "OK <nil> RESET"}[i%2]; got != want {
				t.Fatalf("client %d: %s, want %s", i, got, want)
			}
		}
	}
}

// An AUTH changes nothing at the node: berth sends it again while connections are lost under it.
func TestAnAuthWhoseConnectionIsLostIsSentAgain(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">secret", "+@all", "~*")
	var kills atomic.Int64
	b := startBerth(t, startGate(t, node.Addr(), func(words string) {
		if strings.EqualFold(words, "auth bob secret") && kills.Add(-1) >= 0 {
			node.Do(t, "CLIENT", "KILL", "TYPE", "normal")
		}
	}).addr, "--loops", "1")
	c := dial(t, b.Addr())
	kills.Store(maxAuthLosses)
	got := fmt.Sprint(c.Do("AUTH", "bob", "secret"))
	if !strings.HasPrefix(got, "TRYAGAIN berth: ") || !strings.HasSuffix(got, ", command not executed") {
		t.Errorf("%d connections lost: %v", maxAuthLosses, got)
	}
	script(t, c, "ACL WHOAMI → default")
	kills.Store(maxAuthLosses - 1)
	script(t, c, "AUTH bob secret → OK", "ACL WHOAMI → bob")
}

func TestPasswordWhereNoneIsNeeded(t *testing.T) {
	node := sharedNode(t)
	b := startBerth(t, node.Addr())
	for _, login := range []string{"AUTH x", "AUTH default x", "AUTH nobody x", "HELLO 3 AUTH default x"} {
		want := dial(t, node.Addr()).Do(strings.Fields(login))
		got := dial(t, b.Addr()).Do(strings.Fields(login))
		if _, isMap := want.(redistest.Map); isMap {
			if _, ok := got.(redistest.Map); !ok {
				t.Errorf("%s: %v", login, got)
			}
			continue
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\n got %v\nwant %v", login, got, want)
		}
	}
}

func TestTheBackendsPasswordLetsNobodyIn(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	for _, backend := range []string{"redis://:secret@", "redis://writer:wpass@", "redis://default:secret@"} {
		b := startBerth(t, backend+node.Addr())
		c := dial(t, b.Addr())
		for _, command := range []string{"GET k", "SET k v", "PING", "INFO", "COMMAND", "CLIENT LIST", "CONFIG GET *", "CLUSTER SLOTS", "MULTI",
			"WATCH k", "BLPOP l 1", "SUBSCRIBE c", "MONITOR", "SELECT 1", "SELECT 0", "MGET a b", "KEYS *", "SCAN 0", "READONLY", "CLIENT ID",
			"ECHO x", "TIME", "DBSIZE", "FLUSHALL", "ACL WHOAMI", "CLIENT REPLY OFF", "SHUTDOWN", "WAIT 0 0"} {
			if got := fmt.Sprint(c.Do(strings.Fields(command))); got != noAuth {
				t.Errorf("%s: %s without AUTH: %s", backend, command, got)
			}
		}
		for _, command := range []string{"MODULE LOAD x", "MODULE LOADEX x", "MODULE UNLOAD x", "NOSUCH", "GET", "CLIENT", "CLIENT NOSUCH", "EVAL", "AUTH", "RESET x"} { // Redis and Valkey before 9.1 refuse these for what they are
			want := fmt.Sprint(dial(t, node.Addr()).Do(strings.Fields(command)))
			if got := fmt.Sprint(c.Do(strings.Fields(command))); got != want || got == noAuth && !b.srv.vetsFirst() {
				t.Errorf("%s: %s without AUTH: %s, by the node %s", backend, command, got, want)
			}
		}
		if s := b.leases(); s.Leased+s.Idle+s.Dialing != 0 {
			t.Errorf("an unauthenticated client took a connection: %+v", s)
		}
	}
}

func TestRightsAreTheUsersOwn(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	b := startBerth(t, "redis://:secret@"+node.Addr(), "--loops", "1")
	reader, writer, tenant := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	script(t, reader, "AUTH reader rpass → OK")
	script(t, writer, "AUTH writer wpass → OK")
	script(t, tenant, "AUTH tenant tpass → OK")
	noKey := b.noKey()
	for range 3 { // whoever came before on whatever connection
		script(t, writer, "SET k 1 → OK", "WATCH k → OK", "MULTI → OK", "SET k 1 → QUEUED", "EXEC → [OK]", "BLPOP l 0.001 → <nil>")
		script(t, reader, "GET k → 1", "SET k 2 → "+b.noCommand("reader", "set"), "WATCH k → OK", "GET k → 1", "UNWATCH → OK",
			"BLPOP l 0.001 → "+b.noCommand("reader", "blpop"))
		script(t, tenant, "GET k → "+noKey, "SET tenant:k 1 → OK", "WATCH k → "+noKey, "WATCH tenant:k → OK", "MULTI → OK", "GET tenant:k → QUEUED",
			"EXEC → [1]", "BLPOP l 0.001 → "+noKey, "MGET tenant:k k → "+noKey)
	}
	script(t, tenant, "MULTI → OK", "SET k 5 → "+noKey, "EXEC → EXECABORT Transaction discarded because of previous errors.")
	script(t, writer, "GET k → 1")
}

func TestIdentitiesOfManyClientsDoNotMix(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	const users = 6
	for u := range users {
		node.Do(t, "ACL", "SETUSER", fmt.Sprint("u", u), "on", fmt.Sprint(">p", u), fmt.Sprintf("~u%d:*", u), "&*", "+@all")
	}
	b := startBerth(t, node.Addr(), "--private-conn-pool-max-total", "4")
	var wg sync.WaitGroup
	for client := range 4 * users {
		wg.Go(func() {
			c, err := redistest.TryDial(t, b.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			say := func(want string, args ...any) {
				if got, err := c.TryDo(args...); err != nil || fmt.Sprint(got) != want {
					t.Errorf("client %d, %v: %v (%v), want %s", client, args, got, err, want)
				}
			}
			for round := range 15 {
				u := (client + round) % users
				me, key := fmt.Sprint("u", u), fmt.Sprintf("u%d:%d", u, client)
				say("OK", "AUTH", me, fmt.Sprint("p", u))
				say(me, "ACL", "WHOAMI")
				say("OK", "SET", key, round)
				say("OK", "WATCH", key)
				say(me, "ACL", "WHOAMI")
				say("OK", "MULTI")
				say("QUEUED", "ACL", "WHOAMI")
				say("QUEUED", "GET", key)
				exec, err := c.TryDo("EXEC")
				if want := fmt.Sprintf("[%s %d]", me, round); err != nil || exec != nil && fmt.Sprint(exec) != want { // nil: others waited too long
					t.Errorf("client %d, EXEC: %v (%v), want %s", client, exec, err, want)
				}
				say(b.noKey(), "GET", fmt.Sprintf("u%d:0", (u+1)%users))
				if round%5 == 4 {
					say("RESET", "RESET")
					say("default", "ACL", "WHOAMI")
				}
			}
		})
	}
	wg.Wait()
}

func TestPasswordChangedWhileClientsAreConnected(t *testing.T) {
	parallel(t)
	node := withUsers(t)
	b := startBerth(t, "redis://:secret@"+node.Addr())
	c := dial(t, b.Addr())
	script(t, c, "AUTH writer wpass → OK", "SET k 1 → OK", "WATCH k → OK", "UNWATCH → OK")
	node.Do(t, "ACL", "SETUSER", "writer", "resetpass", ">newpass")
	script(t, c, "GET k → 1") // as with Redis, who is in stays in
	late := dial(t, b.Addr())
	script(t, late, "AUTH writer wpass → "+wrongPass, "AUTH writer newpass → OK", "GET k → 1", "WATCH k → OK", "MULTI → OK", "EXEC → []")
	// A user that is removed is thrown out by the node; berth's client hears of it in words, and is
	// nobody else.
	node.Do(t, "ACL", "DELUSER", "writer")
	for _, x := range []*redistest.Conn{c, late} {
		if got, err := x.TryDo("GET", "k"); err == nil && (got == "1" || got == nil) {
			t.Errorf("a removed user reads %v", got)
		}
		if got, err := x.TryDo("SET", "k", "2"); err == nil && got == "OK" {
			t.Error("a removed user writes")
		}
	}
	script(t, dial(t, b.Addr()), "AUTH secret → OK", "GET k → 1")
}

func TestDatabasesAreCheckedAndKeptApart(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--databases", "4", "--hz", "100")
	b := startBerth(t, node.Addr(), "--loops", "1", "--private-conn-pool-max-total", "1")
	var clients []*redistest.Conn
	for db := range 4 {
		c := dial(t, b.Addr())
		script(t, c, fmt.Sprintf("SELECT %d → OK", db), fmt.Sprintf("SET k %d → OK", db))
		clients = append(clients, c)
	}
	for range 3 {
		for db, c := range clients {
			k := fmt.Sprint(db)
			script(t, c, "GET k → "+k, "WATCH k → OK", "GET k → "+k, "MULTI → OK", "GET k → QUEUED", "EXEC → ["+k+"]",
				"RPUSH l "+k+" → 1", "BLPOP l 1 → [l "+k+"]")
		}
	}
	c := clients[2]
	script(t, c, "SELECT 4 → ERR DB index is out of range", "GET k → 2", "SELECT -1 → ERR DB index is out of range",
		"SELECT x → ERR value is not an integer or out of range", "SELECT 99999999999 → ERR value is out of range, value must between -2147483648 and 2147483647",
		"GET k → 2",
		"SELECT 3 → OK", "GET k → 3", "RESET → RESET", "GET k → 0")
	c.WriteString(pipeline("SELECT 1", "GET k", "SELECT 9", "GET k", "SELECT 2", "GET k"))
	if got := strings.Join(replies(c, 6), ""); got != "+OK\r\n$1\r\n1\r\n-ERR DB index is out of range\r\n$1\r\n1\r\n+OK\r\n$1\r\n2\r\n" {
		t.Errorf("%q", got)
	}
	over := startBerth(t, clusterURL(sharedCluster(t)))
	script(t, dial(t, over.Addr()), "SELECT 0 → OK", "SELECT 1 → ERR SELECT is not allowed in cluster mode")
	from := startBerth(t, "redis://"+node.Addr()+"/3")
	script(t, dial(t, from.Addr()), "GET k → 3", "SELECT 1 → OK", "GET k → 1", "RESET → RESET", "GET k → 3")
}
