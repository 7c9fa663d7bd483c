package nodes

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

func dialScripted(t *testing.T, ctx context.Context, timeout time.Duration, script func(string) string) *Control {
	t.Helper()
	c, err := DialControl(ctx, startScriptedNode(t, script).addr(), asking(timeout))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestControlReadsALongAnswer(t *testing.T) {
	want := strings.Repeat("0123456789", 100_000)
	c := dialScripted(t, t.Context(), 10*time.Second, func(string) string { return bulk(want) })
	for range 2 {
		v, err := c.Do("GET", "k")
		if err != nil || v.Text() != want {
			t.Fatalf("%d bytes, %v", len(v.Text()), err)
		}
	}
}

// endless sends one beginning and then the same again and again until the other side ends the connection.
func endless(t *testing.T, begin, again string) (addr string) {
	t.Helper()
	return redistest.Listen(t, func(c net.Conn) {
		block := []byte(strings.Repeat(again, 1+64<<10/len(again)))
		for _, err := io.WriteString(c, begin); err == nil; {
			_, err = c.Write(block)
		}
	})
}

// A node that says more than berth can want is one that does not answer, and costs little memory.
func TestControlEndsAnAnswerWithoutEnd(t *testing.T) {
	for name, addr := range map[string]string{
		"an error": endless(t, "-ERR ", "x"), "a line": endless(t, "+", "x"), "a number": endless(t, ":", "1"),
		"a string": endless(t, "$1000000000000\r\n", "x"), "levels": endless(t, "", "*1\r\n"), "elements": endless(t, "*4000000000\r\n", "*0\r\n"),
		"attributes": endless(t, "", "|1\r\n+a\r\n+b\r\n"),
	} {
		c, err := DialControl(t.Context(), addr, asking(20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		v, err := c.DoRaw("CLUSTER", "SHARDS")
		runtime.ReadMemStats(&after)
		c.Close()
		if _, protocol := errors.AsType[*codec.ProtocolError](err); !errors.Is(err, errControlReply) && !protocol {
			t.Errorf("%s: %d bytes, %v", name, len(v), err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 10*maxLongReply {
			t.Errorf("%s: %d MB were allocated", name, used>>20)
		}
	}
}

func TestControlBoundsTheShapeOfAnAnswer(t *testing.T) {
	for name, reply := range map[string]string{
		"levels":   strings.Repeat("*1\r\n", 200_000) + ":1\r\n",
		"elements": "*600000\r\n" + strings.Repeat("*0\r\n", 600_000),
		"bytes":    bulk(strings.Repeat("x", maxControlReply)),
	} {
		c := dialScripted(t, t.Context(), 20*time.Second, func(string) string { return reply })
		if v, err := c.Do("INFO"); err == nil {
			t.Errorf("%s: %c of %d", name, v.Type, len(v.Elems))
		}
	}
	c := dialScripted(t, t.Context(), 20*time.Second, func(string) string { return "-ERR " + strings.Repeat("x", 100_000) + "\r\n" })
	if _, err := c.Do("INFO"); err == nil || len(err.Error()) > 2*maxErrorText {
		t.Errorf("an error's text has %d bytes", len(err.Error()))
	}
}

func TestControlTurnsAnErrorReplyIntoAnErrorThatNamesNoSecret(t *testing.T) {
	c := dialScripted(t, t.Context(), time.Second, func(string) string { return "-WRONGPASS no\r\n" })
	err := c.Auth(Target{User: "app", Password: "secret"})
	reply, ok := errors.AsType[*ReplyError](err)
	if !ok || reply.Text != "WRONGPASS no" || reply.Command != "AUTH" {
		t.Fatalf("%#v", err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
}

func TestControlOfTheDefaultUserDoesNotAuthenticate(t *testing.T) {
	s := startScriptedNode(t, func(string) string { return "+OK\r\n" })
	c, err := DialControl(t.Context(), s.addr(), asking(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, id := range []Target{{}, {Password: "p"}, {User: "u", Password: "p"}, {User: "u"}} {
		if err := c.Auth(id); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Join(s.asked, "|"); got != "auth p|auth u p|auth u " {
		t.Fatal(got)
	}
}

func TestControlGivesUpOnANodeThatDoesNotAnswer(t *testing.T) {
	c := dialScripted(t, t.Context(), 50*time.Millisecond, func(string) string { return "" })
	_, err := c.Do("INFO")
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatal(err)
	}
	if !strings.Contains(err.Error(), c.addr+" asked for INFO: ") {
		t.Fatal(err)
	}
}

func TestControlEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := dialScripted(t, ctx, time.Minute, func(string) string {
		cancel() // while the question is under way
		return ""
	})
	if _, err := c.Do("INFO"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestControlRefusesWhatIsNoAnswerToItsQuestion(t *testing.T) {
	for name, reply := range map[string]string{
		"two replies":  "+OK\r\n+OKAY\r\n",
		"not RESP":     "HTTP/1.1 400 Bad Request\r\n",
		"a stray byte": "+OK\r\n\n",
	} {
		c := dialScripted(t, t.Context(), time.Second, func(string) string { return reply })
		if v, err := c.Do("INFO"); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestControlSaysWhoClosed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.ReadFull(c, make([]byte, 4))
			c.Close()
		}
	}()
	c, err := DialControl(t.Context(), l.Addr().String(), asking(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do("PING"); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Fatal(err)
	}
	l.Close()
	if _, err := DialControl(t.Context(), l.Addr().String(), asking(time.Second)); err == nil ||
		!strings.Contains(err.Error(), "dial "+l.Addr().String()+": connection refused") {
		t.Fatal(err)
	}
}

// asking is settings that give each question so long.
func asking(timeout time.Duration) *Settings {
	s := &Settings{}
	s.SetDialTimeout(timeout)
	return s
}
