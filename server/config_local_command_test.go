package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestConfigErrorsAreThoseOfRedis(t *testing.T) {
	node := redistest.Start(t)
	asRedis(t, startBerth(t, node.Addr()), node, "config", "config nothing", "config get", "config get nothing", "config get timeout",
		"config get timeout nothing port?", "config set", "config set timeout", "config set nothing 1", "config set timeout 5 timeout 6",
		"config set timeout 5 maxclients", "config set timeout 5", "config get TIMEOUT", "config rewrite", "config rewrite x",
		"config resetstat", "config resetstat x", "config help")
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
