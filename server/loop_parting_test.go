package main

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// dialNarrow connects a client whose kernel holds few bytes that it has not read.
func dialNarrow(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if err := c.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func TestBytesAfterTheLastRequestDoNotCutItsReplies(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	berth := startBerth(t, node.Addr())
	big := bytes.Repeat([]byte("v"), 800_000)
	node.Do(t, "SET", "big", string(big))
	for text, last := range map[string]string{
		"QUIT\r\n": "+OK\r\n",
		"*1\r\nno": "-ERR Protocol error: expected '$', got 'n'\r\n",
	} {
		c := dialNarrow(t, berth.Addr())
		if _, err := io.WriteString(c, "GET big\r\n"+text); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "PING\r\n"); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("after %q the client read %d bytes: %v", text, len(rest), err)
		}
		if want := "$800000\r\n" + string(big) + "\r\n" + last; string(first)+string(rest) != want {
			t.Errorf("after %q the client read %d bytes, want %d", text, 1+len(rest), len(want))
		}
	}
}

func TestClientThatDoesNotCloseAfterItsLastReplyIsClosed(t *testing.T) {
	parallel(t)
	berth := startBerth(t, redistest.Start(t).Addr())
	c := dialNarrow(t, berth.Addr())
	if _, err := io.WriteString(c, "QUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "+OK\r\n" {
		t.Fatalf("QUIT brought %q, %v", got, err)
	}
	eventually(t, "the client to be forgotten", func() bool { return berth.srv.clients.Load() == 0 })
}

func TestClientThatHasSaidQuitHoldsNoLease(t *testing.T) {
	parallel(t)
	for _, what := range []string{"WATCH k", "MONITOR", "SUBSCRIBE ch", "CLIENT TRACKING ON"} {
		t.Run(what, func(t *testing.T) {
			parallel(t)
			b := startBerth(t, sharedNode(t).Addr(), "--pubsub-sharing", "no")
			c := dialNarrow(t, b.Addr())
			for _, text := range []string{"HELLO 3\r\n" + what + "\r\n", "QUIT\r\n"} {
				if _, err := io.WriteString(c, text); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the lease", func() bool { return b.leases().Leased == 1 || text == "QUIT\r\n" })
			}
			if got, err := io.ReadAll(c); err != nil || !bytes.HasSuffix(got, []byte("+OK\r\n")) {
				t.Fatalf("QUIT brought %q, %v", got, err)
			}
			if s := b.leases(); s.Leased != 0 {
				t.Errorf("after the last reply: %+v", s)
			}
		})
	}
}
