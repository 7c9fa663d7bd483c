package main

import (
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// fields reads a map of RESP3, or the array that stands for it in RESP2.
func fields(t testing.TB, reply any) map[string]any {
	t.Helper()
	flat, ok := reply.([]any)
	if m, is := reply.(redistest.Map); is {
		flat, ok = m, true
	}
	if !ok || len(flat)%2 != 0 {
		t.Fatalf("no map: %v", reply)
	}
	all := map[string]any{}
	for i := 0; i < len(flat); i += 2 {
		all[flat[i].(string)] = flat[i+1]
	}
	return all
}

// proxy asks for PROXY's rows.
func proxy(t testing.TB, c *redistest.Conn, what ...any) []map[string]any {
	t.Helper()
	reply, ok := c.Do(append([]any{"PROXY"}, what...)...).([]any)
	if !ok {
		t.Fatalf("PROXY %s is no array", what)
	}
	var rows []map[string]any
	for _, r := range reply {
		rows = append(rows, fields(t, r))
	}
	return rows
}

// only is the one row in which a field has a value.
func only(t testing.TB, rows []map[string]any, field string, value any) map[string]any {
	t.Helper()
	var found []map[string]any
	for _, r := range rows {
		if r[field] == value {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d rows have %s %v:\n%v", len(found), field, value, rows)
	}
	return found[0]
}

// names lists the fields of a row's type as PROXY and the status page call them.
func names(row any) (all []string) {
	for i := range reflect.TypeOf(row).NumField() {
		all = append(all, reflect.TypeOf(row).Field(i).Tag.Get("json"))
	}
	return all
}

func TestProxyAnswersInMapsOrInArraysOfNameAndValue(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--pubsub-sharing", "no", "--proxy-key-sampling", "1")
	watcher := dial(t, b.Addr())
	watcher.Do("SET", "k", strings.Repeat("v", 2*bigValue))
	watcher.Do("WATCH", "k")
	for _, resp := range []int{2, 3} {
		c := dial(t, b.Addr())
		c.Do("HELLO", resp)
		check := func(what string, reply any, row any) {
			if _, is := reply.(redistest.Map); is != (resp == 3) {
				t.Errorf("RESP%d %s: %T", resp, what, reply)
			}
			got := fields(t, reply)
			want := names(row)
			if len(got) != len(want) {
				t.Errorf("RESP%d %s: %d fields, want %d", resp, what, len(got), len(want))
			}
			for _, name := range want {
				switch got[name].(type) {
				case int64, string:
				default:
					t.Errorf("RESP%d %s: %s is %v", resp, what, name, got[name])
				}
			}
		}
		for what, row := range map[string]any{
			"pools": telemetry.PoolRow{}, "PINS": telemetry.PinRow{}, "Clients": telemetry.ClientRow{}, "BACKENDS": telemetry.BackendRow{}, "SLOTS": telemetry.SlotRow{},
			"HOTKEYS": telemetry.HotKeyRow{}, "BIGKEYS": telemetry.BigKeyRow{}, "TOP": telemetry.TopRow{},
		} {
			reply := c.Do("PROXY", what).([]any)
			if len(reply) == 0 {
				t.Errorf("RESP%d %s: no rows", resp, what)
			}
			for _, r := range reply {
				check(what, r, row)
			}
		}
		check("STATS", c.Do("proxy", "stats"), telemetry.StatsRow{})
	}
}

func TestProxyRefusesInTheWordsOfRedis(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	c := dial(t, b.Addr())
	for request, want := range map[string]string{
		"PROXY":                       "ERR wrong number of arguments for 'proxy' command",
		"proxy Nothing":               "ERR unknown subcommand 'Nothing'. Try PROXY HELP.",
		"PROXY POOLS x":               "ERR wrong number of arguments for 'proxy|pools' command",
		"PROXY HOTKEYS COUNT":         "ERR syntax error",
		"PROXY HOTKEYS COUNT 0":       "ERR value is not an integer or out of range",
		"PROXY BIGKEYS COUNT x":       "ERR value is not an integer or out of range",
		"PROXY TOP BY":                "ERR syntax error",
		"PROXY TOP BY nothing":        "ERR syntax error",
		"PROXY TOP SORT id":           "ERR syntax error",
		"PROXY TOP BY user COUNT all": "ERR value is not an integer or out of range",
		"PROXY BIGKEYS FIRST 1":       "ERR syntax error",
	} {
		if got := c.Do(words(request)...); got != redistest.Error(want) {
			t.Errorf("%s: %v", request, got)
		}
	}
	if got := c.Do("COMMAND", "INFO", "PROXY").([]any); got[0] != nil {
		t.Errorf("COMMAND, which speaks for the nodes, has PROXY: %v", got)
	}
	c.Do("MULTI")
	c.Do("PROXY", "SLOTS")
	c.Do("PROXY", "POOLS x")
	if got := fmt.Sprint(c.Do("EXEC")); !strings.HasPrefix(got, "EXECABORT") {
		t.Errorf("inside MULTI: %s", got)
	}
	c.Do("MULTI")
	c.Do("PROXY", "STATS")
	if got, ok := c.Do("EXEC").([]any); !ok || len(got) != 1 {
		t.Errorf("inside MULTI: %v", got)
	}
}

func words(line string) (all []any) {
	for _, w := range strings.Fields(line) {
		all = append(all, w)
	}
	return all
}

func TestProxyHelpNamesEverySubcommand(t *testing.T) {
	parallel(t)
	c := dial(t, startBerth(t, "").Addr())
	var lines []string
	for _, line := range c.Do("PROXY", "HELP").([]any) {
		name, _, _ := strings.Cut(line.(string), " ")
		lines = append(lines, name)
	}
	for _, cmd := range router.WithOwn().Find("proxy").Subcommands() {
		_, name, _ := strings.Cut(cmd.Name, "|")
		if !slices.Contains(lines, strings.ToUpper(name)) {
			t.Errorf("%s: not in HELP", name)
		}
		if own := newOwnIndex(router.WithOwn()).of(cmd); own.answer == nil && own.run == nil {
			t.Errorf("%s: nobody answers it", name)
		}
	}
}

func TestProxyIsForThoseWhoMayListClients(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--requirepass", "secret")
	node.Do(t, "ACL", "SETUSER", "reader", "on", ">pw", "+@read", "~*")
	b := startBerth(t, "redis://:secret@"+node.Addr())
	for _, cmd := range router.WithOwn().Find("proxy").Subcommands() {
		_, name, _ := strings.Cut(cmd.Name, "|")
		c := dial(t, b.Addr())
		if got := c.Do("PROXY", name); got != redistest.Error("NOAUTH Authentication required.") {
			t.Errorf("%s without authentication: %v", name, got)
		}
		if name == "help" {
			continue
		}
		c.Do("AUTH", "reader", "pw")
		if got := c.Do("PROXY", name); got != redistest.Error(b.noCommand("reader", "proxy|"+name)) {
			t.Errorf("%s without permission: %v", name, got)
		}
		c.Do("AUTH", "secret")
		if err, failed := c.Do("PROXY", name).(redistest.Error); failed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPinsTellWhoHoldsWhatAndWhy(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--pubsub-sharing", "no", "--loops", "2")
	c := dial(t, b.Addr())
	for _, p := range []struct {
		name, reason, command string
		requests              []string
	}{
		{"taker", "blocking", "blpop", []string{"BLPOP q 0"}},
		{"carer", "watch", "get", []string{"WATCH k", "GET k"}},
		{"hearer", "subscribed", "subscribe", []string{"SUBSCRIBE news"}},
		{"spy", "monitor", "monitor", []string{"MONITOR"}},
	} {
		client := dial(t, b.Addr())
		client.Do("CLIENT", "SETNAME", p.name)
		id := client.Do("CLIENT", "ID")
		for _, r := range p.requests {
			client.Send(words(r)...)
		}
		eventually(t, p.name+" to hold a connection", func() bool {
			return slices.ContainsFunc(proxy(t, c, "PINS"), func(r map[string]any) bool {
				return r["name"] == p.name && r["reason"] == p.reason && r["command"] == p.command
			})
		})
		r := only(t, proxy(t, c, "PINS"), "id", id)
		if r["addr"] != client.LocalAddr() || r["node"] != node.Addr() || r["user"] != "default" || r["seconds"].(int64) > 60 {
			t.Errorf("%s: %v", p.name, r)
		}
	}
	rows := proxy(t, c, "PINS")
	if len(rows) != 4 {
		t.Errorf("%d rows", len(rows))
	}
	for i := 1; i < len(rows); i++ {
		if rows[i-1]["seconds"].(int64) < rows[i]["seconds"].(int64) {
			t.Errorf("not the longest first: %v", rows)
		}
	}
	node.Do(t, "LPUSH", "q", "x")
	eventually(t, "the blocked client's connection to be given back", func() bool { return len(proxy(t, c, "PINS")) == 3 })
}

func TestPinsTellOfWhatIsKeptWithThePoolOff(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr(), "--private_conn_pool_enabled", "0")
	client, c := dial(t, b.Addr()), dial(t, b.Addr())
	client.Do("WATCH", "k")
	client.Do("UNWATCH")
	if r := only(t, proxy(t, c, "PINS"), "id", client.Do("CLIENT", "ID")); r["reason"] != "kept" {
		t.Errorf("got %v", r)
	}
}

func TestSharedSubscribersHoldNoConnection(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr())
	c := dial(t, b.Addr())
	for range 3 {
		dial(t, b.Addr()).Do("SUBSCRIBE", "news")
	}
	if rows := proxy(t, c, "PINS"); len(rows) != 0 {
		t.Errorf("held: %v", rows)
	}
	r := proxy(t, c, "BACKENDS")[0]
	if feeds := r["feeds"].(int64); feeds < 1 || feeds > int64(len(b.srv.eachLoop())) || r["channels"] != feeds || r["state"] != "up" {
		t.Errorf("got %v", r)
	}
	if got := fields(t, c.Do("PROXY", "STATS"))["clients_subscribed"]; got != int64(3) {
		t.Errorf("clients_subscribed: %v", got)
	}
}

func TestPoolsCountClientsConnectionsAndTheLongestWait(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">pw", "+@all", "~*")
	b := startBerth(t, node.Addr(), "--private-conn-pool-max-total", "1", "--pool-wait-timeout", "0")
	holder, waiter, other, c := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	other.Do("AUTH", "bob", "pw")
	other.Do("WATCH", "k")
	other.Do("UNWATCH")
	holder.Do("MONITOR") // in place of bob's, which is idle: the node's connections are one for all users together
	waiter.Send("WATCH", "k")
	eventually(t, "a client to have waited for a millisecond", func() bool {
		return only(t, proxy(t, c, "POOLS"), "user", "default")["maxwait_us"].(int64) > 1000
	})
	rows := proxy(t, c, "POOLS")
	for user, want := range map[string]map[string]int64{
		"default": {"cl_active": 1, "cl_waiting": 1, "sv_active": 1, "sv_idle": 0, "sv_login": 0, "hits": 0, "misses": 2, "dials": 1, "waits": 1,
			"sv_active_blocking": 1, "cl_waiting_blocking": 0, "limit": 1, "limit_blocking": 1},
		"bob": {"cl_active": 0, "cl_waiting": 0, "sv_active": 0, "sv_idle": 0, "sv_login": 0, "hits": 0, "misses": 1, "dials": 1, "maxwait_us": 0},
	} {
		r := only(t, rows, "user", user)
		if r["node"] != node.Addr() {
			t.Errorf("%s: node %v", user, r["node"])
		}
		for name, n := range want {
			if r[name] != n {
				t.Errorf("%s: %s is %v, want %d", user, name, r[name], n)
			}
		}
	}
	clients := proxy(t, c, "CLIENTS")
	for client, want := range map[*redistest.Conn]string{holder: "monitor", waiter: "waiting", c: "active"} {
		if r := only(t, clients, "addr", client.LocalAddr()); r["state"] != want {
			t.Errorf("a client is %v, want %s", r["state"], want)
		}
	}
	if r := only(t, clients, "addr", holder.LocalAddr()); r["watching"] != int64(0) || r["node"] != node.Addr() || r["command"] != "monitor" {
		t.Errorf("the holder: %v", r)
	}
}

func TestClientsTellWhatEachIsDoing(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr(), "--loops", "2")
	c := dial(t, b.Addr())
	for state, requests := range map[string][]string{
		"idle": {"PING"}, "blocked": {"BLPOP q 0"}, "subscribed": {"SUBSCRIBE a"}, "monitor": {"MONITOR"}, "multi": {"MULTI", "GET a", "GET b"},
	} {
		client := dial(t, b.Addr())
		client.Do("CLIENT", "SETNAME", "me")
		for _, r := range requests {
			client.Send(words(r)...)
		}
		eventually(t, "a client to be "+state, func() bool {
			r := only(t, proxy(t, c, "CLIENTS"), "addr", client.LocalAddr())
			return r["state"] == state && r["name"] == "me" && (state != "multi" || r["multi"] == int64(2))
		})
	}
	ids := []int64{}
	for _, r := range proxy(t, c, "CLIENTS") {
		ids = append(ids, r["id"].(int64))
	}
	if len(ids) != 6 || !slices.IsSorted(ids) {
		t.Errorf("ids: %v", ids)
	}
}

func TestBackendsTellSinceWhenANodeIsDownAndWhy(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	c.Do("SET", "k", "v")
	r := proxy(t, c, "BACKENDS")[0]
	if r["node"] != node.Addr() || r["role"] != "primary" || r["state"] != "up" || r["slots"] != int64(router.Slots) ||
		r["pipes_up"].(int64) < 1 || r["last_error"] != "" {
		t.Errorf("up: %v", r)
	}
	node.Stop()
	eventually(t, "the node to be down", func() bool {
		c.Do("GET", "k")
		r = proxy(t, c, "BACKENDS")[0]
		return r["state"] == "down"
	})
	if r["pipes_up"] != int64(0) || !strings.Contains(r["last_error"].(string), node.Addr()) || r["last_error_seconds"].(int64) > 60 {
		t.Errorf("down: %v", r)
	}
	node.Restart(t)
	eventually(t, "the node to be up again", func() bool {
		c.Do("GET", "k")
		r = proxy(t, c, "BACKENDS")[0]
		return r["state"] == "up"
	})
	if r["last_error"] == "" {
		t.Errorf("up again, but the error is forgotten: %v", r)
	}
}

func TestSlotsAndBackendsFollowTheTopology(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	at, owners := int64(0), map[any]int64{}
	for _, r := range proxy(t, c, "SLOTS") {
		if r["from"] != at || r["slots"] != r["to"].(int64)-at+1 {
			t.Errorf("%v does not follow on %d", r, at)
		}
		at = r["to"].(int64) + 1
		owners[r["node"]] += r["slots"].(int64)
	}
	if at != router.Slots || len(owners) != 3 {
		t.Errorf("the ranges end at %d, of %v", at, owners)
	}
	for _, r := range proxy(t, c, "BACKENDS") {
		if r["slots"] != owners[r["node"]] {
			t.Errorf("%v: %v slots, want %v", r["node"], r["slots"], owners[r["node"]])
		}
	}
	for i := range 3 {
		if _, known := owners[cluster.Node(i).Addr()]; !known {
			t.Errorf("%s owns nothing: %v", cluster.Node(i).Addr(), owners)
		}
	}
}

func TestStatsCountWhatAllLoopsDo(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr(), "--loops", "2")
	var clients []*redistest.Conn
	for range 4 {
		clients = append(clients, dial(t, b.Addr()))
	}
	for range 25 {
		for _, c := range clients {
			c.Do("SET", "k", "v")
		}
	}
	clients[0].Do("GET", "a", "b")
	got := fields(t, clients[0].Do("PROXY", "STATS"))
	for name, want := range map[string]int64{
		"clients": 4, "clients_accepted": 4, "requests": 101, "errors": 1, "loops": 2, "shards": 1, "slots_served": router.Slots,
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %d", name, got[name], want)
		}
	}
	eventually(t, "the rate to be seen", func() bool {
		return fields(t, clients[0].Do("PROXY", "STATS"))["requests_per_second"].(int64) > 0
	})
}

func TestHTTPToTheClientsPortGetsNoPage(t *testing.T) {
	parallel(t)
	b := startBerth(t, "")
	conn, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, _ := conn.Read(buf)
	if got := string(buf[:n]); !strings.HasPrefix(got, "-ERR") || strings.Contains(got, "<") {
		t.Errorf("got %q", got)
	}
}
