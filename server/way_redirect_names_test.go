package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// nameServer answers each question for an IPv4 address with the same one, until that is changed.
type nameServer struct{ addr atomic.Pointer[net.IP] }

// startNameServer has berths that start from now on look names up there.
func startNameServer(t *testing.T, ip string) *nameServer {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{}
	n.lead(ip)
	go n.serve(conn)
	resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		resolver = nil
		_ = conn.Close()
	})
	return n
}

func (n *nameServer) lead(ip string) {
	addr := net.ParseIP(ip).To4()
	n.addr.Store(&addr)
}

func (n *nameServer) serve(conn net.PacketConn) {
	q := make([]byte, 512)
	for {
		size, from, err := conn.ReadFrom(q)
		if err != nil {
			return
		}
		end := 12 // of the question: after the header
		for end < size && q[end] != 0 {
			end += int(q[end]) + 1
		}
		end += 5 // the root, the type and the class
		reply := append([]byte{}, q[:end]...)
		reply[2], reply[3] = 0x81, 0x80
		clear(reply[8:12])
		if isA := binary.BigEndian.Uint16(q[end-4:]) == 1; isA {
			reply[7] = 1
			reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			reply = append(reply, *n.addr.Load()...)
		} else {
			reply[7] = 0
		}
		_, _ = conn.WriteTo(reply, from)
	}
}

// forward has connections to an address lead to another one.
func forward(t *testing.T, at, to string) {
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			a, err := ln.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				_ = a.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				}()
			}
		}
	}()
}

// A service points a name at the replica that has taken over; the old primary lives on as a replica.
// Not parallel, since it changes how names are looked up.
func TestANameThatLeadsElsewhereIsFollowed(t *testing.T) {
	old, next := redistest.Start(t, "--repl-diskless-sync-delay", "0"), redistest.Start(t)
	_, port, _ := net.SplitHostPort(old.Addr())
	forward(t, net.JoinHostPort("127.0.0.2", port), next.Addr())
	names := startNameServer(t, "127.0.0.1")
	b := startBerth(t, "redis://node.test:"+port, "--backend-connect-timeout-ms", "10000")
	c, watcher := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, c, "SET k 1 → OK", "INCR n → 1")
	script(t, watcher, "WATCH k → OK")

	nextHost, nextPort, _ := net.SplitHostPort(next.Addr())
	next.Do(t, "REPLICAOF", "127.0.0.1", port)
	eventually(t, "the replica to follow", func() bool { return fmt.Sprint(next.Do(t, "GET", "n")) == "1" })
	next.Do(t, "REPLICAOF", "NO", "ONE")
	old.Do(t, "REPLICAOF", nextHost, nextPort)
	names.lead("127.0.0.2")

	began := time.Now()
	script(t, c, "INCR n → 2", "GET n → 2", "SET k 2 → OK")
	t.Logf("figure: the first write after the name has changed: answered after %v", time.Since(began).Round(time.Millisecond))
	if got := fmt.Sprint(next.Do(t, "GET", "n")); got != "2" {
		t.Errorf("the new primary has %s", got)
	}
	script(t, watcher, "MULTI → OK", "SET k 3 → QUEUED", "EXEC → <nil>")
	script(t, c, "GET k → 2", "BLPOP l 0.01 → <nil>")
}

// A pipeline goes on in its order. Not parallel, as above.
func TestWritesThatAReplicaRefusesKeepTheirOrder(t *testing.T) {
	old, next := redistest.Start(t, "--repl-diskless-sync-delay", "0"), redistest.Start(t)
	_, port, _ := net.SplitHostPort(old.Addr())
	forward(t, net.JoinHostPort("127.0.0.2", port), next.Addr())
	names := startNameServer(t, "127.0.0.1")
	b := startBerth(t, "redis://node.test:"+port)
	c := dial(t, b.Addr())
	script(t, c, "SET k 1 → OK")
	host, nextPort, _ := net.SplitHostPort(next.Addr())
	old.Do(t, "REPLICAOF", host, nextPort)
	names.lead("127.0.0.2")
	eventually(t, "a write to be accepted", func() bool {
		c.Send("INCR", "n")
		c.Send("GET", "n") // is on its way after it: the write is not sent again
		first, second := c.Recv(), c.Recv()
		_, refused := first.(redistest.Error)
		if !refused && fmt.Sprint(first) != fmt.Sprint(second) {
			t.Fatalf("%v, and then %v", first, second)
		}
		return !refused
	})
	if got := fmt.Sprint(next.Do(t, "GET", "n")); got != "1" {
		t.Errorf("the new primary has %s", got)
	}
}
