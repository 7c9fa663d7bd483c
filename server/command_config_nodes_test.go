package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestConfigErrorsAreThoseOfRedis(t *testing.T) {
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	asRedis(t, b, node, "config", "config nothing", "config get", "config get nothing", "config get timeout",
		"config get timeout nothing port?", "config set", "config set timeout", "config set nothing 1", "config set timeout 5 timeout 6",
		"config set timeout 5 maxclients", "config set timeout 5", "config get TIMEOUT", "config rewrite", "config rewrite x",
		"config resetstat", "config resetstat x")
	later := strings.NewReplacer("Print this help", "Prints this help") // since Redis 7.2
	got, want := dial(t, b.Addr()).DoRaw("CONFIG", "HELP"), dial(t, node.Addr()).DoRaw("CONFIG", "HELP")
	if want = later.Replace(want); got != want {
		t.Errorf("CONFIG HELP:\n got %q\nwant %q", got, want)
	}
}

func TestConfigSetTakesEffectAtOnceOnAllLoops(t *testing.T) {
	_, clients, _ := busyBerth(t)
	big := strings.Repeat("x", 2<<20)
	if got := clients[0].Do("CONFIG", "SET", "proto-max-bulk-len", "1mb"); got != "OK" {
		t.Fatal(got)
	}
	for i, c := range clients[1:] {
		_ = c.TrySend("ECHO", big)
		if got, err := c.TryRecv(); err == nil && got != redistest.Error("ERR Protocol error: invalid bulk length") {
			t.Errorf("client %d: %v", i+1, got)
		}
	}
}

func TestConfigRewriteWritesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.conf")
	if err := os.WriteFile(path, []byte("# mine\ntimeout 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	node := redistest.Start(t)
	b := startBerth(t, "", path, "--backend", "redis://"+node.Addr())
	c := dial(t, b.Addr())
	c.Do("CONFIG", "SET", "timeout", 77)
	if got := c.Do("CONFIG", "REWRITE"); got != "OK" {
		t.Fatal(got)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "# mine\ntimeout 77\n") {
		t.Errorf("%q, %v", text, err)
	}
}

func TestConfigSetReachesAllPrimaries(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	everywhere := func(name string) (values string) {
		for i := range 3 {
			values += fmt.Sprint(cluster.Node(i).Do(t, "CONFIG", "GET", name).([]any)[1], " ")
		}
		return values
	}
	script(t, c, "CONFIG SET maxmemory-policy allkeys-lru timeout 77 maxmemory 1gb → OK", "CONFIG GET maxmemory-policy → [maxmemory-policy allkeys-lru]",
		"CONFIG GET timeout → [timeout 77]")
	if got := everywhere("maxmemory-policy") + everywhere("maxmemory"); got != strings.Repeat("allkeys-lru ", 3)+strings.Repeat("1073741824 ", 3) {
		t.Errorf("the primaries have %s", got)
	}
	if got := everywhere("timeout"); got != "0 0 0 " {
		t.Errorf("berth's timeout is theirs, too: %s", got)
	}
	script(t, c,
		"CONFIG SET timeout 5 maxmemory-policy never → ERR CONFIG SET failed (possibly related to argument 'maxmemory-policy') - argument(s) must be one of the following: "+
			"volatile-lru, volatile-lfu, volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction",
		"CONFIG GET timeout → [timeout 77]",
		"CONFIG SET maxmemory 5 tcp-backlog 1 → ERR CONFIG SET failed (possibly related to argument 'tcp-backlog') - can't set immutable config",
		"CONFIG SET maxmemory-clients 5mb → OK", "CONFIG GET maxmemory-clients → [maxmemory-clients 5242880]")
	if got := everywhere("maxmemory-clients"); got != "0 0 0 " {
		t.Errorf("berth's maxmemory-clients is theirs, too, whose clients are berth's connections: %s", got)
	}
	if got := everywhere("maxmemory"); got != strings.Repeat("1073741824 ", 3) {
		t.Errorf("what is refused in part was done in part: %s", got)
	}
	c.Do("GET", "cs:nothing")
	script(t, c, "CONFIG RESETSTAT → OK")
	if got, _ := infoOf(t, c, "stats"); got["keyspace_misses"] != "0" {
		t.Errorf("behind RESETSTAT: %s misses", got["keyspace_misses"])
	}
}

func TestConfigGetHasEachNameOnce(t *testing.T) {
	c := dial(t, startBerth(t, sharedNode(t).Addr()).Addr())
	settings := c.Do("CONFIG", "GET", "*").([]any)
	seen := map[any]any{}
	for i := 0; i < len(settings); i += 2 {
		if _, twice := seen[settings[i]]; twice {
			t.Errorf("%v is there twice", settings[i])
		}
		seen[settings[i]] = settings[i+1]
	}
	for name, want := range map[string]any{"private_conn_idle_time_sec": "60", "databases": "16", "save": ""} {
		if seen[name] != want {
			t.Errorf("%s is %v, not %v", name, seen[name], want)
		}
	}
}

func TestPasswordThatIsSetThroughBerthIsAskedFor(t *testing.T) {
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	script(t, c, "CONFIG SET requirepass secret → OK", "GET pw:k → <nil>")
	eventually(t, "strangers to be asked", func() bool {
		return dial(t, b.Addr()).Do("GET", "pw:k") == redistest.Error("NOAUTH Authentication required.")
	})
	script(t, dial(t, b.Addr()), "AUTH secret → OK", "GET pw:k → <nil>", "BLPOP pw:l 0.01 → <nil>")
}
