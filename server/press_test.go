package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/server/telemetry"
)

// residentMB is the memory of berth's process; that of the test with it, when berth runs in there.
func residentMB(t *testing.T, b *loadedBerth) int {
	t.Helper()
	pid := "self"
	if b.cmd != nil {
		pid = strconv.Itoa(b.cmd.Process.Pid)
	}
	text, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, _ := strconv.Atoi(strings.Fields(string(text))[1])
	return pages * os.Getpagesize() >> 20
}

// holds is what clients make berth hold: all of them together, and the one that holds most.
// Requests count with the replies that are expected.
func holds(b *berthServer) (all, most int) {
	type held struct{ all, most int }
	loops, _ := askLoops(b.srv, func(l *loop) (h held) {
		for s := l.first; s != nil; s = s.next {
			n := s.weight()
			h.all, h.most = h.all+n, max(h.most, n)
		}
		return h
	})
	for _, h := range loops {
		all, most = all+h.all, max(most, h.most)
	}
	return all, most
}

// owesNothing fails the test if a client that waits for nothing is still charged for something.
func owesNothing(t *testing.T, b *berthServer) {
	t.Helper()
	eventually(t, "all requests to be accounted for", func() bool {
		loads, _ := askLoops(b.srv, func(l *loop) int { return l.load })
		return b.count(func(s *session) bool { return s.owed != 0 && s.head == nil }) == 0 && slices.Max(loads) == 0
	})
}

// attacker sends a client's first bytes and then the same ones again and again, and does not read.
// stuck is closed when nobody has taken anything from it for a while, or it is gone. One that sends
// untilClosed has no such patience.
type attacker struct {
	conn  net.Conn
	stuck chan struct{}
}

const (
	stuckAfter  = 500 * time.Millisecond
	untilClosed = math.MaxInt
)

func attack(t *testing.T, addr string, first, again []byte, times int) *attacker {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if !loadFull && times != untilClosed { // a full window of a small buffer may stop what it sends as well
		_ = nc.(*net.TCPConn).SetReadBuffer(32 << 10) // it is stuck sooner
	}
	a := &attacker{nc, make(chan struct{})}
	go func() {
		defer close(a.stuck)
		if _, err := nc.Write(first); err != nil {
			return
		}
		for range times {
			if times != untilClosed {
				_ = nc.SetWriteDeadline(time.Now().Add(stuckAfter))
			}
			if _, err := nc.Write(again); err != nil {
				return
			}
		}
	}()
	return a
}

// memorySlack is how many megabytes more than a fifth more berth may hold when attackers have left.
const memorySlack = 24

// TestAttackersOfMemoryLeaveTheBystanderAlone has clients ask for much and read nothing, or send
// much that cannot be taken. What berth holds for each stays below a bound, and is given back when
// they have gone.
func TestAttackersOfMemoryLeaveTheBystanderAlone(t *testing.T) {
	if !loadFull {
		parallel(t)
	}
	const password = "press"
	gets := bytes.Repeat(codec.AppendCommandString(nil, "GET", "press:value"), sized(500, 2000))
	attacks := []struct {
		name         string
		clients      int
		first, again []byte
		times        int
		password     string
		each         int // bytes that berth may hold for one of them; 0: all are closed
	}{
		{"unauthenticated", sized(1, 6), nil, gets, untilClosed, password, 0},
		{"do not read", sized(3, 50), nil, gets, sized(20, 1000), "", clientWindow + 512<<10},
		{"large values", sized(3, 24), codec.AppendCommandString(nil, "GET", "press:large"), nil, 0, "",
			// The first to ask, while berth does not know that the value is long, gets it over the
			// pipe, which waits for nobody.
			sized(8<<20, 60<<20) + 4<<20},
		{"blocked", 3, codec.AppendCommandString(nil, "BLPOP", "press:list", "0"),
			bytes.Repeat(codec.AppendCommandString(nil, "SET", "press:x", strings.Repeat("x", 1000)), 1000), sized(20, 200), "", 4 << 20},
	}
	for _, over := range []string{"standalone", "cluster"} {
		for _, a := range attacks {
			if over == "cluster" && a.name != "do not read" && !loadFull {
				continue
			}
			t.Run(over+"/"+a.name, func(t *testing.T) {
				var backend string
				var direct *redistest.Conn
				switch {
				case over == "cluster" && a.password != "":
					cluster := redistest.StartCluster(t, 3, 0, "--requirepass", a.password)
					backend = "redis://:" + a.password + "@" + strings.Join(cluster.Addrs(), ",")
				case over == "cluster":
					backend = clusterURL(redistest.StartCluster(t, 3, 0))
				case a.password != "":
					backend = "redis://:" + a.password + "@" + redistest.Start(t, "--requirepass", a.password).Addr()
				default:
					backend = redistest.Start(t).Addr()
				}
				b := startLoaded(t, backend)
				direct = dial(t, b.Addr())
				if a.password != "" {
					direct.Do("AUTH", a.password)
				}
				for _, size := range []int{10 << 10, sized(8<<20, 60<<20)} {
					key := "press:value"
					if size > 1<<20 {
						key = "press:large"
					}
					if got := direct.Do("SET", key, strings.Repeat("v", size)); got != "OK" {
						t.Fatalf("SET of %d bytes: %v", size, got)
					}
				}
				direct.Close()
				var login []any
				if a.password != "" {
					login = []any{"AUTH", a.password}
				}
				beside := startBystander(t, b.Addr(), login...)
				lap := func(when string) {
					beside.await(sized(50, 3_000))
					figure(t, "%s, %s, %s: %s, RSS %d MB", over, a.name, when, beside.lap(), residentMB(t, b))
				}
				lap("before")
				before := residentMB(t, b)
				var all []*attacker
				for range a.clients {
					all = append(all, attack(t, b.Addr(), a.first, a.again, a.times))
				}
				if a.each == 0 && b.inner != nil {
					redistest.Eventually(t, 40*time.Second, "strangers to be closed, sooner than by auth-timeout", func() bool { return b.inner.srv.clients.Load() == 1 })
					for _, x := range all {
						x.conn.Close() // with its window shut it would not hear of it
					}
				}
				most := 0
				for _, x := range all {
					for waits := true; waits; {
						select {
						case <-x.stuck:
							waits = false
						case <-time.After(10 * time.Millisecond):
						}
						if b.inner != nil {
							_, n := holds(b.inner)
							most = max(most, n)
						}
					}
				}
				lap("during")
				if b.inner != nil {
					_, n := holds(b.inner)
					if most = max(most, n); a.each > 0 && most > a.each {
						t.Errorf("berth held %d KB for one client, more than %d KB", most>>10, a.each>>10)
					}
					if a.each == 0 {
						b.inner.awaitClients(t, 1)
					}
					figure(t, "%s, %s: %d KB held for one client at most", over, a.name, most>>10)
				}
				for _, x := range all {
					x.conn.Close()
				}
				if a.name == "blocked" { // the end of those comes after all that they have sent
					direct = dial(t, b.Addr())
					for range all {
						direct.Do("RPUSH", "press:list", "x")
					}
					direct.Close()
				}
				if b.inner != nil {
					b.inner.awaitClients(t, 1)
					owesNothing(t, b.inner)
				}
				beside.lap()
				lap("after")
				left, fits := time.Now(), func() bool { return residentMB(t, b) <= before*6/5+memorySlack }
				if b.inner == nil && !redistest.Await(10*time.Second, fits) {
					t.Errorf("%d MB are resident, %d MB before", residentMB(t, b), before)
				}
				figure(t, "%s, %s: RSS %d MB before, %d MB after, another %v later", over, a.name, before, residentMB(t, b), time.Since(left).Round(time.Millisecond))
				beside.end()
			})
		}
	}
}

// A client that asks for more than it reads gets all of it in order when it reads.
func TestClientThatReadsLateMissesNothing(t *testing.T) {
	for _, backend := range []string{sharedNode(t).Addr(), clusterURL(sharedCluster(t))} {
		b := startBerth(t, backend)
		c := dial(t, b.Addr())
		value := strings.Repeat("v", 10<<10)
		script(t, c, "SET press:late "+value+" → OK")
		const rounds = 3000
		var ask []byte
		for i := range rounds {
			ask = append(ask, pipeline("GET press:late", "PING "+strconv.Itoa(i))...)
		}
		sent := make(chan error, 1)
		go func() { sent <- c.TryWrite(ask) }()
		eventually(t, "the client to be full", func() bool {
			return b.count(func(s *session) bool { return s.pause == pauseFull }) == 1
		})
		for i := range rounds {
			n := strconv.Itoa(i)
			want := fmt.Sprintf("$%d\r\n%s\r\n$%d\r\n%s\r\n", len(value), value, len(n), n)
			if got := strings.Join(replies(c, 2), ""); got != want {
				t.Fatalf("round %d: %.80q", i, got)
			}
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		script(t, c, "DEL press:late → 1")
		owesNothing(t, b)
		b.Stop()
	}
}

// count is how many sessions there are of which it is true.
func (b *berthServer) count(is func(s *session) bool) (n int) {
	counts, _ := askLoops(b.srv, func(l *loop) (n int) {
		for s := l.first; s != nil; s = s.next {
			if is(s) {
				n++
			}
		}
		return n
	})
	for _, k := range counts {
		n += k
	}
	return n
}

// awaitHangUpOnly waits until gnet looks for nothing but the end of one client.
func (b *berthServer) awaitHangUpOnly(t *testing.T) {
	t.Helper()
	eventually(t, "berth to stop reading", func() bool {
		return b.count(func(s *session) bool { return s.reading == readsHangUp }) == 1
	})
}

// sendMuch writes as much as is taken of so many bytes, and says how much that was.
func sendMuch(c *redistest.Conn, input string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.TryWrite([]byte(input)) }()
	return done
}

func TestBlockedClientIsNotReadAndGoesOnWhenItIsServed(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--client-query-buffer-limit", "1mb")
	defer startBystander(t, b.Addr()).end()
	c := dial(t, b.Addr())
	b.feed(c, pipeline("BLPOP press:list 0"))
	awaitBlocked(t, node, 1)
	seen := b.readsOf(c)
	const sets = 20000
	sent := sendMuch(c, strings.Repeat(pipeline("SET press:k "+strings.Repeat("x", 1000)), sets))
	seen.await(maxUntaken, redistest.Patience(10*time.Second))
	b.awaitHangUpOnly(t)
	if n := seen.bytes.Load(); n > maxUntaken+128<<10 {
		t.Errorf("%d bytes were read of a client that is blocked", n)
	}
	node.Do(t, "RPUSH", "press:list", "x")
	if got := fmt.Sprint(c.Recv()); got != "[press:list x]" {
		t.Fatal(got)
	}
	for i := range sets {
		if got := c.Recv(); got != "OK" {
			t.Fatalf("SET %d: %v", i, got)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	owesNothing(t, b)
}

func TestBlockedClientThatIsNotReadAndLeavesIsMissedAtOnce(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	b.feed(c, pipeline("BLPOP press:list 0"))
	awaitBlocked(t, node, 1)
	sent := sendMuch(c, strings.Repeat(pipeline("SET press:k "+strings.Repeat("x", 1000)), 200))
	b.awaitHangUpOnly(t)
	<-sent
	c.Close()
	b.awaitClients(t, 0)
	awaitBlocked(t, node, 0)
}

// A client that has closed its sending side gets the replies to all that it has sent, however late
// it was read.
func TestClientThatIsNotReadAndClosesItsSendingSideGetsAllReplies(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	nc, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	value := strings.Repeat("v", 10<<10)
	script(t, dial(t, b.Addr()), "SET press:half "+value+" → OK")
	const gets = 2000
	if _, err := io.WriteString(nc, strings.Repeat(pipeline("GET press:half"), gets)); err != nil {
		t.Fatal(err)
	}
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	want := gets * (len(value) + len("$10240\r\n\r\n"))
	if n, _ := drained(t, nc, want); n != want {
		t.Errorf("%d of %d bytes", n, want)
	}
}

// Where gnet's fields are others, the limits close clients.
func TestWithoutTheSwitchLimitsCloseABlockedClient(t *testing.T) {
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr(), "--client-query-buffer-limit", "1mb")
	b.srv.reads = nil
	defer startBystander(t, b.Addr()).end()
	c := dial(t, b.Addr())
	b.feed(c, pipeline("BLPOP press:list 0"))
	awaitBlocked(t, node, 1)
	_ = c.TryWrite([]byte(strings.Repeat(pipeline("SET press:k "+strings.Repeat("x", 1000)), 1100)))
	if got := c.ReadAll(); got != "" {
		t.Errorf("%q", got)
	}
	awaitBlocked(t, node, 0)
	if _, err := findReadSwitch(&halfClosed{}); !errors.Is(err, errNoReadSwitch) {
		t.Errorf("a connection that is not gnet's: %v", err)
	}
}

func TestMaxmemoryClientsClosesTheOneThatHoldsMost(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	defer startBystander(t, b.Addr()).end()
	begin := func(size int) *redistest.Conn { // all of a long SET but its end
		c := dial(t, b.Addr())
		b.feed(c, "*3\r\n$3\r\nSET\r\n$7\r\npress:m\r\n$50000000\r\n"+strings.Repeat("x", size))
		return c
	}
	excused := dial(t, b.Addr())
	script(t, excused, "CLIENT NO-EVICT ON → OK")
	b.feed(excused, "*3\r\n$3\r\nSET\r\n$7\r\npress:n\r\n$12000000\r\n"+strings.Repeat("x", 11<<20))
	small, large := begin(2<<20), begin(10<<20)
	b.set("maxmemory-clients", "20mb")
	if got := large.ReadAll(); got != "" {
		t.Errorf("%q", got)
	}
	b.awaitClients(t, 3)
	if n := b.figures(t).Counters.LimitHits[telemetry.LimitClientMemory]; n != 1 {
		t.Errorf("%d clients were closed for what they hold, want 1", n)
	}
	if all, _ := holds(b); all > 20<<20 {
		t.Errorf("clients hold %d bytes", all)
	}
	b.set("maxmemory-clients", "0")
	again := begin(30 << 20)
	if all, _ := holds(b); all < 40<<20 {
		t.Errorf("clients hold %d bytes, and no limit", all)
	}
	excused.WriteString(strings.Repeat("x", 12000000-11<<20) + "\r\n")
	if got := excused.Recv(); got != "OK" {
		t.Error(got)
	}
	for _, c := range []*redistest.Conn{small, again, excused} {
		c.Close()
	}
	b.awaitClients(t, 1)
	script(t, dial(t, b.Addr()), "DEL press:n → 1")
}

func TestClientThatDoesNotAuthenticateInTimeIsClosed(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--requirepass", "press")
	b := startBerth(t, "redis://:press@"+node.Addr(), "--auth-timeout", "1")
	known, stranger := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, known, "AUTH press → OK")
	script(t, stranger, "GET k → NOAUTH Authentication required.")
	if got := stranger.ReadAll(); got != "" {
		t.Errorf("%q", got)
	}
	b.awaitClients(t, 1)
	script(t, known, "GET k → <nil>", "RESET → RESET", "AUTH press → OK", "GET k → <nil>")
	if n := b.figures(t).Counters.LimitHits[telemetry.LimitAuthTimeout]; n != 1 {
		t.Errorf("%d clients were closed, want 1", n)
	}
}

// What a burst needed is given back although nothing more is allocated.
func TestMemoryOfABurstIsReleased(t *testing.T) {
	var m memory
	m.hold(100 << 20)
	if m.due(int64(time.Minute)) {
		t.Error("clients hold the memory, and it is released")
	}
	m.hold(1 << 20)
	if !m.due(int64(time.Minute)) {
		t.Error("clients gave the memory back, and it is kept")
	}
	m.hold(100 << 20)
	m.hold(1 << 20)
	if m.due(int64(time.Minute + releasePause/2)) {
		t.Error("memory is released again at once")
	}
	if !m.due(int64(time.Minute + releasePause)) {
		t.Error("memory of the second burst is kept")
	}
}

func TestMemoryOfManySubscriptionsIsReleased(t *testing.T) {
	const channels = 1000
	b := startBerth(t, sharedNode(t).Addr())
	for _, end := range []string{"UNSUBSCRIBE", "RESET", "QUIT"} {
		before := b.srv.memory.used.Load()
		c := dial(t, b.Addr())
		words := []any{"SUBSCRIBE"}
		for i := range channels {
			words = append(words, fmt.Sprint("press:", i))
		}
		c.Send(words...)
		for range channels {
			c.Recv()
		}
		c.Send(end)
		redistest.Eventually(t, 20*time.Second, end+" to be counted", func() bool {
			return b.srv.memory.used.Load()-before >= channels*subscriptionBytes
		})
		c.Close()
	}
}

// What a client queues for berth itself counts as what it holds.
func TestQueuedCommandsOfBerthsOwnAreWeighed(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--maxmemory-clients", "20mb")
	c := dial(t, b.Addr())
	script(t, c, "MULTI → OK")
	for range 12 {
		if c.TrySend("ECHO", strings.Repeat("x", 1<<20)) != nil {
			break
		}
	}
	b.awaitClients(t, 0)
	if n := b.figures(t).Counters.LimitHits[telemetry.LimitClientMemory]; n != 1 {
		t.Errorf("%d clients were closed for what they hold, want 1", n)
	}
}

// An EXEC of very many commands that berth answers itself is put together in slices. Its reply is
// bounded as output is, and a client that is closed in the midst of it owes nothing.
func TestExecOfManyOwnCommandsHoldsNoLoop(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--loops", "1")
	turns := func() int {
		all, _ := askLoops(b.srv, func(l *loop) int { return l.slicing.turns })
		return all[0]
	}
	c := dial(t, b.Addr())
	run := func(n int, line string) {
		c.WriteString("MULTI\r\nGET press:none\r\n" + strings.Repeat(line+"\r\n", n))
		for range n + 2 {
			c.RecvRaw()
		}
		c.Send("EXEC")
	}
	before := turns()
	run(20_000, "COMMAND COUNT")
	reply, ok := c.Recv().([]any)
	if !ok || len(reply) != 20_001 || reply[0] != nil {
		t.Fatalf("%d elements, the first %v", len(reply), reply[0])
	}
	for i, e := range reply[1:] {
		if n, _ := e.(int64); n < 200 {
			t.Fatalf("element %d: %v", i+1, e)
		}
	}
	if n := turns() - before; n < 2 {
		t.Errorf("%d slices", n)
	}
	b.set("client-output-buffer-limit", "normal 1mb 0 0")
	run(2000, "COMMAND")
	b.awaitClients(t, 0)
	owesNothing(t, b)
	if n := b.figures(t).Counters.LimitHits[telemetry.LimitOutputBuffer]; n != 1 {
		t.Errorf("%d clients were closed for their output, want 1", n)
	}
}

// Options that a client names again and again are kept once.
func TestRepeatedTrackingIsKeptOnce(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	c := dial(t, b.Addr())
	c.Do("HELLO", "3")
	script(t, c, "CLIENT TRACKING ON OPTIN → OK", "CLIENT CACHING YES → OK", "CLIENT TRACKING ON → OK",
		"CLIENT CACHING YES → ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	for range 100 {
		c.Do("CLIENT", "TRACKING", "ON", "NOLOOP", "NOLOOP")
	}
	if n := b.count(func(s *session) bool {
		return s.tracking != nil && len(s.tracking.commands) == 1 && s.tracking.kept < 100
	}); n != 1 {
		t.Error("the words of before are kept")
	}
	if all, _ := holds(b); all < 50 {
		t.Errorf("clients hold %d bytes", all)
	}
}
