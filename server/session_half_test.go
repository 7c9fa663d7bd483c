package main

import (
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// halfClose sends what a client says before it closes its sending side, and returns all it gets.
func halfClose(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %q: %v", got, err)
	}
	return string(got)
}

func TestClientThatClosedItsSendingSideGetsItsReplies(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	berth := startBerth(t, node.Addr())
	big := strings.Repeat("v", 300_000)
	node.Do(t, "SET", "big", big)
	for text, want := range map[string]string{
		"GET nothing\r\n":                                  "$-1\r\n",
		"SET a 1\r\nINCR a\r\nPING\r\nGET a\r\n":           "+OK\r\n:2\r\n+PONG\r\n$1\r\n2\r\n",
		"GET big\r\n":                                      "$300000\r\n" + big + "\r\n",
		"WATCH w\r\nMULTI\r\nSET w 1\r\nEXEC\r\nGET w\r\n": "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$1\r\n1\r\n",
		"SET a 1\r\nGET a\r\nQUIT\r\n":                     "+OK\r\n$1\r\n1\r\n+OK\r\n",
		"GET big\r\nQUIT\r\nPING\r\n":                      "$300000\r\n" + big + "\r\n+OK\r\n",
		"GET nothing\r\n*1\r\nno\r\n":                      "$-1\r\n-ERR Protocol error: expected '$', got 'n'\r\n",
		"SET b 1\r\nGET":                                   "+OK\r\n", // the rest never comes
		"PING\r\nBLPOP none 0\r\nPING\r\n":                 "+PONG\r\n",
		"ECHO a\r\nBLPOP none 0\r\nPING\r\n":               "$1\r\na\r\n",
		"WATCH w\r\nBLPOP none 0\r\nPING\r\n":              "+OK\r\n",
		"GET nothing\r\nSUBSCRIBE c\r\n*x\r\n": "$-1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" +
			"-ERR Protocol error: invalid multibulk length\r\n",
		"SUBSCRIBE c\r\nUNSUBSCRIBE c\r\nPING\r\n": "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n+PONG\r\n",
		"PING\r\nMONITOR\r\n":                      "+PONG\r\n+OK\r\n",
	} {
		for range 20 {
			got := halfClose(t, berth.Addr(), text)
			if strings.HasSuffix(text, "MONITOR\r\n") { // it may hear what berth says for those before it
				got = got[:min(len(got), len(want))]
			}
			if got != want {
				t.Fatalf("%.60q brought %.80q, want %.80q", text, got, want)
			}
		}
	}
	eventually(t, "all clients to be gone", func() bool { return berth.srv.clients.Load() == 0 })
}

// It takes no request while it has much to read, and goes on after it has read.
func TestClientThatClosedItsSendingSideGetsMoreThanItMayBeOwed(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	berth := startBerth(t, node.Addr())
	big := strings.Repeat("v", clientWindow+1)
	node.Do(t, "SET", "big", big)
	const turns = 8
	text := strings.Repeat("GET big\r\nECHO e\r\n", turns)
	want := strings.Repeat("$"+strconv.Itoa(len(big))+"\r\n"+big+"\r\n$1\r\ne\r\n", turns)
	for range 2 {
		if got := halfClose(t, berth.Addr(), text); got != want {
			t.Fatalf("got %d bytes, want %d", len(got), len(want))
		}
	}
	eventually(t, "all clients to be gone", func() bool { return berth.srv.clients.Load() == 0 })
}

func TestBlockedClientThatClosedItsSendingSideIsGone(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	berth := startBerth(t, node.Addr())
	if got := halfClose(t, berth.Addr(), "BLPOP nothing 0\r\n"); got != "" {
		t.Fatalf("got %q", got)
	}
	eventually(t, "the client to be gone", func() bool { return berth.srv.clients.Load() == 0 })
}

// What is left of its input is no whole request, and nothing more comes that would end the wait for it.
func TestClientThatClosedInTheMiddleOfARequestIsGone(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	berth := startBerth(t, node.Addr())
	for _, text := range []string{"GET", "SET b 1\r\nGET", "*2\r\n$3\r\nGET\r\n"} {
		c := dial(t, berth.Addr())
		berth.feed(c, text)
		if strings.Contains(text, "SET") {
			c.ReadUntil("+OK\r\n")
		}
		c.CloseWrite()
		if got := c.ReadAll(); got != "" {
			t.Errorf("%q brought %q", text, got)
		}
	}
	eventually(t, "all clients to be gone", func() bool { return berth.srv.clients.Load() == 0 })
}

// gnet has closed the socket, and its poller is not to be told anything about it.
func TestSocketThatGnetHasClosedIsNotSteered(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr())
	for _, lingers := range []bool{true, false} {
		c := dial(t, b.Addr())
		b.feed(c, pipeline("BLPOP half:list 0"))
		awaitBlocked(t, node, 1)
		<-sendMuch(c, strings.Repeat(pipeline("SET half:k "+strings.Repeat("x", 1000)), 200))
		b.awaitHangUpOnly(t)
		done := make(chan bool)
		for _, l := range b.srv.eachLoop() {
			l.Post(func() {
				for s := l.first; s != nil; s = s.next {
					socket := s.conn
					if lingers { // its element has come, and its end before the loop's turn
						s.resumeFrom(pauseBlocked)
						s.gone(socket, io.EOF)
						s.readOnce()
						s.close()
					}
					_ = l.el.Close(socket)
					s.readOnce()
				}
				done <- true
			})
			<-done
		}
		b.awaitClients(t, 0)
	}
}

// What has come does not wait for what is still to come: replies of a client that has left for good
// would gather.
func TestClientThatClosedItsSendingSideGetsEachReplyAsItComes(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	isRead := make(chan struct{})
	open := sync.OnceFunc(func() { close(isRead) })
	defer open()
	berth := startBerth(t, startGate(t, node.Addr(), func(words string) {
		if words == "get second" {
			<-isRead
		}
	}).addr)
	c := dial(t, berth.Addr())
	berth.feed(c, "GET first\r\nGET second\r\n")
	c.CloseWrite()
	c.ReadUntil("$-1\r\n")
	open()
	if got := c.ReadAll(); got != "$-1\r\n" {
		t.Errorf("the second reply is %q", got)
	}
	berth.awaitClients(t, 0)
}
