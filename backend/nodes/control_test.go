package nodes

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
)

func dialScripted(t *testing.T, ctx context.Context, timeout time.Duration, script func(string) string) *Control {
	t.Helper()
	c, err := DialControl(ctx, startScriptedNode(t, script).addr(), timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestControlReadsAnAnswerOfAnySize(t *testing.T) {
	want := strings.Repeat("0123456789", 200_000)
	c := dialScripted(t, t.Context(), 10*time.Second, func(string) string { return bulk(want) })
	for range 2 {
		v, err := c.Do("GET", "k")
		if err != nil || v.Text() != want {
			t.Fatalf("%d bytes, %v", len(v.Text()), err)
		}
	}
}

func TestControlTurnsAnErrorReplyIntoAnErrorThatNamesNoSecret(t *testing.T) {
	c := dialScripted(t, t.Context(), time.Second, func(string) string { return "-WRONGPASS no\r\n" })
	err := c.Auth(backend.Identity{User: "app", Password: "secret"})
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
	c, err := DialControl(t.Context(), s.addr(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, id := range []backend.Identity{{}, {Password: "p"}, {User: "u", Password: "p"}, {User: "u"}} {
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
	c, err := DialControl(t.Context(), l.Addr().String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do("PING"); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Fatal(err)
	}
	l.Close()
	if _, err := DialControl(t.Context(), l.Addr().String(), time.Second); err == nil ||
		!strings.Contains(err.Error(), "dial "+l.Addr().String()+": connect: connection refused") {
		t.Fatal(err)
	}
}
