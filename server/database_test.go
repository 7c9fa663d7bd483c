package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
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
		"AUTH u pw", "WATCH {db}k", "MULTI", "GET {db}k", "EXEC", "AUTH boss pw", "MULTI", "SELECT 2", "SET {db}j two", "EXEC", "AUTH u pw", "GET {db}j",
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

// A Cluster of Valkey 9 may have several databases, any other has database 0 alone.
func TestDatabasesOfAClusterAreThoseOfItsNodes(t *testing.T) {
	parallel(t)
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	asRedis(t, b, cluster.Node(0), "SELECT 0", "SELECT 1", "SELECT -1", "SELECT 99999", "SELECT x", "MULTI", "SELECT 99999", "EXEC")
	if !b.srv.isValkeySince(9, 0) {
		return
	}
	cluster = redistest.StartCluster(t, 2, 0, "--cluster-databases", "4")
	node := cluster.Node(cluster.Owner(int(router.Slot([]byte("db")))))
	b = startBerth(t, clusterURL(cluster))
	setUsers(t, cluster.Node(0), "u on >pw ~* &* +@all -select")
	setUsers(t, cluster.Node(1), "u on >pw ~* &* +@all -select")
	asRedis(t, b, node,
		"SELECT 3", "SELECT 4", "SET {db}a three", "SELECT 1", "GET {db}a", "SET {db}a one", "MGET {db}a {db}b", "DBSIZE", "SCAN 0", "KEYS *", "RANDOMKEY",
		"WATCH {db}a", "GET {db}a", "SELECT 3", "GET {db}a", "MULTI", "GET {db}a", "EXEC", "MULTI", "SELECT 1", "GET {db}a", "EXEC", "GET {db}a",
		"BLPOP {db}none 0.01", "EVAL return(redis.call('get',KEYS[1])) 1 {db}a", "AUTH u pw", "GET {db}a", "SELECT 3", "WATCH {db}a", "UNWATCH", "RESET",
		"GET {db}a", "COPY {db}a {db}b DB 4", "MOVE {db}a 4", "SWAPDB 0 1", "SELECT 1", "CLUSTER COUNTKEYSINSLOT 10", "SELECT 0")
	script(t, dial(t, b.Addr()), "SELECT 2 → OK", "MSET a 1 b 2 c 3 → OK", "MGET a b c → [1 2 3]", "DBSIZE → 3", "SELECT 0 → OK", "DBSIZE → 0", "MGET a b c → [<nil> <nil> <nil>]",
		"SELECT 2 → OK", "DEL a b c → 3", "DBSIZE → 0", "SELECT 1 → OK", "DBSIZE → 1", "FLUSHDB → OK", "DBSIZE → 0", "SELECT 3 → OK", "DBSIZE → 1")
}
