//go:build linux

package main

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/codec"
)

// scripted starts a server that answers every request except PING with answer. If answer returns
// nil, the server closes the connection.
func scripted(t *testing.T, answer func(args [][]byte) []byte) *endpoint {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c, answer)
		}
	}()
	return &endpoint{name: "scripted", addrs: []string{ln.Addr().String()}, filledSize: 64, filledKeys: 1000}
}

// serve answers the requests of one connection.
func serve(c net.Conn, answer func(args [][]byte) []byte) {
	defer c.Close()
	var parser codec.RequestParser
	var in []byte
	chunk := make([]byte, 64<<10)
	for {
		n, err := parser.Parse(in, &codec.Limits{MaxBulk: 1 << 30})
		if err != nil {
			return
		}
		if n == 0 {
			m, err := c.Read(chunk)
			if err != nil {
				return
			}
			in = append(in, chunk[:m]...)
			continue
		}
		out := []byte("+PONG\r\n")
		if args := parser.Args(); string(args[0]) != "PING" {
			out = answer(args)
		}
		parser.Reset()
		in = append(in[:0], in[n:]...)
		if out == nil {
			return
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

const testWarmUp = 20 * time.Millisecond

// testScenario returns a scenario of one client that sends GET.
func testScenario() *scenario {
	return &scenario{WarmUp: testWarmUp, Name: "get", Bed: standalone, Clients: 1, Pipeline: 1, Value: 64, Keys: 1000, Requests: 20, Rounds: 1}
}

func mustRound(t *testing.T, s *scenario, e *endpoint) *outcome {
	t.Helper()
	out, err := round(s, e, 1)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAReplyThatBelongsToAnotherKeyIsAnError(t *testing.T) {
	values := newShape(64)
	var asked atomic.Int64
	e := scripted(t, func(args [][]byte) []byte {
		k := keyNumber(args[1])
		if asked.Add(1)%10 == 0 {
			k++
		}
		return values.appendBulk(nil, k)
	})
	out := mustRound(t, testScenario(), e)
	if out.figures.errors == 0 || out.hist.total == 0 {
		t.Fatalf("%v errors, %d correct replies", out.figures.errors, out.hist.total)
	}
	for words := range out.errors {
		if !strings.HasPrefix(words, `a wrong reply, such as "$64\r\nkey:`) || len(out.errors) > 1 {
			t.Errorf("unexpected errors %v", out.errors)
		}
	}
}

func TestAnErrorReplyIsCountedByItsText(t *testing.T) {
	e := scripted(t, func([][]byte) []byte { return []byte("-ERR no such thing\r\n") })
	out := mustRound(t, testScenario(), e)
	if out.errors["ERR no such thing"] == 0 || len(out.errors) != 1 || out.hist.total != 0 {
		t.Errorf("errors %v, %d correct replies", out.errors, out.hist.total)
	}
}

func TestAnUnexpectedReplyIsAnError(t *testing.T) {
	values := newShape(64)
	e := scripted(t, func(args [][]byte) []byte {
		return append(values.appendBulk(nil, keyNumber(args[1])), "+OK\r\n"...)
	})
	out := mustRound(t, testScenario(), e)
	if out.figures.errors == 0 {
		t.Error("two replies to each request count as one")
	}
}

func TestAConnectionTheEndpointClosesIsAnError(t *testing.T) {
	e := scripted(t, func([][]byte) []byte { return nil })
	s := testScenario()
	s.WarmUp, s.Requests = 0, 1
	out := mustRound(t, s, e)
	if out.errors["the endpoint closed the connection"] != 1 || len(out.errors) != 1 {
		t.Errorf("%v", out.errors)
	}
}

func TestARequestThatIsNeverAnsweredIsAnError(t *testing.T) {
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	e := scripted(t, func([][]byte) []byte { <-forever; return nil })
	s := testScenario()
	s.Clients, s.Requests, s.Duration = 3, 0, 10*time.Millisecond
	out := mustRound(t, s, e)
	if out.errors["clients left without a reply"] != 3 {
		t.Errorf("%v", out.errors)
	}
}

func TestAnEndpointThatRefusesConnectionsIsReported(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	_, err = round(testScenario(), &endpoint{addrs: []string{addr}, filledSize: 64, filledKeys: 1000}, 1)
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestRepliesMayComeInPieces(t *testing.T) {
	values := newShape(100 << 10) // long enough to be received in pieces
	e := scripted(t, func(args [][]byte) []byte { return values.appendBulk(nil, keyNumber(args[1])) })
	s := testScenario()
	s.Value, s.Clients, s.Keys = values.size, 4, 50
	e.filledSize, e.filledKeys = values.size, 50
	out := mustRound(t, s, e)
	if out.figures.errors != 0 || out.hist.total == 0 {
		t.Errorf("errors %v, %d correct replies", out.errors, out.hist.total)
	}
}

func TestALongValueWithAWrongPieceIsAnError(t *testing.T) {
	values := newShape(1 << 20)
	e := scripted(t, func(args [][]byte) []byte {
		raw := values.appendBulk(nil, keyNumber(args[1]))
		raw[len(raw)-100] ^= 1
		return raw
	})
	s := testScenario()
	s.Value, s.Keys = values.size, 50
	e.filledSize, e.filledKeys = values.size, 50
	out := mustRound(t, s, e)
	if out.figures.errors == 0 || out.hist.total != 0 {
		t.Errorf("errors %v, %d correct replies", out.errors, out.hist.total)
	}
}

func TestOpenLoopCountsTheTimeRequestsWaitForASlowEndpoint(t *testing.T) {
	const stall = 200 * time.Millisecond
	values := newShape(64)
	begun := time.Now()
	var stalled atomic.Bool
	e := scripted(t, func(args [][]byte) []byte {
		// Only once, and well after the warm-up.
		if time.Since(begun) > testWarmUp+150*time.Millisecond && stalled.CompareAndSwap(false, true) {
			<-time.After(stall)
		}
		return values.appendBulk(nil, keyNumber(args[1]))
	})
	s := testScenario()
	s.Rate, s.Requests, s.Duration = 500, 0, 600*time.Millisecond
	out := mustRound(t, s, e)
	if out.figures.errors != 0 {
		t.Fatalf("%v", out.errors)
	}
	if out.hist.total < 50 || out.hist.total > 400 { // fewer than are due, on a busy machine
		t.Errorf("%d requests in %s at %g/s", out.hist.total, s.Duration, s.Rate)
	}
	// One request was slow. The hundred requests that fell due during the stall waited too, half of
	// them for longer than half of the stall.
	if got := out.hist.quantile(1); got < stall {
		t.Errorf("the longest request took only %s", got)
	}
	if got := out.hist.quantile(0.85); got < stall/10 {
		t.Errorf("a stall of %s affects only one request: p85 is %s", stall, got)
	}
}
