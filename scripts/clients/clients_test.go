package clients

import (
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// clients are the programs that must work unchanged over one node and over a Cluster.
var clients = []struct {
	name string
	run  func(t *testing.T, b *berth)
}{
	{"redis-py", python("redis_py.py")},
	{"redis-py pools", python("pools.py")},
	{"Flask", python("flask_app.py")},
	{"aiohttp", python("aiohttp_app.py")},
	{"Celery", python("celery_tasks.py")},
	{"ioredis", node("ioredis.js")},
	{"node-redis", node("node-redis.js")},
	{"BullMQ", node("bullmq.js")},
}

func TestClientsWorkUnchanged(t *testing.T) {
	onBoth(t, func(t *testing.T, b *berth) {
		for _, c := range clients {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, b)
			})
		}
	})
}

// onBoth runs a test on each transport over a node and over a Cluster of three primaries, in parallel
// with all other tests.
func onBoth(t *testing.T, test func(*testing.T, *berth)) {
	onEachTransport(t, func(t *testing.T, on transport) {
		t.Run("over a node", func(t *testing.T) {
			t.Parallel()
			test(t, startBerth(t, on, "node", "redis://"+redistest.Start(t).Addr()))
		})
		t.Run("over a Cluster", func(t *testing.T) {
			t.Parallel()
			test(t, startBerth(t, on, "cluster", clusterURL(redistest.StartCluster(t, 3, 0))))
		})
	})
}

// The first steps of the README need no Redis.
func TestEmbeddedBackendServesFirstSteps(t *testing.T) {
	onEachTransport(t, func(t *testing.T, on transport) {
		b := startBerth(t, on, "embedded", "")
		says(t, b.cli(t, "", "SET", "greeting", "hello"), `^OK$`)
		says(t, b.cli(t, "", "GET", "greeting"), `^hello$`)
		says(t, b.cli(t, "", "-3", "PROXY", "STATS"), `^uptime_seconds \d+$`)
		python("pools.py")(t, b)
		b.benchmark(t, "-n 2000 -P 16 -t get,set,incr,lpush,mset")
	})
}

// python runs a program with Debian's interpreter, because only that one finds Debian's packages.
func python(file string) func(*testing.T, *berth) {
	return func(t *testing.T, b *berth) { b.program(t, "/usr/bin/python3", "python/"+file) }
}

// node runs a program with Node.
func node(file string) func(*testing.T, *berth) {
	return func(t *testing.T, b *berth) { b.program(t, "node", "node/"+file) }
}
