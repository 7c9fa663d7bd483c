package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// link is a cable between berth and a node: it can hold back what the node says, and it can be cut, so that a request
// has been executed and nobody will ever hear of it.
type link struct {
	addr   string
	target string

	mu    sync.Mutex              // guards what follows
	quiet *sync.Cond              // signalled when holds changes
	holds func(reply string) bool // the first of a connection for which it is true is held, and all behind it; nil: none
	conns []net.Conn
}

// between listens for whoever is to reach a target by way of the test. mu guards conns, which gets both
// ends of each connection. back carries what the target says, and closes the near end.
func between(t testing.TB, target string, mu *sync.Mutex, conns *[]net.Conn, back func(near, far net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				_ = near.Close()
				continue
			}
			mu.Lock()
			*conns = append(*conns, near, far)
			mu.Unlock()
			go func() {
				_, _ = io.Copy(far, near)
				_ = far.Close()
			}()
			go back(near, far)
		}
	}()
	return ln.Addr().String()
}

func startLink(t *testing.T, target string) *link {
	t.Helper()
	l := &link{target: target}
	l.quiet = sync.NewCond(&l.mu)
	t.Cleanup(l.cut)
	l.addr = between(t, target, &l.mu, &l.conns, l.back)
	return l
}

// back carries replies, unless they are held.
func (l *link) back(near, far net.Conn) {
	defer near.Close()
	var scanner codec.ReplyScanner
	var in []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := far.Read(buf)
		in = append(in, buf[:n]...)
		for {
			size, broken := scanner.Scan(in)
			if size == 0 || broken != nil {
				break
			}
			l.await(string(in[:size]))
			if _, failed := near.Write(in[:size]); failed != nil {
				return
			}
			in = in[size:]
		}
		if err != nil {
			return
		}
	}
}

// await returns when a reply may pass.
func (l *link) await(reply string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.holds != nil && l.holds(reply) {
		l.quiet.Wait()
	}
}

// hold keeps back all replies from now on.
func (l *link) hold() { l.holdFrom(func(string) bool { return true }) }

// holdFrom keeps back, on each connection, the first reply for which it is true and all behind it. What was held before is
// looked at anew.
func (l *link) holdFrom(first func(reply string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holds = first
	l.quiet.Broadcast()
}

// release lets replies through again.
func (l *link) release() { l.holdFrom(nil) }

// cut ends all connections; what was held is lost. New ones work.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns, l.holds = nil, nil
	l.quiet.Broadcast()
}

const mayHaveBeen = "command may have been executed"

func isDoubt(reply any) bool {
	e, ok := reply.(redistest.Error)
	return ok && strings.HasPrefix(string(e), "ERR ") && strings.HasSuffix(string(e), mayHaveBeen)
}

// lostInTime loses the reply of a request, the last of its pipeline, that was executed, and checks that it is not repeated.
// false: that took so long that berth takes a blocking command for one that has waited, and so has found nothing.
func lostInTime(t *testing.T, requests []string) bool {
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr)
	c := dial(t, b.Addr())
	node.Do(t, "RPUSH", "from", "x", "y")
	last := len(requests) - 1
	if last > 0 {
		pipelined(c, requests[:last]...)
	} else {
		pipelined(c, "GET n", "BLPOP none 0.001") // so that there are connections
	}
	l.hold()
	began := time.Now()
	c.Send(strings.Fields(requests[last]))
	eventually(t, "the node to have executed it", func() bool {
		return node.Do(t, "GET", "n") == "1" || node.Do(t, "LLEN", "from") == int64(1)
	})
	l.cut()
	got := c.Recv()
	if blocks := strings.HasPrefix(requests[last], "BL"); blocks && !isDoubt(got) && time.Since(began) > lane.Doubt {
		return false
	}
	if !isDoubt(got) {
		t.Fatalf("got %v", got)
	}
	if got := pipelined(c, "PING", "INCR n", "LLEN from"); fmt.Sprint(got) != "[PONG 2 2]" && fmt.Sprint(got) != "[PONG 1 1]" {
		t.Fatalf("afterwards: %v", got)
	}
	return true
}

// A write whose reply is lost was executed once, and the client is told that nobody knows.
func TestWriteWhoseReplyIsLostIsNotRepeated(t *testing.T) {
	parallel(t)
	for _, test := range []struct{ name, request, executed string }{
		{"a command", "INCR n", "n"},
		{"a transaction", "MULTI|INCR n|EXEC", "n"},
		{"a watched transaction", "WATCH n|MULTI|INCR n|EXEC", "n"},
		{"a script", "EVAL return(redis.call('incr','n')) 0", "n"},
		{"a blocking command", "BLMOVE from n2 LEFT RIGHT 0", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for !lostInTime(t, strings.Split(test.request, "|")) {
				t.Log("so slow that the command counts as one that has only waited: once more")
			}
		})
	}
}

func TestReadWhoseReplyIsLostIsRepeatedOnce(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr)
	c := dial(t, b.Addr())
	pipelined(c, "SET k v")
	for _, read := range []struct{ words, want string }{{"get k", "v"}, {"mget a k x", "[<nil> v <nil>]"}, {"sinter a x", "[]"}} {
		name, _, _ := strings.Cut(read.words, " ")
		l.hold()
		c.Send(strings.Fields(read.words))
		eventually(t, "the node to have executed it", func() bool {
			return strings.Contains(node.Do(t, "INFO", "commandstats").(string), "cmdstat_"+name+":calls=1,")
		})
		l.cut()
		if got := fmt.Sprint(c.Recv()); got != read.want {
			t.Fatalf("%s: %v", read.words, got)
		}
	}
}

// A read that is repeated behind a write of the same client would see what the client wrote after it.
func TestReadIsNotRepeatedBehindAWriteOfTheSameClient(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr)
	c := dial(t, b.Addr())
	pipelined(c, "SET k old")
	l.hold()
	c.WriteString("GET k\r\nSET k new\r\nGET k\r\n")
	eventually(t, "the node to have executed all", func() bool { return node.Do(t, "GET", "k") == "new" })
	l.cut()
	if got := c.Recv(); got != "old" && !isDoubt(got) {
		t.Errorf("GET before SET: %v", got)
	}
	if got := c.Recv(); !isDoubt(got) {
		t.Errorf("SET: %v", got)
	}
	if got := c.Recv(); got != "new" {
		t.Errorf("GET behind SET: %v", got)
	}
}

func TestNodeThatIsGoneIsToldOfInTheSameWordsOnPipesAndLeases(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	node.Kill()
	c := dial(t, b.Addr())
	want := redistest.Error("TRYAGAIN berth: no connection to " + node.Addr() + " (connection refused), command not executed")
	for _, request := range []string{"GET k", "WATCH k", "SUBSCRIBE k"} {
		eventually(t, request+" to be refused", func() bool { return c.Do(words(request)...) == want })
	}
}

// The late reply must be swallowed, and must not be taken for the next request's.
func TestReplyThatComesTooLateIsNobodys(t *testing.T) {
	parallel(t)
	for _, name := range []string{"on a pipe", "on a lease"} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Start(t)
			l := startLink(t, node.Addr())
			b := startBerth(t, l.addr, "--backend-timeout-ms", "100")
			c := dial(t, b.Addr())
			pipelined(c, "SET k v", "INCR n")
			pipelined(c, "WATCH k", "UNWATCH") // leaves an idle lease
			l.hold()
			sent := []string{"INCR n"}
			if name == "on a lease" {
				sent = []string{"WATCH k", "INCR n"} // what is pipelined behind WATCH goes along
			}
			for _, got := range pipelined(c, sent...) {
				if !isDoubt(got) {
					t.Fatalf("got %v", got)
				}
			}
			l.release()
			if got := pipelined(c, "ECHO a", "GET k", "INCR n", "GET k"); fmt.Sprint(got) != "[a v 3 v]" {
				t.Fatalf("afterwards: %v", got)
			}
			if got := pipelined(c, "MULTI", "SET k w", "EXEC"); (got[2] == nil) != (name == "on a lease") {
				t.Fatalf("EXEC: %v", got[2])
			}
		})
	}
}

// One part was executed: TRYAGAIN, on which clients send all of it again, would make them count wrong.
func TestSplitWriteThatFailsInPartIsInDoubt(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0, "--cluster-require-full-coverage", "no")
	b := startBerth(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	here, gone := tagOn(cluster, 0), tagOn(cluster, 1)
	pipelined(c, "SET "+here+" 1", "SET "+gone+" 1")
	cluster.Node(1).Kill()
	eventually(t, "the node's absence to be noticed", func() bool {
		e, _ := c.Do("GET", gone).(redistest.Error)
		return strings.HasPrefix(string(e), "TRYAGAIN ")
	})
	if got := c.Do("DEL", here, gone); !isDoubt(got) {
		t.Errorf("DEL: %v", got)
	}
	if got := c.Do("GET", here); got != nil {
		t.Errorf("the part that could be executed: %v", got)
	}
	if got, _ := c.Do("MGET", here, gone).(redistest.Error); !retryable(string(got)) {
		t.Errorf("MGET: %v", got)
	}
}
