package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/build"
)

// infoOf reads the fields of an INFO reply, and its sections as it has them.
func infoOf(t *testing.T, c *redistest.Conn, words ...any) (fields map[string]string, sections []string) {
	t.Helper()
	text, ok := c.Do(append([]any{"INFO"}, words...)...).(string)
	if !ok {
		t.Fatalf("INFO %v is no text", words)
	}
	fields = map[string]string{}
	for line := range strings.SplitSeq(text, "\r\n") {
		name, value, isField := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, "# "):
			sections = append(sections, line[2:])
		case isField:
			fields[name] = value
		case line != "":
			t.Errorf("INFO %v has the line %q", words, line)
		}
	}
	return fields, sections
}

func TestInfoHasWhatFrameworksRead(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--maxmemory-policy", "allkeys-lfu")
	b := startBerth(t, node.Addr(), "--maxclients", "123")
	c, blocked := dial(t, b.Addr()), dial(t, b.Addr())
	blocked.Send("BLPOP", "info:nothing", 0)
	c.Do("SET", "info:a", 1)
	c.Do("SELECT", 2)
	c.Do("MSET", "info:a", 1, "info:b", 2)
	c.Do("PEXPIRE", "info:b", 1000000)
	var got map[string]string
	eventually(t, "the client to block", func() bool {
		got, _ = infoOf(t, c)
		return got["blocked_clients"] == "1" && strings.Contains(got["pool0"], "leased=1")
	})
	for name, want := range map[string]string{
		"redis_version": "7.0.15", "redis_mode": "standalone", "role": "master", "connected_slaves": "0", "loading": "0",
		"maxmemory_policy": "allkeys-lfu", "connected_clients": "2", "maxclients": "123", "cluster_enabled": "0",
		"process_id": fmt.Sprint(os.Getpid()), "tcp_port": b.Addr()[strings.LastIndexByte(b.Addr(), ':')+1:],
		"db0": "keys=1,expires=0,avg_ttl=0", "berth_version": build.Version, "ready": "1", "shards": "1", "slots_served": "16384",
	} {
		if got[name] != want {
			t.Errorf("%s:%s, want %s", name, got[name], want)
		}
	}
	for name, pattern := range map[string]string{
		"used_memory": `[1-9]\d+`, "used_memory_human": `\d+\.\d\d[KM]`, "used_memory_rss": `[1-9]\d+`, "os": `\S+ \S+ \S+`,
		"run_id": `[0-9a-f]{40}`, "uptime_in_seconds": `\d+`, "total_connections_received": `[1-9]\d*`,
		"total_commands_processed": `[1-9]\d*`, "used_cpu_user": `\d+\.\d{6}`, "db2": `keys=2,expires=1,avg_ttl=\d+`,
		"loops": `[1-9]\d*`, "pool0": "node=" + regexp.QuoteMeta(node.Addr()) + ",user=default,idle=0,leased=1,.*",
	} {
		if !regexp.MustCompile("^(" + pattern + ")$").MatchString(got[name]) {
			t.Errorf("%s:%s, want %s", name, got[name], pattern)
		}
	}
}

func TestInfoCountsTheClientsThatTrack(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr(), "--loops", "2")
	watcher := dial(t, b.Addr())
	counted := func(want string) {
		t.Helper()
		eventually(t, want+" clients to track", func() bool {
			got, _ := infoOf(t, watcher, "clients")
			return got["tracking_clients"] == want
		})
	}
	counted("0")
	var clients []*redistest.Conn
	for range 4 { // so that both loops have some
		c := dial(t, b.Addr())
		c.Do("HELLO", 3)
		if got := c.Do("CLIENT", "TRACKING", "ON"); got != "OK" {
			t.Fatal(got)
		}
		clients = append(clients, c)
	}
	counted("4")
	clients[0].Do("CLIENT", "TRACKING", "OFF")
	counted("3")
	clients[1].Close()
	counted("2")
}

// infoLines returns an INFO reply as "Section name" lines, in order, without what is counted from
// one INFO to the next: commands and errors. Of a list (db0, io_thread_1) it keeps the name.
func infoLines(t *testing.T, c *redistest.Conn, asked string) (lines []string) {
	t.Helper()
	text, ok := c.Do(words(strings.TrimSpace("INFO " + asked))...).(string)
	if !ok {
		t.Fatalf("INFO %s is no text", asked)
	}
	section := ""
	for line := range strings.SplitSeq(text, "\r\n") {
		name, _, isField := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, "# "):
			section = line[2:]
			lines = append(lines, section)
		case isField && !strings.HasPrefix(name, "cmdstat_") && !strings.HasPrefix(name, "latency_"):
			lines = append(lines, section+" "+name)
		}
	}
	return lines
}

func TestInfoHasTheSectionsAndFieldsOfTheNode(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	ours, theirs := dial(t, startBerth(t, node.Addr()).Addr()), dial(t, node.Addr())
	ours.Do("SET", "k", "v", "EX", 1000)
	ours.Do("INCR", "k")
	ofBerth := []string{"berth_version", "berth_revision", "berth_chain", "go_version", "client_input_bytes", "client_output_bytes", "pinned_clients"}
	asked := []string{"", "default", "all", "EVERYTHING", "nothing"}
	for _, line := range infoLines(t, theirs, "everything") {
		if !strings.Contains(line, " ") {
			asked = append(asked, strings.ToLower(line))
		}
	}
	for _, words := range append(asked, "keyspace server", "server nothing Server", "default commandstats") {
		want := infoLines(t, theirs, words)
		var got, proxy []string
		for _, line := range infoLines(t, ours, words) {
			section, field, _ := strings.Cut(line, " ")
			switch {
			case section == "Proxy" || section == "Pools":
				proxy = append(proxy, line)
			case !slices.Contains(ofBerth, field):
				got = append(got, line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("INFO %s has\n%q, want\n%q", words, got, want)
		}
		if (len(proxy) > 0) != slices.Contains([]string{"", "default", "all", "EVERYTHING", "default commandstats"}, words) {
			t.Errorf("INFO %s has %q", words, proxy)
		}
	}
	if got := infoLines(t, ours, "pools"); len(got) != 2 || got[0] != "Pools" {
		t.Errorf("INFO pools has %q", got)
	}
}

func TestInfoHasTheFormOfRedis(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	asRedis(t, startBerth(t, node.Addr()), node, "info nothing", "info cluster", "info modules keyspace cluster", "info keyspace",
		"set a 1", "info keyspace cluster", "info CLUSTER")
}

func TestNodeThatSaysTooMuchToInfoIsLeftOut(t *testing.T) {
	parallel(t)
	says := maps.Clone(valkey9)
	says["INFO memory"] = infoReply("# Memory", "used_memory:1", "odd:"+strings.Repeat("x", maxNodeInfo))
	c := dial(t, startBerth(t, scriptedProduct(t, says)).Addr())
	if got := c.Do("INFO", "memory"); got != "# Memory\r\n" {
		t.Errorf("%d bytes", len(fmt.Sprint(got)))
	}
	if got := c.Do("INFO", "modules"); !strings.Contains(fmt.Sprint(got), "module:name=other") {
		t.Errorf("after it: %q", got)
	}
}

func TestInfoSumsTheKeysOfAllShards(t *testing.T) {
	parallel(t)
	for name, url := range map[string]string{"cluster": clusterURL(redistest.StartCluster(t, 3, 0)), "embedded": ""} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, startBerth(t, url).Addr())
			for i := range 100 {
				c.Do("SET", fmt.Sprint("sum:", i), i)
			}
			got, _ := infoOf(t, c)
			if got["db0"] != "keys=100,expires=0,avg_ttl=0" || got["redis_mode"] != "cluster" || got["cluster_enabled"] != "1" ||
				got["shards"] != "3" {
				t.Errorf("%s: db0:%s mode %s enabled %s shards %s", name, got["db0"], got["redis_mode"], got["cluster_enabled"], got["shards"])
			}
		})
	}
}

// A node that is down must not take INFO away, by which people would find out, once berth knows who
// may run it.
func TestInfoAnswersWithoutTheNodes(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	c := dial(t, startBerth(t, node.Addr()).Addr())
	c.Do("SET", "a", 1)
	c.Do("PING")
	node.Kill()
	got, sections := infoOf(t, c)
	if len(sections) < 10 || got["db0"] != "" || got["used_memory"] != "" || got["proxy_used_memory"] == "" || got["loading"] != "0" {
		t.Errorf("sections %v, db0:%s", sections, got["db0"])
	}
}

func TestUserWhoMayNotRunInfoGetsTheNodesWord(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">secret", "+@all", "-info", "~*")
	b := startBerth(t, node.Addr())
	ours, theirs := dial(t, b.Addr()), dial(t, node.Addr())
	for _, c := range []*redistest.Conn{ours, theirs} {
		c.Do("AUTH", "bob", "secret")
	}
	if got, want := ours.DoRaw("INFO"), theirs.DoRaw("INFO"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCommandstatsHaveTheFormOfTheNode(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	for _, line := range []string{"SET k v", "LPUSH k v", "LPUSH k", "LPUSH k", "GET k", "GET k", "CLIENT ID", "MULTI", "LPUSH k v",
		"EXEC", "EVAL return(redis.call('LPUSH',KEYS[1],'v')) 1 k"} {
		c.Do(words(line)...)
	}
	ours, _ := infoOf(t, c, "commandstats", "errorstats", "latencystats", "stats")
	theirs, _ := infoOf(t, dial(t, node.Addr()), "commandstats", "errorstats", "latencystats")
	for name, want := range map[string]string{
		"cmdstat_set": "1 0 0", "cmdstat_get": "2 0 0", "cmdstat_lpush": "3 2 3", "cmdstat_client|id": "1 0 0", "cmdstat_exec": "1 0 0",
		"cmdstat_eval": "1 0 1",
	} {
		f := regexp.MustCompile(`^calls=(\d+),usec=\d+,usec_per_call=\d+\.\d\d,rejected_calls=(\d+),failed_calls=(\d+)$`).FindStringSubmatch(ours[name])
		if f == nil || strings.Join(f[1:], " ") != want {
			t.Errorf("%s:%s, want %s", name, ours[name], want)
		}
	}
	for _, name := range []string{"cmdstat_get", "errorstat_WRONGTYPE", "latency_percentiles_usec_get"} {
		if got, want := ours[name], theirs[name]; got != want || got == "" {
			t.Errorf("%s:%s, want %s", name, got, want)
		}
	}
	if ours["errorstat_ERR"] != "count=2" || ours["total_error_replies"] != "5" {
		t.Errorf("errorstat_ERR:%s, total_error_replies:%s", ours["errorstat_ERR"], ours["total_error_replies"])
	}
}

func TestResetStatBeginsToCountAnew(t *testing.T) {
	b, clients, _ := busyBerth(t)
	clients[0].Do("CONFIG", "RESETSTAT") // others have used the node
	for _, c := range clients {
		c.Do("GET", "reset:none")
		c.Do("NOTHING")
	}
	before, _ := infoOf(t, clients[0], "stats", "commandstats", "errorstats")
	if !strings.HasPrefix(before["cmdstat_get"], "calls=16,usec=") || before["errorstat_ERR"] != "count=16" {
		t.Errorf("before: %v", before)
	}
	if got := clients[0].Do("CONFIG", "RESETSTAT"); got != "OK" {
		t.Fatal(got)
	}
	after, _ := infoOf(t, clients[0], "stats", "commandstats", "errorstats")
	if after["cmdstat_get"] != "" || after["errorstat_ERR"] != "" || after["total_connections_received"] != "0" ||
		after["keyspace_misses"] != "0" {
		t.Errorf("after: %v", after)
	}
	if got := b.srv.clients.Load(); got != int64(len(clients)) {
		t.Errorf("%d clients, want %d", got, len(clients))
	}
}

func TestInfoHasWhatOnlyTheNodesCount(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	c := dial(t, startBerth(t, clusterURL(cluster)).Addr())
	for i := range 30 {
		c.Do("GET", fmt.Sprintf("in:%d", i))
		c.Do("SET", fmt.Sprintf("in:%d", i), i)
	}
	got, _ := infoOf(t, c)
	for name, want := range map[string]string{
		"keyspace_misses": "30", "keyspace_hits": "0", "expired_keys": "0", "rdb_last_bgsave_status": "ok", "aof_enabled": "0",
		"proxy_total_commands_processed": "60", "loading": "0",
	} {
		if got[name] != want {
			t.Errorf("%s:%s, want %s", name, got[name], want)
		}
	}
}
