package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/redistest"
)

// leaseCount is how many leases are held, and how many were ever taken.
func (b *berthServer) leaseCount() (held int, taken int64) {
	b.srv.pools.Each(func(_, _ string, p *pool.Pool) {
		st := p.Stats()
		held += st.Leased
		taken += int64(st.Hits) + int64(st.Dials)
	})
	return held, taken
}

// noise is n bytes that are like no others, CR, LF and the bytes that replies begin with among them.
func noise(n int) string {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	block := make([]byte, 4093)
	for i := range block {
		block[i] = "\r\n-*$>0123456789abcde"[r.IntN(21)]
	}
	b := make([]byte, 0, n+2*len(block))
	for len(b) < n { // each block has its number, so that none passes for another
		b = append(strconv.AppendInt(b, r.Int64(), 36), block...)
	}
	return string(b[:n])
}

func TestLargeValuesOfAllSizesComeBackAsTheyWere(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	c := dial(t, b.Addr())
	for _, n := range []int{streamSize - 10, streamSize, maxOnPipe - 60, maxOnPipe, maxOnPipe + 1, 3<<20 + 17, sized(12<<20, 40<<20)} {
		key, value := unique("large"), noise(n)
		c.Send("SET", key, value, "EX", "100")
		c.Send("GET", key)
		c.Send("ECHO", "behind")
		if got := c.Recv(); got != "OK" {
			t.Fatalf("SET of %d bytes: %.100v", n, got)
		}
		if got := c.Recv(); got != value {
			t.Fatalf("GET of %d bytes: %.100q", n, got)
		}
		if got := c.Recv(); got != "behind" {
			t.Fatalf("ECHO behind %d bytes: %.100v", n, got)
		}
		c.Do("DEL", key)
	}
	if held, taken := b.leaseCount(); held != 0 || taken == 0 {
		t.Errorf("leases held %d, taken %d", held, taken)
	}
}

const streamSize = 1<<20 - 20 // where replies begin to be passed on in parts

func TestLargeRequestCutAnywhereArrives(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	key, v1, v2 := unique("large"), noise(maxOnPipe+5), noise(maxOnPipe+77)
	request := redistest.Command("HSET", key, "f", v1, "g", v2)
	behind := redistest.Command("HMGET", key, "f", "g")
	headers := len(request) - len(v1) - len(v2)
	for _, cut := range []int{1, 20, headers/2 + 10, headers / 2 * 2, 60, len(v1) + 40, len(v1) + 60, len(request) - len(v2) - 3, len(request) - 2, len(request) - 1} {
		c := dial(t, b.Addr())
		b.feed(c, string(request[:cut]))
		c.Write(request[cut:])
		c.Write(behind)
		if got := c.Recv(); got != int64(2) {
			t.Fatalf("cut at %d: %.100v", cut, got)
		}
		if got := fmt.Sprint(c.Recv()); got != fmt.Sprint([]any{v1, v2}) {
			t.Fatalf("cut at %d: HMGET is wrong", cut)
		}
		dial(t, b.Addr()).Do("DEL", key)
	}
}

func TestLargeRequestsGetTheNodesErrors(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--maxmemory", "12mb")
	b := startBerth(t, node.Addr(), "--proto-max-bulk-len", "50mb")
	c := dial(t, b.Addr())
	c.Do("RPUSH", "list", "1")
	if got := fmt.Sprint(c.Do("APPEND", "list", noise(2<<20))); !strings.HasPrefix(got, "WRONGTYPE") {
		t.Errorf("APPEND to a list: %.100s", got)
	}
	c.Do("SET", "much", noise(8<<20))
	c.Do("SET", "more", noise(8<<20)) // what is above maxmemory then
	if got := fmt.Sprint(c.Do("SET", "k", noise(8<<20))); !strings.HasPrefix(got, "OOM") {
		t.Errorf("SET beyond maxmemory: %.100s", got)
	}
	node.Do(t, "CONFIG", "SET", "maxmemory", "0") // the buffers of what was refused count as well, for some time
	if got := fmt.Sprint(c.Do("SET", "k", noise(2<<20), "NONSENSE")); got != "ERR syntax error" {
		t.Errorf("SET with nonsense: %.100s", got)
	}
	if got := fmt.Sprint(c.Do("SET", "k", noise(2<<20), "EX")); got != "ERR syntax error" {
		t.Errorf("SET with half an option: %.100s", got)
	}
	if got := fmt.Sprint(c.Do("GETSET", "k", noise(2<<20), "more")); !strings.Contains(got, "wrong number of arguments") {
		t.Errorf("GETSET with too much: %.100s", got)
	}
	if got := c.Do("PING"); got != "PONG" {
		t.Errorf("PING behind: %v", got)
	}
	_ = c.TryWrite([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$" + strconv.Itoa(50<<20+1) + "\r\n"))
	if got := c.ReadAll(); got != "-ERR Protocol error: invalid bulk length\r\n" {
		t.Errorf("beyond proto-max-bulk-len: %q", got)
	}
	bad := dial(t, b.Addr())
	b.feed(bad, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n")
	bad.Write([]byte(noise(2000000) + "!!"))
	if got := bad.ReadAll(); !strings.HasPrefix(got, "-ERR Protocol error") {
		t.Errorf("no CR LF behind a long argument: %q", got)
	}
	if held, _ := b.leaseCount(); held != 0 {
		t.Errorf("leases held: %d", held)
	}
}

func TestLargeValuesInTransactionsSplitsAndSilence(t *testing.T) {
	b := startBerth(t, clusterURL(sharedCluster(t)))
	for _, hello := range []string{"2", "3"} {
		c := dial(t, b.Addr())
		c.Do("HELLO", hello)
		x, y, value := unique("x"), unique("y"), noise(2<<20)
		c.Send("CLIENT", "REPLY", "SKIP")
		c.Send("SET", y, value)
		c.Do("MULTI")
		c.Do("SET", x, value)
		c.Do("GET", x)
		if got := fmt.Sprint(c.Do("EXEC")); got != fmt.Sprint([]any{"OK", value}) {
			t.Fatalf("EXEC: %.100s", got)
		}
		if got := fmt.Sprint(c.Do("MGET", x, y, "none"+x)); got != fmt.Sprint([]any{value, value, nil}) {
			t.Fatalf("MGET: %.100s", got)
		}
		c.Write(redistest.Command("CLIENT", "REPLY", "OFF"))
		c.Send("GET", x)
		c.Send("SET", x, value+value)
		c.Send("GET", x)
		c.Send("CLIENT", "REPLY", "ON")
		if got := c.Recv(); got != "OK" {
			t.Fatalf("REPLY ON: %.100v", got)
		}
		c.Do("WATCH", x)
		c.Do("SET", x, value)
		c.Do("MULTI")
		c.Do("GET", x)
		if got := c.Do("EXEC"); got != nil {
			t.Fatalf("EXEC behind a SET of its own: %.100v", got)
		}
		if got := c.Do("MSET", x, value, y, value+"y"); got != "OK" {
			t.Fatalf("MSET: %.100v", got)
		}
		if got := c.Do("STRLEN", y); got != int64(len(value)+1) {
			t.Fatalf("STRLEN: %v", got)
		}
		c.Do("DEL", x, y)
	}
	eventually(t, "all leases to be back", func() bool { held, _ := b.leaseCount(); return held == 0 })
}

func TestLargeSetFollowsItsSlot(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0)
	b := startBerth(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	slot := int(c.Do("CLUSTER", "KEYSLOT", "k").(int64))
	from := cluster.Owner(slot)
	for round := range 2 {
		value := noise(2<<20 + round)
		request := redistest.Command("SET", "k", value)
		b.feed(c, string(request[:1<<20]))
		if round == 0 {
			cluster.MoveSlot(t, slot, from, 1-from) // MOVED
		} else {
			c2 := dial(t, b.Addr())
			c2.Do("DEL", "k")
			cluster.StartMove(t, slot, from, 1-from) // ASK
		}
		from = 1 - from
		c.Write(request[1<<20:])
		if got := c.Recv(); got != "OK" {
			t.Fatalf("round %d: %.100v", round, got)
		}
		if got := c.Do("GET", "k"); got != value {
			t.Fatalf("round %d: %.100v", round, got)
		}
	}
}

func TestClientThatLeavesWithinALargeValueLeavesNothing(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	defer startBystander(t, b.Addr()).end()
	key, value := unique("large"), noise(4<<20)
	c := dial(t, b.Addr())
	for range 3 {
		gone := dial(t, b.Addr())
		b.feed(gone, string(redistest.Command("SET", key, value)[:3<<20]))
		gone.Reset()
		if got := c.Do("EXISTS", key); got != int64(0) {
			t.Fatalf("EXISTS: %v", got)
		}
	}
	c.Do("SET", key, value)
	for range 3 { // on a lease; and, since it is forgotten then, on a pipe
		for _, forget := range []bool{false, true} {
			if forget {
				for i := range b.srv.heavy.all {
					b.srv.heavy.all[i].Store(0)
				}
			}
			gone := dial(t, b.Addr())
			gone.Send("GET", key)
			gone.ReadN(100 << 10)
			gone.Reset()
		}
		if got := c.Do("GET", key); got != value {
			t.Fatalf("GET: %.100v", got)
		}
	}
	eventually(t, "all leases to be back", func() bool { held, _ := b.leaseCount(); return held == 0 })
}

// A reply that is read slowly is with nobody but its client: all others of the pipe have theirs.
func TestReplyThatIsCutOffEndsItsClientOnly(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	value := noise(4 << 20)
	dial(t, node.Addr()).Do("SET", "k", value)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go cutReplies(ln, node.Addr(), 2<<20)
	b := startBerth(t, ln.Addr().String())
	c := dial(t, b.Addr())
	c.Send("GET", "k")
	c.Send("ECHO", "never")
	if got := c.ReadAll(); len(got) == 0 || !strings.HasPrefix("$4194304\r\n"+value, got) {
		t.Errorf("%d bytes, and not those of the value", len(got))
	}
	if got := dial(t, b.Addr()).Do("STRLEN", "k"); got != int64(len(value)) {
		t.Errorf("STRLEN by another: %.100v", got)
	}
}

// cutReplies carries bytes to a node and back; of a connection that has brought so many back it ends both sides.
func cutReplies(ln net.Listener, node string, most int64) {
	for {
		near, err := ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", node)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(far, near); far.Close() }()
		go func() { _, _ = io.CopyN(near, far, most); near.Close(); far.Close() }()
	}
}

// A long reply is with its client before its end is with berth, and is not gathered. What has come last of it may wait until
// that is worth a write.
func TestLongReplyIsPassedOnAsItComes(t *testing.T) {
	parallel(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pauseNone := make(chan struct{})
	go halvesGets(ln, 2<<20, pauseNone)
	b := startBerth(t, ln.Addr().String())
	for _, way := range []string{"pipe", "lease"} { // where the second goes, since the first was long
		c := dial(t, b.Addr())
		c.Send("GET", "k")
		const early = 3 << 18 // of the 1 << 20
		if got := c.ReadN(early); len(got) != early {
			t.Fatalf("by %s: %d bytes", way, len(got))
		}
		pauseNone <- struct{}{}
		if rest := c.ReadN(len("$2097152\r\n") + 2<<20 + 2 - early); !strings.HasSuffix(rest, "x\r\n") {
			t.Fatalf("by %s: the rest is %q …", way, rest[:20])
		}
		_, taken := b.leaseCount()
		if (taken > 0) != (way == "lease") {
			t.Errorf("by %s: %d leases were taken", way, taken)
		}
	}
}

// halvesGets is a node that answers a GET with n bytes, the second half when it is told to.
func halvesGets(ln net.Listener, n int, pauseNone chan struct{}) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer nc.Close()
			in := bufio.NewReader(nc)
			for {
				words, err := readWords(in)
				if err != nil {
					return
				}
				half := bytes.Repeat([]byte("x"), n/2)
				switch strings.ToUpper(words[0]) {
				case "GET":
					fmt.Fprintf(nc, "$%d\r\n%s", n, half)
					<-pauseNone
					fmt.Fprintf(nc, "%s\r\n", half)
				case "INFO":
					text := "redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\n"
					fmt.Fprintf(nc, "$%d\r\n%s\r\n", len(text), text)
				case "PING":
					fmt.Fprint(nc, "+PONG\r\n")
				case "COMMAND":
					fmt.Fprint(nc, "*0\r\n")
				default:
					fmt.Fprint(nc, "-ERR unknown command\r\n")
				}
			}
		}()
	}
}

// readWords reads one request.
func readWords(in *bufio.Reader) (words []string, err error) {
	var n int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	for range n {
		var size int
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, err
		}
		words = append(words, string(b[:size]))
	}
	return words, nil
}

func TestLargeRequestCountsForTheQueryBuffer(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--client-query-buffer-limit", "4mb")
	c := dial(t, b.Addr())
	key := unique("large")
	if got := c.Do("SET", key, noise(3<<20)); got != "OK" {
		t.Fatalf("SET below the limit: %.100v", got)
	}
	_ = c.TrySend("SET", key, noise(5<<20))
	if got := c.ReadAll(); got != "" {
		t.Errorf("SET above the limit: %q", got)
	}
	if got := dial(t, b.Addr()).Do("STRLEN", key); got != int64(3<<20) {
		t.Errorf("STRLEN: %v", got)
	}
}

// With the pool off a connection of its own would be the client's until it leaves.
func TestLargeValuesTravelOnPipesWithThePoolOff(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--private_conn_pool_enabled", "0")
	c := dial(t, b.Addr())
	key, value := unique("large"), noise(3<<20)
	for range 2 {
		if got := c.Do("SET", key, value); got != "OK" {
			t.Fatalf("SET: %.100v", got)
		}
		if got := c.Do("GET", key); got != value {
			t.Fatalf("GET: %.100v", got)
		}
	}
	if _, taken := b.leaseCount(); taken != 0 {
		t.Errorf("%d leases were taken", taken)
	}
}

// A client that closes its sending side behind a long request is still answered.
func TestLargeRequestOfAHalfClosedClientIsAnswered(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr(), "--private-conn-pool-max-total", "1", "--pool-wait-timeout", "0")
	blocked := dial(t, b.Addr())
	blocked.Send("BLPOP", "list", "0")
	awaitBlocked(t, node, 1)
	c := dial(t, b.Addr())
	b.feed(c, string(redistest.Command("SET", "k", noise(3<<20)))) // waits for the lease
	c.CloseWrite()
	dial(t, node.Addr()).Do("RPUSH", "list", "x")
	if got := c.ReadAll(); got != "+OK\r\n" {
		t.Errorf("%q", got)
	}
}
