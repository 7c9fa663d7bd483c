package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// wantSaid fails the test unless a reply is as it shall be.
func wantSaid(t testing.TB, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, not %v", what, got, want)
	}
}

func TestClientsGoOnAtAnotherBackend(t *testing.T) {
	parallel(t)
	a, b, cluster := redistest.Start(t), redistest.Start(t), redistest.StartCluster(t, 3, 0)
	for node, name := range map[interface {
		Do(testing.TB, ...any) any
	}]string{a: "a", b: "b"} {
		node.Do(t, "SET", "name", name)
	}
	berth := startBerth(t, a.Addr())
	c := dial(t, berth.Addr())
	wantSaid(t, "before", c.Do("GET", "name"), "a")

	berth.set("backend", "redis://"+b.Addr()+"/0")
	wantSaid(t, "after", c.Do("GET", "name"), "b")
	wantSaid(t, "a new client", dial(t, berth.Addr()).Do("GET", "name"), "b")

	berth.set("backend", clusterURL(cluster))
	for i := range 50 {
		wantSaid(t, "SET over the Cluster", c.Do("SET", fmt.Sprint("key", i), i), "OK")
	}
	wantSaid(t, "DBSIZE over the Cluster", c.Do("DBSIZE"), 50)
	if reply := fmt.Sprint(c.Do("CLUSTER", "INFO")); !strings.Contains(reply, "cluster_state:ok") {
		t.Errorf("CLUSTER INFO: %s", reply)
	}
	if reply := fmt.Sprint(c.Do("INFO", "server")); !strings.Contains(reply, "redis_mode:cluster") {
		t.Errorf("INFO server: %s", reply)
	}

	berth.set("backend", "redis://"+a.Addr())
	wantSaid(t, "back", c.Do("GET", "name"), "a")
	wantSaid(t, "SELECT", c.Do("SELECT", 5), "OK")
	eventually(t, "the connections to the nodes before to end", func() bool {
		return strings.Count(fmt.Sprint(b.Do(t, "CLIENT", "LIST")), "\n") == 1
	})
}

func TestClientsInTheURLsDatabaseMoveToThatOfTheNewOne(t *testing.T) {
	parallel(t)
	a, b := redistest.Start(t), redistest.Start(t)
	berth := startBerth(t, "redis://"+a.Addr()+"/1")
	plain, other := dial(t, berth.Addr()), dial(t, berth.Addr())
	other.Do("SELECT", 7)
	berth.set("backend", "redis://"+b.Addr()+"/3")
	plain.Do("SET", "k", "plain")
	other.Do("SET", "k", "other")
	direct := dial(t, b.Addr())
	direct.Do("SELECT", 3)
	wantSaid(t, "database of the URL", direct.Do("GET", "k"), "plain")
	direct.Do("SELECT", 7)
	wantSaid(t, "database of the client's choice", direct.Do("GET", "k"), "other")
}

func TestBackendThatDoesNotAnswerIsRefused(t *testing.T) {
	parallel(t)
	a, hung := redistest.Start(t), redistest.Start(t)
	berth := startBerth(t, a.Addr(), "--backend-connect-timeout-ms", "300")
	c := dial(t, berth.Addr())
	c.Do("SET", "name", "a")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	hung.Pause()
	defer hung.Resume()
	for url, why := range map[string]string{
		"redis://" + nobody:                "connection refused",
		"redis://" + hung.Addr():           "timeout",
		"http://" + a.Addr():               "a backend begins with",
		"redis://" + a.Addr() + "/77":      "has no database 77",
		"redis://" + berth.Addr():          "leads back to this berth",
		"":                                 "no way to the embedded backend",
		"redis://u@" + a.Addr():            "no password for the backend's user",
		"redis://u:wrong@" + a.Addr():      "refuses the user and password",
		"sentinel://" + a.Addr() + "/prim": "no Sentinel",
	} {
		reply := fmt.Sprint(c.Do("CONFIG", "SET", "backend", url))
		if !strings.Contains(reply, why) || strings.Contains(reply, "wrong@") {
			t.Errorf("CONFIG SET backend %s: %s", url, reply)
		}
		wantSaid(t, "after "+url, c.Do("GET", "name"), "a")
		wantSaid(t, "CONFIG GET", c.Do("CONFIG", "GET", "backend"), []any{"backend", "redis://" + a.Addr()})
	}
}

func TestNothingElseChangesWithABackendThatIsRefused(t *testing.T) {
	parallel(t)
	berth := startBerth(t, redistest.Start(t).Addr(), "--backend-connect-timeout-ms", "300")
	c, port := dial(t, berth.Addr()), freePort(t)
	if reply := fmt.Sprint(c.Do("CONFIG", "SET", "port", port, "backend", "redis://127.0.0.1:1")); !strings.Contains(reply, "refused") {
		t.Fatalf("CONFIG SET: %s", reply)
	}
	wantSaid(t, "a new client", dial(t, berth.Addr()).Do("PING"), "PONG")
	if _, err := redistest.TryDial(t, "127.0.0.1:"+port); err == nil {
		t.Error("berth listens where it was not to")
	}
}

func TestNothingOfAWatchOrTrackedKeyOutlivesTheBackend(t *testing.T) {
	parallel(t)
	a, b, cluster := redistest.Start(t), redistest.Start(t), redistest.StartCluster(t, 3, 0)
	berth := startBerth(t, a.Addr())
	tracking, bcast, watching, queued := dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr())
	for _, c := range []*redistest.Conn{tracking, bcast} {
		c.Do("HELLO", 3)
	}
	wantSaid(t, "tracking", tracking.Do("CLIENT", "TRACKING", "ON"), "OK")
	wantSaid(t, "tracking", bcast.Do("CLIENT", "TRACKING", "ON", "BCAST"), "OK")
	tracking.Do("GET", "k")
	for i, url := range []string{"redis://" + b.Addr(), clusterURL(cluster), "redis://" + a.Addr()} {
		wantSaid(t, "WATCH", watching.Do("WATCH", "k"), "OK")
		wantSaid(t, "MULTI", queued.Do("MULTI"), "OK")
		wantSaid(t, "queued", queued.Do("SET", "q", i), "QUEUED")
		berth.set("backend", url)
		watching.Do("MULTI")
		watching.Do("SET", "k", "stale")
		wantSaid(t, "EXEC after WATCH", watching.Do("EXEC"), nil)
		if reply := fmt.Sprint(queued.Do("EXEC")); reply != "[OK]" && !(i == 1 && strings.HasPrefix(reply, "EXECABORT")) {
			t.Errorf("EXEC of what was queued before: %s", reply)
		}
		for _, c := range []*redistest.Conn{tracking, bcast} {
			for got := fmt.Sprint(c.Recv()); !strings.Contains(got, "nil"); got = fmt.Sprint(c.Recv()) {
				if !strings.Contains(got, "invalidate") {
					t.Fatalf("a client that tracks: %s", got)
				}
			}
		}
		direct := dial(t, berth.Addr())
		eventually(t, "the client that tracks all keys to hear of one", func() bool {
			direct.Do("SET", "heard", i)
			got, err := bcast.TryDo("PING")
			return err != nil || strings.Contains(fmt.Sprint(got), "heard")
		})
		for got := fmt.Sprint(bcast.Do("ECHO", "end")); got != "end"; got = fmt.Sprint(bcast.Recv()) {
		}
		drain := func() {
			for got := fmt.Sprint(tracking.Do("ECHO", "end")); got != "end"; got = fmt.Sprint(tracking.Recv()) {
			}
		}
		drain()
		tracking.Do("GET", "k")
		drain()
		direct.Do("SET", "k", i)
		if got := fmt.Sprint(tracking.Recv()); !strings.Contains(got, "invalidate") {
			t.Errorf("after a write to a key that was read: %s", got)
		}
	}
}

func TestClientsWithAListeningConnectionOfTheirOwnListenToTheNewNodes(t *testing.T) {
	parallel(t)
	a, b, cluster := redistest.Start(t), redistest.Start(t), redistest.StartCluster(t, 3, 0)
	berth := startBerth(t, a.Addr(), "--pubsub-sharing", "no")
	monitor, sub, c := dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr())
	wantSaid(t, "MONITOR", monitor.Do("MONITOR"), "OK")
	sub.Do("SUBSCRIBE", "one")
	sub.Do("SUBSCRIBE", "two")
	sub.Do("PSUBSCRIBE", "t*")
	for _, url := range []string{"redis://" + b.Addr(), clusterURL(cluster), "redis://" + a.Addr()} {
		berth.set("backend", url)
		eventually(t, "the subscriber to listen again", func() bool { return fmt.Sprint(c.Do("PUBSUB", "NUMPAT")) == "1" })
		c.Do("PUBLISH", "two", url)
		wantSaid(t, "a message", sub.Recv(), []any{"message", "two", url})
		wantSaid(t, "a message", sub.Recv(), []any{"pmessage", "t*", "two", url})
		if strings.Contains(url, ",") { // which shows what one primary does
			continue
		}
		c.Do("SET", "shown", url)
		for got := fmt.Sprint(monitor.Recv()); !strings.Contains(got, `"SET" "shown" "`+url); got = fmt.Sprint(monitor.Recv()) {
		}
	}
	wantSaid(t, "one more", sub.Do("SUBSCRIBE", "three"), []any{"subscribe", "three", 4})
}

func TestUsersAreJudgedByTheNewNodes(t *testing.T) {
	parallel(t)
	a, b := redistest.Start(t), redistest.Start(t)
	for _, rule := range [][]any{{"both", "on", ">one", "~*", "+@all"}, {"old", "on", ">one", "~*", "+@all"}} {
		a.Do(t, append([]any{"ACL", "SETUSER"}, rule...)...)
	}
	b.Do(t, "ACL", "SETUSER", "both", "on", ">one", "~*", "+get", "+ping")
	berth := startBerth(t, a.Addr())
	both, old, changed := dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr())
	both.Do("AUTH", "both", "one")
	old.Do("AUTH", "old", "one")
	for _, c := range []*redistest.Conn{both, old} {
		wantSaid(t, "before", c.Do("SET", "k", 1), "OK")
		if reply := fmt.Sprint(c.Do("CONFIG", "GET", "port")); !strings.Contains(reply, "port") {
			t.Errorf("before: %s", reply)
		}
	}
	changed.Do("PING")
	berth.set("backend", "redis://"+b.Addr())
	wantSaid(t, "GET at the new nodes", both.Do("GET", "k"), nil)
	if reply := fmt.Sprint(both.Do("SET", "k", 1)); !strings.HasPrefix(reply, "NOPERM") {
		t.Errorf("SET at the new nodes: %s", reply)
	}
	if reply := fmt.Sprint(both.Do("CONFIG", "GET", "port")); !strings.HasPrefix(reply, "NOPERM") {
		t.Errorf("a command of berth's own: %s", reply)
	}
	if reply, err := old.TryDo("CONFIG", "GET", "port"); err == nil && !strings.HasPrefix(fmt.Sprint(reply), "WRONGPASS") {
		t.Errorf("a user whom the new nodes do not have: %v", reply)
	}
	if reply, err := old.TryDo("GET", "k"); err == nil && !strings.HasPrefix(fmt.Sprint(reply), "WRONGPASS") {
		t.Errorf("a user whom the new nodes do not have: %v", reply)
	}
}

func TestUserOfTheSameNameMustProveItselfToTheNewNodes(t *testing.T) {
	parallel(t)
	a, b := redistest.Start(t), redistest.Start(t)
	for node, password := range map[*redistest.Server]string{a: ">one", b: ">two"} {
		node.Do(t, "ACL", "SETUSER", "ann", "on", password, "~*", "&*", "+@all")
		node.Do(t, "ACL", "SETUSER", "bob", "on", ">same", "~*", "&*", "+@all", "-ping")
	}
	berth := startBerth(t, a.Addr())
	used, idle, queued, bob := dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr())
	for _, c := range []*redistest.Conn{used, idle, queued} {
		wantSaid(t, "AUTH", c.Do("AUTH", "ann", "one"), "OK")
	}
	wantSaid(t, "AUTH", bob.Do("AUTH", "bob", "same"), "OK")
	for _, c := range []*redistest.Conn{used, bob} {
		wantSaid(t, "before", c.Do("CONFIG", "SET", "timeout", 1000), "OK")
	}
	wantSaid(t, "MULTI", queued.Do("MULTI"), "OK")
	berth.set("backend", "redis://"+b.Addr())
	for _, c := range []*redistest.Conn{used, idle, queued} {
		if reply, err := c.TryDo("CONFIG", "SET", "timeout", 2000); err == nil && !strings.HasPrefix(fmt.Sprint(reply), "WRONGPASS") {
			t.Errorf("another user of the same name: %v", reply)
		}
	}
	wantSaid(t, "CONFIG SET", bob.Do("CONFIG", "SET", "timeout", 3000), "OK")
	ann := dial(t, berth.Addr())
	wantSaid(t, "AUTH", ann.Do("AUTH", "ann", "two"), "OK")
	wantSaid(t, "CONFIG SET", ann.Do("CONFIG", "SET", "timeout", 4000), "OK")
	wantSaid(t, "ACL LOG", strings.Contains(fmt.Sprint(b.Do(t, "ACL", "LOG")), "bob"), false)
}

// A client of the default user shares its connections with others, and berth logs in there with a password
// of its own.
func TestDefaultUserMustProveItselfToTheNewNodes(t *testing.T) {
	parallel(t)
	free, locked, same := redistest.Start(t), redistest.Start(t, "--requirepass", "secret"), redistest.Start(t, "--requirepass", "secret")
	berth := startBerth(t, free.Addr())
	c, blocked, watching := dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr())
	sub := dial(t, berth.Addr())
	wantSaid(t, "before", c.Do("SET", "k", 1), "OK")
	blocked.Send("BLPOP", "list", 0)
	watching.Do("WATCH", "k")
	sub.Do("SUBSCRIBE", "news")
	eventually(t, "the client to block", func() bool {
		return strings.Contains(fmt.Sprint(free.Do(t, "INFO", "clients")), "blocked_clients:1")
	})
	berth.set("backend", "redis://:secret@"+locked.Addr())
	if reply := fmt.Sprint(c.Do("GET", "k")); !strings.HasPrefix(reply, "NOAUTH") {
		t.Errorf("a client that gave no password: %s", reply)
	}
	if reply := fmt.Sprint(watching.Do("GET", "k")); !strings.HasPrefix(reply, "NOAUTH") {
		t.Errorf("a client that gave no password, and watched: %s", reply)
	}
	locked.Do(t, "RPUSH", "list", "secret element")
	if reply := fmt.Sprint(blocked.Recv()); !strings.HasPrefix(reply, "NOAUTH") {
		t.Errorf("a client that gave no password, and was blocked: %s", reply)
	}
	locked.Do(t, "PUBLISH", "news", "secret news")
	sub.SetTimeout(redistest.Patience(5 * time.Second))
	if reply, err := sub.TryRecv(); err == nil && !strings.HasPrefix(fmt.Sprint(reply), "NOAUTH") {
		t.Errorf("a subscriber that gave no password: %v", reply)
	}
	wantSaid(t, "a wrong password", strings.HasPrefix(fmt.Sprint(c.Do("AUTH", "wrong")), "WRONGPASS"), true)
	wantSaid(t, "AUTH", c.Do("AUTH", "secret"), "OK")
	wantSaid(t, "after AUTH", c.Do("SET", "k", 2), "OK")

	berth.set("backend", "redis://:secret@"+same.Addr())
	wantSaid(t, "whose password the new nodes accept", c.Do("SET", "k", 3), "OK")
	if reply := fmt.Sprint(watching.Do("GET", "k")); !strings.HasPrefix(reply, "NOAUTH") {
		t.Errorf("a client that still gave no password: %s", reply)
	}
	same.Do(t, "CONFIG", "SET", "requirepass", "other")
	berth.set("backend", "redis://"+free.Addr())
	wantSaid(t, "where no password is wanted", watching.Do("PING"), "PONG")
}

func TestBackendsOfAllKindsFollowEachOther(t *testing.T) {
	parallel(t)
	dir, err := os.MkdirTemp("", "berth") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca := redistest.NewAuthority(t)
	secure := startTLSNode(t, ca, []string{"127.0.0.1"})
	redistest.Start(t, "--unixsocket", filepath.Join(dir, "s"), "--requirepass", "secret")
	watched := redistest.StartWatched(t, 1, 3)
	berth := startBerth(t, "")
	c, sub := dial(t, berth.Addr()), dial(t, berth.Addr())
	c.Do("SET", "at", "embedded")
	sub.Do("SUBSCRIBE", "news")
	for i, set := range [][]string{
		{"backend", watched.URL()},
		{"backend", secure.url(), "backend-tls-ca-file", ca.Path},
		{"backend", "redis://127.0.0.1:" + strings.Split(secure.Addr(), ":")[1]},
		{"backend", secure.url()},
		{"backend", watched.URL()},
		{"backend", "unix://" + filepath.Join(dir, "s"), "backend-password", "secret"},
	} {
		var words []any
		for _, word := range append([]string{"CONFIG", "SET"}, set...) {
			words = append(words, word)
		}
		wantSaid(t, fmt.Sprint(set), c.Do(words...), "OK")
		if i == 5 { // which wants a password that the client has not given
			wantSaid(t, "AUTH", c.Do("AUTH", "secret"), "OK")
		}
		wantSaid(t, "nothing of the one before", c.Do("SET", fmt.Sprint("at", i), i, "GET"), nil)
		wantSaid(t, "its own", c.Do("GET", fmt.Sprint("at", i)), i)
		if i < 5 {
			eventually(t, "the subscriber to listen again", func() bool { return fmt.Sprint(c.Do("PUBLISH", "news", i)) == "1" })
			wantSaid(t, "a message", sub.Recv(), []any{"message", "news", fmt.Sprint(i)})
		}
		if shown := fmt.Sprint(c.Do("CONFIG", "GET", "backend*")); strings.Contains(shown, "secret") {
			t.Errorf("CONFIG GET shows %s", shown)
		}
	}
	watched.Failover(t) // which is nothing to berth any more
	wantSaid(t, "after a failover elsewhere", c.Do("GET", "at5"), 5)
}

func TestClientsThatAreBlockedGoOnAtAnotherBackend(t *testing.T) {
	parallel(t)
	a, b, cluster := redistest.Start(t), redistest.Start(t), redistest.StartCluster(t, 3, 0)
	a.Do(t, "ACL", "SETUSER", "ann", "on", ">one", "~*", "&*", "+@all")
	b.Do(t, "ACL", "SETUSER", "ann", "on", ">one", "~*", "&*", "+@all")
	for i := range 3 {
		cluster.Node(i).Do(t, "ACL", "SETUSER", "ann", "on", ">one", "~*", "&*", "+@all")
	}
	berth := startBerth(t, a.Addr())
	c := dial(t, berth.Addr())
	first, second, ann, stream, alone := dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr()), dial(t, berth.Addr())
	ann.Do("AUTH", "ann", "one")
	alone.Do("WATCH", "k")
	blocked := func(n int) {
		eventually(t, "clients to block", func() bool {
			return strings.Contains(fmt.Sprint(c.Do("INFO", "clients")), fmt.Sprintf("blocked_clients:%d\r", n))
		})
	}
	first.Send("BLPOP", "list", 0)
	blocked(1)
	second.Send("BLPOP", "list", 0)
	ann.Send("BRPOP", "anns", 0)
	stream.Send("XREAD", "BLOCK", 0, "STREAMS", "st", "$")
	alone.Send("BLPOP", "list", 0)
	blocked(5)
	for i, url := range []string{"redis://" + b.Addr(), "redis://" + a.Addr() + "/2", clusterURL(cluster)} {
		berth.set("backend", url)
		if i == 0 {
			wantSaid(t, "one that watches", alone.Recv(), "UNBLOCKED client unblocked via CLIENT UNBLOCK")
		}
	}
	a.Do(t, "RPUSH", "list", "wrong")
	b.Do(t, "RPUSH", "list", "wrong")
	c.Do("RPUSH", "list", "1", "2")
	got := fmt.Sprint(first.Recv(), second.Recv())
	if got != "[list 1] [list 2]" {
		t.Errorf("those that wait for the list: %s", got)
	}
	c.Do("RPUSH", "anns", "3")
	wantSaid(t, "another user", ann.Recv(), []any{"anns", "3"})
	c.Do("XADD", "st", "*", "f", "v")
	if got := fmt.Sprint(stream.Recv()); !strings.Contains(got, "[f v]") {
		t.Errorf("the stream: %s", got)
	}
}

// What the old node pops in the moment of the move goes to the client, wherever that waits by now.
func TestElementPoppedWhileTheBackendChangesIsNotLost(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	for _, url := range []string{clusterURL(cluster), "redis://" + redistest.Start(t).Addr() + "/3"} {
		a := redistest.Start(t)
		berth := startBerth(t, "redis://"+a.Addr()+"/1", "--loops", "1")
		c, direct, list := dial(t, berth.Addr()), dial(t, a.Addr()), unique("list")
		direct.Do("SELECT", 1)
		c.Do("GET", list) // by the pipe on which the node will be asked to end the wait: there is no other one later
		c.Send("BLPOP", list, 0)
		eventually(t, "the client to block", func() bool {
			return strings.Contains(fmt.Sprint(a.Do(t, "INFO", "clients")), "blocked_clients:1")
		})
		a.Pause()
		direct.Send("RPUSH", list, "x") // the node reads it before what berth says because of the move
		berth.set("backend", url)
		a.Resume()
		direct.Recv()
		if left := direct.Do("LLEN", list); left != int64(0) {
			t.Logf("to %s: the node has ended the wait first", url)
			dial(t, berth.Addr()).Do("RPUSH", list, "x")
		}
		wantSaid(t, "to "+url, c.Recv(), []any{list, "x"})
	}
}

func TestRequestOnItsWayIsAnsweredByTheOldNode(t *testing.T) {
	parallel(t)
	a, b := redistest.Start(t), redistest.Start(t)
	a.Do(t, "SET", "name", "a")
	b.Do(t, "SET", "name", "b")
	berth := startBerth(t, a.Addr())
	early, late := dial(t, berth.Addr()), dial(t, berth.Addr())
	wantSaid(t, "before", early.Do("GET", "name"), "a")
	a.Pause()
	defer a.Resume()
	berth.feed(early, string(redistest.Command("GET", "name")))
	berth.set("backend", "redis://"+b.Addr())
	wantSaid(t, "a client that is owed nothing", late.Do("GET", "name"), "b")
	early.Send("GET", "name")
	eventually(t, "longer than a node that serves nothing has otherwise", func() bool {
		rows := berth.srv.look(0).BackendRows()
		return len(rows) > 0 && time.Since(berth.srv.started) > pipe.RetiredPatience+time.Second
	})
	a.Resume()
	wantSaid(t, "what was on its way", early.Recv(), "a")
	wantSaid(t, "what came after it", early.Recv(), "b")
}

// moves are what clients see while the backend changes.
type movingClients struct {
	t      *testing.T
	berth  *berthServer
	stop   atomic.Bool
	all    sync.WaitGroup
	pushed atomic.Int64
	popped sync.Map // elements
	twice  atomic.Int64
	heard  atomic.Int64
	execs  atomic.Int64
	ended  atomic.Bool // the subscriber has heard its last message
}

// run has a client do something again and again until stop.
func (m *movingClients) run(what string, f func(c *redistest.Conn, i int) error) {
	c := dial(m.t, m.berth.Addr())
	m.all.Go(func() {
		for i := 0; !m.stop.Load(); i++ {
			if err := f(c, i); err != nil {
				m.t.Errorf("%s: %v", what, err)
				return
			}
		}
	})
}

// exchange sends commands in one piece and returns their replies.
func exchange(c *redistest.Conn, commands ...[]any) (replies []any, err error) {
	var b []byte
	for _, words := range commands {
		b = append(b, redistest.Command(words...)...)
	}
	if err := c.TryWrite(b); err != nil {
		return nil, err
	}
	for range commands {
		reply, err := c.TryRecv()
		if err != nil {
			return nil, err
		}
		if e, is := reply.(redistest.Error); is {
			return nil, e
		}
		replies = append(replies, reply)
	}
	return replies, nil
}

func (m *movingClients) readsAndWrites(id int) {
	key := fmt.Sprint("own.", id)
	m.run("SET and GET", func(c *redistest.Conn, i int) error {
		value := fmt.Sprint(id, ".", i)
		replies, err := exchange(c, []any{"SET", key, value}, []any{"GET", key}, []any{"RPUSH", "seq." + key, i}, []any{"GET", key})
		if err != nil {
			return err
		}
		for _, got := range []any{replies[1], replies[3]} { // nil and older ones: the new backend has not got it
			if text, is := got.(string); got != nil && (!is || !strings.HasPrefix(text, fmt.Sprint(id, "."))) {
				return fmt.Errorf("%s is %v", key, got)
			}
		}
		return nil
	})
}

func (m *movingClients) transacts(id int) {
	key := fmt.Sprint("{txn.", id, "}")
	m.run("MULTI and WATCH", func(c *redistest.Conn, i int) error {
		var before [][]any
		if i%2 == 0 {
			before = [][]any{{"WATCH", key}}
		}
		replies, err := exchange(c, append(before, []any{"MULTI"}, []any{"SET", key, i}, []any{"GET", key}, []any{"EXEC"})...)
		switch {
		case err != nil && strings.HasPrefix(err.Error(), "EXECABORT"): // what was queued has no slots: the rest is read
			for {
				if got := fmt.Sprint(c.Do("ECHO", "end")); got == "end" {
					return nil
				}
			}
		case err != nil:
			return err
		}
		switch last := replies[len(replies)-1].(type) {
		case nil:
		case []any:
			m.execs.Add(1)
			if fmt.Sprint(last) != fmt.Sprintf("[OK %d]", i) {
				return fmt.Errorf("EXEC %v", last)
			}
		}
		return nil
	})
}

func (m *movingClients) pushes() {
	m.run("RPUSH", func(c *redistest.Conn, i int) error {
		if _, err := exchange(c, []any{"RPUSH", "queue", m.pushed.Load()}); err != nil {
			return err
		}
		m.pushed.Add(1)
		return nil
	})
}

func (m *movingClients) pops() {
	m.run("BLPOP", func(c *redistest.Conn, i int) error {
		replies, err := exchange(c, []any{"BLPOP", "queue", "0.3"})
		if err != nil {
			return err
		}
		if pair, is := replies[0].([]any); is {
			if _, has := m.popped.LoadOrStore(fmt.Sprint(pair[1]), true); has {
				m.twice.Add(1)
			}
		}
		return nil
	})
}

func (m *movingClients) listens() {
	c := dial(m.t, m.berth.Addr())
	c.Do("SUBSCRIBE", "news")
	go func() {
		defer m.ended.Store(true)
		for !m.stop.Load() {
			got, err := c.TryRecv()
			if err != nil {
				m.t.Errorf("a subscriber: %v", err)
				return
			}
			if words, is := got.([]any); !is || len(words) != 3 || words[1] != "news" {
				m.t.Errorf("a subscriber hears %v", got)
				return
			}
			m.heard.Add(1)
		}
	}()
	m.run("PUBLISH", func(c *redistest.Conn, i int) error {
		_, err := exchange(c, []any{"PUBLISH", "news", i})
		return err
	})
}

func TestBackendChangesUnderLoad(t *testing.T) {
	parallel(t)
	a, b, cluster := redistest.Start(t), redistest.Start(t), redistest.StartCluster(t, 3, 0)
	for _, node := range []*redistest.Server{a, b, cluster.Node(0), cluster.Node(1), cluster.Node(2)} {
		node.Do(t, "ACL", "SETUSER", "ann", "on", ">one", "~*", "&*", "+@all")
	}
	berth := startBerth(t, a.Addr())
	m := &movingClients{t: t, berth: berth}
	for id := range 6 {
		m.readsAndWrites(id)
	}
	for id := range 4 {
		m.transacts(id)
	}
	m.pushes()
	for range 4 {
		m.pops()
	}
	m.listens()
	m.run("MSET and MGET", func(c *redistest.Conn, i int) error {
		replies, err := exchange(c, []any{"MSET", "m1", "1", "m2", "2", "m3", "3"}, []any{"MGET", "m1", "m2", "m3"}, []any{"DBSIZE"})
		if err == nil && fmt.Sprint(replies[1]) != "[1 2 3]" && fmt.Sprint(replies[1]) != "[<nil> <nil> <nil>]" {
			err = fmt.Errorf("MGET: %v", replies[1])
		}
		return err
	})
	m.run("EVAL", func(c *redistest.Conn, i int) error {
		replies, err := exchange(c, []any{"EVAL", "return ARGV[1]", 1, "e", i})
		if err == nil && fmt.Sprint(replies[0]) != fmt.Sprint(i) {
			err = fmt.Errorf("%v is not %d", replies[0], i)
		}
		return err
	})
	m.run("AUTH", func(_ *redistest.Conn, i int) error {
		c, err := redistest.TryDial(t, berth.Addr())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = exchange(c, []any{"AUTH", "ann", "one"}, []any{"SET", "ann", i}, []any{"CONFIG", "GET", "port"})
		return err
	})
	for _, url := range []string{
		"redis://" + b.Addr(), clusterURL(cluster), "redis://" + a.Addr(), clusterURL(cluster), "redis://" + b.Addr(), "redis://" + a.Addr(),
	} {
		heard, pushed, execs := m.heard.Load(), m.pushed.Load(), m.execs.Load()
		eventually(t, "clients to be at work", func() bool {
			return m.heard.Load() > heard+20 && m.pushed.Load() > pushed+20 && m.execs.Load() > execs+20 || t.Failed()
		})
		t.Logf("%s: %d heard", url, m.heard.Load()-heard)
		began := time.Now()
		berth.set("backend", url)
		t.Logf("took %v", time.Since(began))
	}
	m.stop.Store(true)
	m.all.Wait()
	last := dial(t, berth.Addr())
	eventually(t, "the subscriber to hear the last message", func() bool {
		last.Do("PUBLISH", "news", "last")
		return m.ended.Load()
	})
	left := map[string]int{}
	for _, addr := range []string{a.Addr(), b.Addr(), cluster.Node(cluster.Owner(int(router.Slot([]byte("queue"))))).Addr()} {
		c := dial(t, addr)
		all, _ := c.Do("LRANGE", "queue", 0, -1).([]any)
		for _, e := range all {
			left[fmt.Sprint(e)]++
		}
		for id := range 6 {
			last := -1
			seq, _ := c.Do("LRANGE", fmt.Sprint("seq.own.", id), 0, -1).([]any)
			for _, e := range seq {
				n, _ := strconv.Atoi(fmt.Sprint(e))
				if n <= last {
					t.Errorf("client %d: %d was run after %d", id, n, last)
				}
				last = n
			}
		}
	}
	lost := 0
	for i := range m.pushed.Load() {
		e := fmt.Sprint(i)
		_, popped := m.popped.Load(e)
		switch n := left[e]; {
		case popped && n > 0, n > 1:
			m.twice.Add(1)
		case !popped && n == 0:
			lost++
		}
	}
	if lost > 0 || m.twice.Load() > 0 {
		t.Errorf("of %d elements %d are lost, %d there twice", m.pushed.Load(), lost, m.twice.Load())
	}
	t.Logf("%d elements, %d messages, %d transactions", m.pushed.Load(), m.heard.Load(), m.execs.Load())
}

func TestReloadGivesEachOptionWhatTheFileSays(t *testing.T) {
	parallel(t)
	a, b := redistest.Start(t), redistest.Start(t)
	b.Do(t, "SET", "name", "b")
	file := filepath.Join(t.TempDir(), "berth.conf")
	write := func(lines ...string) {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("timeout 100", "max-redirects 7", "backend redis://"+a.Addr())
	berth := startBerth(t, "", file, "--replica-max-lag", "33")
	c := dial(t, berth.Addr())
	c.Do("CONFIG", "SET", "timeout", "300")
	write("# a comment", "backend redis://"+b.Addr(), "timeout 5x", "max-redirectz 9", "tcp-backlog 99", "replica-max-lag 44", "maxclients 77")
	r := berth.srv.settings.Reload()
	wantSaid(t, "changed beside mistakes", r.Changed, []string(nil))
	if said := strings.Join(r.Wrong, "\n"); len(r.Wrong) != 2 || !strings.Contains(said, "berth.conf:3: timeout") || !strings.Contains(said, "berth.conf:4: unknown option max-redirectz") {
		t.Errorf("mistakes: %s", said)
	}
	write("# a comment", "backend redis://"+b.Addr(), "timeout 300", "tcp-backlog 99", "replica-max-lag 44", "maxclients 77")
	r = berth.srv.settings.Reload()
	wantSaid(t, "changed", r.Changed, []string{"backend", "max-redirects", "maxclients"})
	wantSaid(t, "restart", r.Restart, []string{"tcp-backlog"})
	wantSaid(t, "the new backend", c.Do("GET", "name"), "b")
	cfg := berth.srv.config()
	wantSaid(t, "values", []any{cfg.Timeout, cfg.MaxRedirects, cfg.MaxClients, cfg.ReplicaMaxLag}, []any{300 * time.Second, 5, 77, 33 * time.Second})
	write("backend redis://127.0.0.1:1", "maxclients 78")
	r = berth.srv.settings.Reload()
	wantSaid(t, "changed although another one was refused", r.Changed, []string{"maxclients", "timeout"})
	if len(r.Wrong) != 1 || !strings.Contains(r.Wrong[0], "berth.conf:1: backend: ") {
		t.Errorf("mistakes: %v", r.Wrong)
	}
	wantSaid(t, "the backend as before", c.Do("GET", "name"), "b")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if r = berth.srv.settings.Reload(); len(r.Changed) > 0 || len(r.Wrong) != 1 {
		t.Errorf("without the file: %+v", r)
	}
}
