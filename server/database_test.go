package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestClientsBeginInTheDatabaseOfTheBackendURL(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	berth := startBerth(t, "redis://"+node.Addr()+"/2")
	c := redistest.Dial(t, berth.Addr())
	c.Do("SET", "k", "in 2")
	c.Do("SELECT", "0")
	c.Do("SET", "k", "in 0")
	c.Do("RESET")
	if got := c.Do("GET", "k"); got != "in 2" {
		t.Fatalf("after RESET: %v", got)
	}
	direct := redistest.Dial(t, node.Addr())
	if got := direct.Do("GET", "k"); got != "in 0" {
		t.Fatalf("database 0 has %v", got)
	}
}

// A client that selects a database and becomes a user who may not SELECT stays there, as in Redis:
// on a pipe, on a lease, and when it blocks.
func TestUserWithoutSelectStaysInTheDatabaseOfTheOneBefore(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	setUsers(t, node, "u on >pw ~* &* +@all -select", "boss on >pw ~* &* +@all")
	admin := dial(t, node.Addr())
	script(t, admin, "SELECT 1 → OK", "SET {db}k one → OK", "RPUSH {db}l x → 1")
	lines := []string{
		"SELECT 1", "AUTH u pw", "GET {db}k", "SELECT 1", "SELECT 2", "WATCH {db}k", "MULTI", "GET {db}k", "EXEC", "BLMOVE {db}l {db}l LEFT LEFT 1",
		"BLPOP {db}none 0.01", "DBSIZE", "RESET", "AUTH u pw", "GET {db}k", "WATCH {db}k", "MULTI", "GET {db}k", "EXEC", "AUTH boss pw", "SELECT 1",
		"AUTH u pw", "WATCH {db}k", "MULTI", "GET {db}k", "EXEC", "MULTI", "AUTH boss pw", "SELECT 2", "AUTH u pw", "SET {db}j two", "EXEC", "GET {db}j",
		"WATCH {db}j", "MULTI", "GET {db}j", "EXEC", "SELECT 0",
	}
	asRedis(t, startBerth(t, node.Addr()), node, lines...)
	script(t, admin, "CONFIG SET requirepass secret → OK")
	for _, login := range []string{":secret", "boss:pw"} {
		asRedis(t, startBerth(t, "redis://"+login+"@"+node.Addr()), node, append([]string{"AUTH secret"}, lines...)...)
	}
	if log := fmt.Sprint(admin.Do("ACL", "LOG")); strings.Contains(log, "reason auth") {
		t.Errorf("berth has tried a wrong password: %s", log)
	}
}
