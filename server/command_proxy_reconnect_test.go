package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// connectionIDs lists the node's numbers of berth's connections.
func connectionIDs(t *testing.T, node *redistest.Server) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for _, c := range nodeClients(t, node) {
		ids[c["id"]] = true
	}
	return ids
}

// Every client checks what it reads, so a reply that is lost, doubled or out of order is seen.
func TestReconnectUnderLoadLosesAndDoublesNothing(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) (nodes []*redistest.Server, url string){
		"standalone": func(t *testing.T) ([]*redistest.Server, string) {
			node := redistest.Start(t)
			return []*redistest.Server{node}, "redis://" + node.Addr()
		},
		"cluster": func(t *testing.T) ([]*redistest.Server, string) {
			c := redistest.StartCluster(t, 3, 0)
			return []*redistest.Server{c.Node(0), c.Node(1), c.Node(2)}, clusterURL(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			nodes, url := url(t)
			reconnectUnderLoad(t, nodes, url)
		})
	}
}

func reconnectUnderLoad(t *testing.T, nodes []*redistest.Server, url string) {
	b := startBerth(t, url)
	var stop atomic.Bool
	var clients sync.WaitGroup
	var done [5]atomic.Int64 // rounds, by kind of client
	run := func(kind int, round func(c *redistest.Conn, i int) error) {
		c := dial(t, b.Addr())
		clients.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if err := round(c, i); err != nil {
					t.Error(err)
					return
				}
				done[kind].Add(1)
			}
		})
	}
	const each = 4
	for n := range each {
		counter, list, watched := fmt.Sprintf("counter.%d", n), fmt.Sprintf("list.%d", n), fmt.Sprintf("{watched.%d}", n)
		run(0, func(c *redistest.Conn, i int) error { // pipelines: the replies must be in order
			const deep = 1000 // more than a node reads of a connection at once
			both := append(redistest.Command("INCR", counter), redistest.Command("GET", counter)...)
			if err := c.TryWrite(bytes.Repeat(both, deep)); err != nil {
				return err
			}
			for k := range deep {
				want := int64(i*deep + k + 1)
				if got, err := c.TryRecv(); got != want {
					return fmt.Errorf("INCR %s: %v (%v), want %d", counter, got, err, want)
				}
				if got, err := c.TryRecv(); got != strconv.FormatInt(want, 10) {
					return fmt.Errorf("GET %s: %v (%v), want %d", counter, got, err, want)
				}
			}
			return nil
		})
		run(1, func(c *redistest.Conn, i int) error { // no element is lost, doubled or out of order
			got, err := c.TryDo("BLPOP", list, "0")
			if want := fmt.Sprintf("[%s %d]", list, i); fmt.Sprint(got) != want && !(stop.Load() && fmt.Sprint(got) == fmt.Sprintf("[%s end]", list)) {
				return fmt.Errorf("BLPOP: %v (%v), want %s", got, err, want)
			}
			return nil
		})
		run(2, func(c *redistest.Conn, i int) error {
			if got, err := c.TryDo("RPUSH", list, i); err != nil || fmt.Sprint(got) == "0" {
				return fmt.Errorf("RPUSH: %v (%v)", got, err)
			}
			if _, failed := c.Do("LLEN", list).(redistest.Error); failed {
				return fmt.Errorf("LLEN fails")
			}
			return nil
		})
		run(3, func(c *redistest.Conn, i int) error {
			for _, step := range []struct{ request, want string }{
				{"WATCH " + watched, "OK"}, {"GET " + watched, fmt.Sprint(i)}, {"MULTI", "OK"}, {"INCR " + watched, "QUEUED"},
				{"INCR " + watched + ".other", "QUEUED"}, {"EXEC", fmt.Sprintf("[%d %d]", i+1, i+1)},
			} {
				if i == 0 && step.want == "0" {
					step.want = "<nil>"
				}
				if got, err := c.TryDo(words(step.request)...); fmt.Sprint(got) != step.want {
					return fmt.Errorf("%s: %v (%v), want %s", step.request, got, err, step.want)
				}
			}
			return nil
		})
		run(4, func(c *redistest.Conn, i int) error { // keys in many slots
			mset, mget, want := []any{"MSET"}, []any{"MGET"}, []string{}
			for k := range 20 {
				key, value := fmt.Sprintf("many.%d.%d", n, k), fmt.Sprintf("%d.%d", i, k)
				mset, mget, want = append(mset, key, value), append(mget, key), append(want, value)
			}
			c.Send(mset...)
			c.Send(mget...)
			if got, err := c.TryRecv(); got != "OK" {
				return fmt.Errorf("MSET: %v (%v)", got, err)
			}
			if got, err := c.TryRecv(); fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("MGET: %v (%v), want %v", got, err, want)
			}
			return nil
		})
	}
	atLeast := func(more int64) { // every kind goes on
		t.Helper()
		var was [len(done)]int64
		for kind := range done {
			was[kind] = done[kind].Load()
		}
		eventually(t, "every kind of client to go on", func() bool {
			for kind := range done {
				if done[kind].Load() < was[kind]+more {
					return t.Failed()
				}
			}
			return true
		})
	}
	operator := dial(t, b.Addr())
	atLeast(each)
	before := map[string]bool{}
	for i, node := range nodes {
		for id := range connectionIDs(t, node) {
			before[fmt.Sprint(i, ".", id)] = true
		}
	}
	for i := range 50 {
		request := []any{"PROXY", "RECONNECT"}
		if i%2 == 0 {
			request = append(request, nodes[i%len(nodes)].Addr())
		}
		if got := operator.Do(request...); got != "OK" {
			t.Fatalf("%v: %v", request, got)
		}
		atLeast(1)
	}
	if got := operator.Do("PROXY", "RECONNECT"); got != "OK" {
		t.Fatal(got)
	}
	eventually(t, "all connections to be new", func() bool {
		for i, node := range nodes {
			for id := range connectionIDs(t, node) {
				if before[fmt.Sprint(i, ".", id)] {
					return false
				}
			}
		}
		return true
	})
	stop.Store(true)
	for n := range each {
		operator.Do("RPUSH", fmt.Sprintf("list.%d", n), "end")
	}
	clients.Wait()
}

func TestReconnectReplacesIdleConnectionsAtOnceAndHeldOnesWhenTheyAreGivenBack(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1")
	c, watcher, listener := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	script(t, listener, "SUBSCRIBE news → [subscribe news 1]")
	script(t, watcher, "WATCH k → OK", "GET k → <nil>")
	script(t, c, "WATCH j → OK", "UNWATCH → OK", "SET k 1 → OK", "GET k → 1")
	before := connectionIDs(t, node)
	script(t, c, "PROXY RECONNECT "+node.Addr()+" → OK")
	left := func(want string) {
		t.Helper()
		eventually(t, "connections to be closed but for those of "+want, func() bool {
			var last []string
			for _, c := range nodeClients(t, node) {
				if before[c["id"]] {
					last = append(last, c["cmd"])
				}
			}
			slices.Sort(last)
			return strings.Join(last, " ") == want
		})
	}
	left("subscribe watch")
	script(t, watcher, "MULTI → OK", "SET k 2 → QUEUED", "EXEC → <nil>")
	left("subscribe")
	script(t, c, "WATCH k → OK", "GET k → 1", "PUBLISH news x → 1")
	if got := fmt.Sprint(listener.Recv()); got != "[message news x]" {
		t.Error(got)
	}
}

func TestReconnectRefusesWhatIsNoNode(t *testing.T) {
	parallel(t)
	b := startBerth(t, sharedCluster(t).Node(0).Addr())
	c := dial(t, b.Addr())
	for _, addr := range []string{"nobody:1", ""} {
		got, failed := c.Do("PROXY", "RECONNECT", addr).(redistest.Error)
		if !failed || !strings.HasPrefix(string(got), "ERR berth: no node has this address: ") {
			t.Errorf("%q: %v", addr, got)
		}
		for _, row := range proxy(t, c, "BACKENDS") {
			if !strings.Contains(string(got), row["node"].(string)) {
				t.Errorf("%q does not name %s", got, row["node"])
			}
		}
	}
	script(t, c, "PROXY RECONNECT a b → ERR wrong number of arguments for 'proxy|reconnect' command")
	script(t, c, "MULTI → OK", "PROXY RECONNECT → QUEUED", "SET k 1 → QUEUED", "EXEC → [OK OK]")
}

// The round that RECONNECT asks for finds where the name leads now.
func TestReconnectHasTheNodesAskedAgain(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr(), "--topology-refresh-interval", "0")
	was := b.srv.nodes.Stats().Rounds
	script(t, dial(t, b.Addr()), "PROXY RECONNECT → OK")
	eventually(t, "a round", func() bool { return b.srv.nodes.Stats().Rounds > was })
}
