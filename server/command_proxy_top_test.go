package main

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// keepAsking has clients ask in turn until the test ends: each time, each of them all of its requests.
func keepAsking(t *testing.T, rounds ...func() error) {
	stop, wait := make(chan struct{}), sync.WaitGroup{}
	wait.Go(func() {
		for {
			for _, round := range rounds {
				if err := round(); err != nil {
					t.Error(err)
					return
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		wait.Wait()
	})
}

// asks makes a round of so many requests in one pipeline.
func asks(c *redistest.Conn, n int, request string) func() error {
	return func() error {
		if err := c.TryWrite([]byte(strings.Repeat(request, n))); err != nil {
			return err
		}
		for range n {
			if _, err := c.TryRecv(); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestTopTellsWhoAsksMost(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">pw", "+@all", "~*")
	b := startBerth(t, node.Addr())
	c, busy, lazy, wrong := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	busy.Do("AUTH", "bob", "pw")
	busy.Do("CLIENT", "SETNAME", "batch")
	c.Do("SET", "long", strings.Repeat("v", 10000))
	holder := dial(t, b.Addr())
	holder.Do("WATCH", "k")
	elsewhere, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { elsewhere.Close() })
	read := bufio.NewReader(elsewhere)
	keepAsking(t, asks(busy, 50, "GET k\r\n"), asks(lazy, 2, "GET long\r\n"), asks(wrong, 5, "GET\r\n"), func() error {
		if _, err := elsewhere.Write([]byte(strings.Repeat("PING\r\n", 20))); err != nil {
			return err
		}
		for range 20 {
			if _, err := read.ReadString('\n'); err != nil {
				return err
			}
		}
		return nil
	})
	number := func(r map[string]any, field string) int64 { return r[field].(int64) }

	rows := proxy(t, c, "TOP")
	if r := rows[0]; len(rows) != 6 || r["addr"] != busy.LocalAddr() || r["user"] != "bob" || r["name"] != "batch" || r["command"] != "get" || r["clients"] != int64(1) {
		t.Errorf("the first of %d: %v", len(rows), r)
	}
	if rows[1]["addr"] != elsewhere.LocalAddr().String() {
		t.Errorf("the second: %v", rows[1])
	}
	first, slow, errs := rows[0], only(t, rows, "addr", lazy.LocalAddr()), only(t, rows, "addr", wrong.LocalAddr())
	if a, b := number(first, "requests_per_second"), number(slow, "requests_per_second"); a < 15*b || a > 35*b || b == 0 {
		t.Errorf("25 times as many requests: %d, %d", a, b)
	}
	if n := number(first, "requests_per_second"); number(first, "bytes_in_per_second") < 6*n || number(first, "bytes_in_per_second") > 8*n {
		t.Errorf("a request has 7 bytes: %v", first)
	}
	if n := number(slow, "requests_per_second"); number(slow, "bytes_out_per_second") < 9000*n || number(slow, "bytes_out_per_second") > 11000*n {
		t.Errorf("a reply has 10,000 bytes: %v", slow)
	}
	if n := number(errs, "errors_per_second"); n < number(errs, "requests_per_second")-5 || n == 0 || number(first, "errors_per_second") != 0 {
		t.Errorf("errors: %v, %v", errs, first)
	}
	if r := only(t, rows, "leases", int64(1)); r["addr"] != holder.LocalAddr() {
		t.Errorf("the holder: %v", r)
	}

	if rows := proxy(t, c, "TOP", "COUNT", "1", "BY", "client", "SORT", "bytes_out"); len(rows) != 1 || rows[0]["addr"] != lazy.LocalAddr() {
		t.Errorf("who reads most: %v", rows)
	}
	rows = proxy(t, c, "TOP", "BY", "user")
	if len(rows) != 2 || rows[0]["user"] != "bob" || rows[0]["clients"] != int64(1) || rows[0]["addr"] != "" || rows[1]["clients"] != int64(5) {
		t.Errorf("by user: %v", rows)
	}
	rows = proxy(t, c, "TOP", "by", "address", "sort", "errors")
	if len(rows) != 2 || rows[0]["addr"] != "127.0.0.1" || rows[0]["clients"] != int64(5) || rows[1]["addr"] != "127.0.0.2" || rows[1]["user"] != "" {
		t.Errorf("by address: %v", rows)
	}
}

func TestTopShowsNoClientThatHasLeft(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr())
	c, asker := dial(t, b.Addr()), dial(t, b.Addr())
	gone := dial(t, b.Addr())
	gone.Do("PING")
	asker.Send("PROXY", "TOP")
	eventually(t, "the first look", func() bool {
		return only(t, proxy(t, c, "CLIENTS"), "addr", asker.LocalAddr())["command"] == "proxy|top"
	})
	gone.Close()
	eventually(t, "the client to be gone", func() bool { return b.srv.clients.Load() == 2 })
	if rows := asker.Recv().([]any); len(rows) != 2 {
		t.Errorf("%d rows: %v", len(rows), rows)
	}
	asker.Send("PROXY", "TOP")
	asker.Close() // nobody gets the rows
	eventually(t, "the asker to be gone", func() bool { return b.srv.clients.Load() == 1 })
}

func TestTopBearsFiguresThatRunOver(t *testing.T) {
	const second = int64(lookApart)
	o, _ := readTopOptions([][]byte{[]byte("SORT"), []byte("bytes_in")})
	rows := o.rows([]topLook{{id: 1, at: second, count: 10, tally: tally{in: 1<<32 - 100}}},
		[]topSeen{{topLook: topLook{id: 2, at: 3 * second, count: 7}}, {topLook: topLook{id: 1, at: 3 * second, count: 20, tally: tally{in: 100}}}})
	if len(rows) != 2 || rows[0].BytesIn != 100 || rows[0].Requests != 5 || rows[1].Requests != 7 {
		t.Errorf("got %+v", rows)
	}
}

func TestTopCountsConnectionsOnWhichClientsBlock(t *testing.T) {
	parallel(t)
	b := startBerth(t, sharedNode(t).Addr())
	watcher, alone, first, second := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	alone.Send("BLPOP", "top:lanes:alone", 0)
	b.awaitWaiters(t, 1)
	for i, c := range []*redistest.Conn{first, second} { // together on one connection
		c.Send("BLPOP", "top:lanes", 0)
		b.awaitWaiters(t, i+2)
	}
	eventually(t, "three clients to hold two connections", func() bool {
		held := map[any]any{}
		for _, row := range proxy(t, watcher, "TOP", "SORT", "leases") {
			held[row["addr"]] = row["leases"]
		}
		return held[alone.LocalAddr()] == int64(1) && held[first.LocalAddr()] == int64(1) && held[second.LocalAddr()] == int64(0)
	})
}
