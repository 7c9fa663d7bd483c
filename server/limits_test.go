package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// awaitClients waits until so many clients are connected.
func (b *berthServer) awaitClients(t *testing.T, n int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d clients", n), func() bool { return b.srv.clients.Load() == n })
}

func TestMaxclientsRefusesTheNextUntilOneHasLeft(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--maxclients", "4")
	defer startBystander(t, b.Addr()).end()
	var in []*redistest.Conn
	for range 3 {
		c := dial(t, b.Addr())
		script(t, c, "PING → PONG")
		in = append(in, c)
	}
	refused := func() {
		t.Helper()
		if got := dial(t, b.Addr()).ReadAll(); got != "-ERR max number of clients reached\r\n" {
			t.Errorf("one too many: %q", got)
		}
	}
	refused()
	refused()
	in[0].Close()
	b.awaitClients(t, 3)
	script(t, dial(t, b.Addr()), "PING → PONG")
	refused()
	for _, c := range in[1:] {
		script(t, c, "PING → PONG")
	}
	b.set("maxclients", "5")
	eventually(t, "the larger limit", func() bool {
		c := dial(t, b.Addr())
		got, err := c.TryDo("PING")
		return err == nil && got == "PONG"
	})
}

func TestQueryBufferLimitClosesTheClient(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--client-query-buffer-limit", "1mb")
	defer startBystander(t, b.Addr()).end()
	script(t, dial(t, b.Addr()), "SET big "+strings.Repeat("x", 900<<10)+" → OK", "STRLEN big → 921600")

	c := dial(t, b.Addr())
	_ = c.TryWrite([]byte("*2\r\n$3\r\nGET\r\n$2000000\r\n" + strings.Repeat("x", 1<<20+100)))
	if got := c.ReadAll(); got != "" {
		t.Errorf("an argument larger than the buffer: %q", got)
	}
	script(t, dial(t, node.Addr()), "EXISTS k → 0")
}

// notReading is a client that asks and does not read. It is berth's client when notReading returns.
func notReading(t *testing.T, b *berthServer, ask string) net.Conn {
	t.Helper()
	before := b.srv.accepted.Load()
	defer eventually(t, "berth to accept", func() bool { return b.srv.accepted.Load() > before })
	nc := dialNarrow(t, b.Addr())
	if _, err := io.WriteString(nc, ask); err != nil {
		t.Fatal(err)
	}
	return nc
}

// drained reads all that comes, and says how much it was and whether the server closed.
func drained(t *testing.T, c net.Conn, want int) (n int, closed bool) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 256<<10)
	for n < want {
		k, err := c.Read(buf)
		n += k
		if err != nil {
			if os.IsTimeout(err) {
				t.Errorf("%d bytes, then nothing", n)
			}
			return n, true
		}
	}
	return n, false
}

func TestOutputBufferLimitsCloseAClientThatDoesNotRead(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	const size, count = 100 << 10, 100 // more than the kernel keeps, in one reply: what comes in several is not asked for
	whole := len("+OK\r\n") + count*len("+QUEUED\r\n") + len("*100\r\n") + count*(size+len("$102400\r\n\r\n"))
	dial(t, node.Addr()).Do("SET", "big", strings.Repeat("x", size))
	ask := "MULTI\r\n" + strings.Repeat("GET big\r\n", count) + "EXEC\r\n"
	defer startBystander(t, b.Addr()).end()

	t.Run("hard", func(t *testing.T) {
		b.set("client-output-buffer-limit", "normal 1mb 0 0")
		c := notReading(t, b, ask)
		b.awaitClients(t, 1)
		if n, closed := drained(t, c, whole); !closed {
			t.Errorf("a client over the hard limit got %d bytes and lives", n)
		}
	})
	t.Run("soft, for too long", func(t *testing.T) {
		b.set("client-output-buffer-limit", "normal 0 1mb 1")
		began := time.Now()
		c := notReading(t, b, ask)
		b.awaitClients(t, 1)
		if took := time.Since(began); took < time.Second {
			t.Errorf("closed after %v", took)
		}
		if n, closed := drained(t, c, whole); !closed {
			t.Errorf("a client over the soft limit got %d bytes and lives", n)
		}
	})
	t.Run("soft, but in time", func(t *testing.T) {
		b.set("client-output-buffer-limit", "normal 0 1mb 5")
		c := notReading(t, b, ask)
		if n, closed := drained(t, c, whole); closed || n != whole {
			t.Errorf("a client that reads got %d of %d bytes", n, whole)
		}
		c.Close()
		b.awaitClients(t, 1)
	})
	t.Run("none", func(t *testing.T) {
		b.set("client-output-buffer-limit", "normal 0 0 0")
		c := notReading(t, b, ask)
		if n, closed := drained(t, c, whole); closed || n != whole {
			t.Errorf("a client without a limit got %d of %d bytes", n, whole)
		}
		c.Close()
		b.awaitClients(t, 1)
	})
	t.Run("pubsub", func(t *testing.T) {
		b.set("client-output-buffer-limit", "normal 0 0 0 pubsub 1mb 0 0")
		c := notReading(t, b, "SUBSCRIBE news\r\n")
		direct := dial(t, node.Addr())
		eventually(t, "the subscription", func() bool { return direct.Do("PUBLISH", "news", "x") == int64(1) })
		for range count {
			direct.Do("PUBLISH", "news", strings.Repeat("x", size))
		}
		b.awaitClients(t, 1)
		drained(t, c, 1<<30)
		eventually(t, "the node to be rid of it", func() bool { return direct.Do("PUBLISH", "news", "x") == int64(0) })
	})
}

func TestPipelineLimitDelaysAndLosesNothing(t *testing.T) {
	for _, backend := range []string{sharedNode(t).Addr(), clusterURL(sharedCluster(t))} {
		b := startBerth(t, backend, "--client-pipeline-limit", "7")
		beside := startBystander(t, b.Addr())
		c := dial(t, b.Addr())
		c.Do("DEL", "pl:n", "pl:a", "pl:b")
		var in strings.Builder
		const rounds = 500
		for range rounds {
			in.WriteString(pipeline("INCR pl:n", "PING", "MSET pl:a 1 pl:b 2", "nonsense", "GET pl:n"))
		}
		go c.TryWrite([]byte(in.String()))
		for i := 1; i <= rounds; i++ {
			got := strings.Join(replies(c, 5), "")
			if want := fmt.Sprintf(":%d\r\n+PONG\r\n+OK\r\n-ERR unknown command 'nonsense', with args beginning with: \r\n$%d\r\n%d\r\n", i, len(fmt.Sprint(i)), i); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		beside.end()
		b.Stop()
	}
}

func TestTransactionLimitsSpoilTheTransaction(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--transaction-max-commands", "3", "--transaction-max-bytes", "1kb")
	defer startBystander(t, b.Addr()).end()
	c := dial(t, b.Addr())
	const aborted = "EXECABORT Transaction discarded because of previous errors."
	script(t, c, "DEL tl:n → 0", "MULTI → OK", "INCR tl:n → QUEUED", "INCR tl:n → QUEUED", "INCR tl:n → QUEUED",
		"INCR tl:n → ERR berth: more commands than transaction-max-commands", "EXEC → "+aborted, "GET tl:n → <nil>",
		"MULTI → OK", "INCR tl:n → QUEUED", "INCR tl:n → QUEUED", "INCR tl:n → QUEUED", "EXEC → [1 2 3]",
		"MULTI → OK", "SET tl:n "+strings.Repeat("x", 1100)+" → ERR berth: transaction larger than transaction-max-bytes", "EXEC → "+aborted,
		"WATCH tl:n → OK", "MULTI → OK", "SET tl:n "+strings.Repeat("x", 1100)+" → ERR berth: transaction larger than transaction-max-bytes",
		"EXEC → "+aborted, "GET tl:n → 3", "DEL tl:n → 1")
}

func TestProtoMaxBulkLenIsTheLongestArgument(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--proto-max-bulk-len", "1mb")
	defer startBystander(t, b.Addr()).end()
	script(t, dial(t, b.Addr()), "SET pb:k "+strings.Repeat("x", 1<<20)+" → OK", "STRLEN pb:k → 1048576", "DEL pb:k → 1")
	c := dial(t, b.Addr())
	c.WriteString("*2\r\n$3\r\nGET\r\n$1048577\r\n")
	if got := c.ReadAll(); got != "-ERR Protocol error: invalid bulk length\r\n" {
		t.Errorf("%q", got)
	}
	b.set("proto-max-bulk-len", "2mb")
	script(t, dial(t, b.Addr()), "SET pb:k "+strings.Repeat("x", 1<<20+1)+" → OK", "DEL pb:k → 1")
}

func TestTimeoutClosesTheIdleOnly(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--timeout", "1")
	defer startBystander(t, b.Addr()).end()
	idle, blocked, subscribed, watching := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	script(t, idle, "PING → PONG")
	script(t, subscribed, "SUBSCRIBE c → [subscribe c 1]")
	script(t, watching, "WATCH k → OK")
	blocked.Send("BLPOP", "l", "0")
	awaitBlocked(t, node, 1)
	if got := idle.ReadAll(); got != "" {
		t.Errorf("%q", got)
	}
	if got := watching.ReadAll(); got != "" {
		t.Errorf("%q", got)
	}
	b.awaitClients(t, 3)
	direct := dial(t, node.Addr())
	direct.Do("PUBLISH", "c", "m")
	if got := fmt.Sprint(subscribed.Recv()); got != "[message c m]" {
		t.Errorf("the subscriber: %s", got)
	}
	direct.Do("RPUSH", "l", "x")
	if got := fmt.Sprint(blocked.Recv()); got != "[l x]" {
		t.Errorf("the blocked client: %s", got)
	}
}

func TestPoolWaitTimeoutTellsToTryAgain(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr(), "--private-conn-pool-max-total", "1", "--pool-wait-timeout", "100")
	defer startBystander(t, b.Addr()).end()
	holder, c := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, holder, "WATCH k → OK")
	const again = "TRYAGAIN berth: no backend connection within 100ms, command not executed"
	script(t, c, "WATCH k → "+again, "BLPOP l 1 → "+again, "GET k → <nil>", "MULTI → OK", "SET k 1 → QUEUED", "EXEC → [OK]",
		"MONITOR → "+again, "PING → PONG")
	c.WriteString(pipeline("SET k 2", "BLPOP l 1", "GET k"))
	if got := strings.Join(replies(c, 3), ""); got != "+OK\r\n-"+again+"\r\n$1\r\n2\r\n" {
		t.Errorf("%q", got)
	}
	script(t, holder, "MULTI → OK", "GET k → QUEUED", "EXEC → <nil>")
	script(t, c, "BLPOP l 0.001 → <nil>", "WATCH k → OK", "MULTI → OK", "EXEC → []")
	if s := b.leases(); s.Leased != 0 || s.Waiting != 0 {
		t.Errorf("%+v at the end", s)
	}
}

func TestPoolMaxTotalCapsTheNodesConnections(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr(), "--private-conn-pool-max-total", "3", "--pool-wait-timeout", "10000", "--loops", "2")
	defer startBystander(t, b.Addr()).end()
	base := len(nodeClients(t, node))
	var wg sync.WaitGroup
	var aborted atomic.Int64
	for client := range 30 {
		wg.Go(func() {
			c, err := redistest.TryDial(t, b.Addr())
			for done := 0; err == nil && done < 10; {
				for _, command := range []string{fmt.Sprint("WATCH k", client), "MULTI", fmt.Sprint("INCR k", client), "EXEC", "BLPOP l 0.002"} {
					var got any
					if got, err = c.TryDo(strings.Fields(command)); err != nil {
						break
					}
					switch {
					case command != "EXEC":
					case got == nil: // on a starved machine this client is slow, and its lease was taken back for those who wait
						aborted.Add(1)
					default:
						if done++; fmt.Sprint(got) != fmt.Sprintf("[%d]", done) {
							t.Errorf("EXEC: %v", got)
						}
					}
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	var samples [][]string         // who was connected to the node
	exclusive := map[string]bool{} // who was ever seen at what no pipe carries
	for working := true; working; {
		select {
		case <-finished:
			working = false
		default:
			var ids []string
			for _, n := range nodeClients(t, node) {
				ids = append(ids, n["id"])
				switch n["cmd"] {
				case "watch", "blpop", "unwatch":
					exclusive[n["id"]] = true
				}
			}
			samples = append(samples, ids)
		}
	}
	most := 0
	for _, ids := range samples {
		most = max(most, len(slices.DeleteFunc(ids, func(id string) bool { return !exclusive[id] })))
	}
	if most == 0 || most > 3 {
		t.Errorf("%d exclusive connections at one time (%d connections before)", most, base)
	}
	if taken := revoked(t, b); taken < aborted.Load() {
		t.Errorf("EXEC has answered nil %d times, but %d leases were taken back", aborted.Load(), taken)
	}
}

// TestBerthSurvivesWithoutDescriptors fills the process' descriptors but for a few: one for the client, and perhaps one
// for berth's end of it.
func TestBerthSurvivesWithoutDescriptors(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--loops", "1")
	script(t, dial(t, b.Addr()), "SET fd:k 1 → OK")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	lower := limit
	open := 0
	for _, fds := range listFiles() {
		open += len(fds)
	}
	lower.Cur = uint64(open + 200)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lower); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	for _, spare := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("%d left", spare), func(t *testing.T) {
			beside := startBystander(t, b.Addr())
			var fill []*os.File
			for {
				f, err := os.Open(os.DevNull)
				if err != nil {
					break
				}
				fill = append(fill, f)
			}
			release := func() {
				for _, f := range fill {
					f.Close()
				}
				fill = nil
			}
			defer release()
			for range spare {
				fill[len(fill)-1].Close()
				fill = fill[:len(fill)-1]
			}
			c, err := redistest.TryDial(t, b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			c.SetTimeout(100 * time.Millisecond)
			_, err = c.TryDo("PING") // it waits in the backlog, or was closed
			if spare == 1 && err == nil {
				t.Error("a client was served without a descriptor for it")
			}
			release()
			c.SetTimeout(10 * time.Second)
			if spare == 1 {
				if got, err := c.TryRecv(); got != "PONG" {
					t.Errorf("the client that waited: %v, %v", got, err)
				}
			}
			for range 5 {
				script(t, dial(t, b.Addr()), "PING → PONG", "GET fd:k → 1")
			}
			beside.end()
		})
	}
	eventually(t, "only the first client to be left", func() bool { return b.srv.clients.Load() == 1 })
}
