package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// family is a primary and its replicas, which hear it by wires.
type family struct {
	primary  *redistest.Server
	replicas []*redistest.Server
	wires    []*wire
}

// startFamily starts a primary with replicas, all in step. args are for all of them.
func startFamily(t testing.TB, replicas int, args ...string) *family {
	t.Helper()
	args = append([]string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--enable-debug-command", "yes"}, args...)
	f := &family{primary: redistest.Start(t, args...)}
	for range replicas {
		w := startWire(t, f.primary.Addr())
		r := redistest.Start(t, append([]string{"--replicaof", strings.ReplaceAll(w.addr, ":", " ")}, args...)...)
		f.wires, f.replicas = append(f.wires, w), append(f.replicas, r)
	}
	for _, r := range f.replicas {
		f.awaitStep(t, r)
	}
	return f
}

// awaitStep waits until a replica is in step.
func (f *family) awaitStep(t testing.TB, r *redistest.Server) {
	t.Helper()
	eventually(t, "the replica to be in step", func() bool {
		return strings.Contains(fmt.Sprint(r.Do(t, "INFO", "replication")), "master_link_status:up") &&
			strings.Contains(fmt.Sprint(f.primary.Do(t, "INFO", "replication")), fmt.Sprint("port=", r.Port(), ",state=online"))
	})
}

// calls is how often a node has run a command.
func calls(t testing.TB, node *redistest.Server, command string) (n int) {
	t.Helper()
	for line := range strings.SplitSeq(fmt.Sprint(node.Do(t, "INFO", "commandstats")), "\r\n") {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			_, _ = fmt.Sscanf(rest, "%d", &n)
		}
	}
	return n
}

// readsAt are the reads that berth has sent, by node and in all.
func readsAt(t testing.TB, b interface{ Addr() string }) (by map[string]int64, primaries, replicas int64) {
	t.Helper()
	c := dial(t, b.Addr())
	defer c.Close()
	by = map[string]int64{}
	for _, row := range proxy(t, c, "BACKENDS") {
		n := row["reads"].(int64)
		by[row["node"].(string)] = n
		if row["role"] == "replica" {
			replicas += n
		} else {
			primaries += n
		}
	}
	return by, primaries, replicas
}

// readable is what berth says of a node: "yes", or why it does not read there.
func readable(t testing.TB, b *berthServer, addr string) string {
	t.Helper()
	c := dial(t, b.Addr())
	defer c.Close()
	for _, row := range proxy(t, c, "BACKENDS") {
		if row["node"] == addr {
			return row["readable"].(string)
		}
	}
	return "it is not known"
}

// awaitReadable reads until at least so many replicas may be read.
func awaitReadable(t testing.TB, b interface{ Addr() string }, replicas int) {
	t.Helper()
	c := dial(t, b.Addr())
	defer c.Close()
	var rows []string
	if !redistest.Await(10*time.Second, func() bool {
		c.Do("GET", "awaited")
		n := 0
		rows = rows[:0]
		for _, row := range proxy(t, c, "BACKENDS") {
			if row["role"] == "replica" && row["readable"] == "yes" {
				n++
			}
			rows = append(rows, fmt.Sprintf("%v %v: %v", row["node"], row["role"], row["readable"]))
		}
		return n >= replicas
	}) {
		t.Fatalf("fewer than %d replicas are readable: %s", replicas, strings.Join(rows, "; "))
	}
}

// awaitRead is awaitReadable for a client that has to read a replica next: its loop has connections.
func awaitRead(t testing.TB, b *berthServer, c *redistest.Conn, replicas int, key string) {
	t.Helper()
	awaitReadable(t, b, replicas)
	seen := map[string]bool{}
	eventually(t, "reads to reach the replicas", func() bool {
		before, _, _ := readsAt(t, b)
		c.Do("GET", key)
		now, _, _ := readsAt(t, b)
		for _, addr := range b.srv.nodes.Topology().Shards()[0].Replicas {
			seen[addr] = seen[addr] || now[addr] > before[addr]
		}
		n := 0
		for _, is := range seen {
			if is {
				n++
			}
		}
		return n == replicas
	})
}

func TestReadsGoWhereReadFromSays(t *testing.T) {
	parallel(t)
	f := startFamily(t, 2)
	for _, policy := range []string{"primary", "prefer-replica", "replica", "any", "nearest"} {
		t.Run(policy, func(t *testing.T) {
			b := startBerth(t, f.primary.Addr(), "--read-from", policy)
			c := dial(t, b.Addr())
			if policy != "primary" {
				awaitRead(t, b, c, 2, "k")
			}
			nodes := append([]*redistest.Server{f.primary}, f.replicas...)
			var before, got [3]int
			for i, n := range nodes {
				before[i] = calls(t, n, "strlen")
			}
			for range 300 {
				if got := c.Do("STRLEN", "k"); got != int64(0) {
					t.Fatalf("STRLEN: %v", got)
				}
			}
			for i, n := range nodes {
				got[i] = calls(t, n, "strlen") - before[i]
			}
			if got[0]+got[1]+got[2] != 300 {
				t.Errorf("the nodes have got %v", got)
			}
			if policy == "nearest" { // which they are is chance where all are on one machine
				return
			}
			fromPrimary := map[string]bool{"primary": true, "any": true}[policy]
			if (got[0] > 0) != fromPrimary {
				t.Errorf("the primary has got %d of %v", got[0], got)
			}
			for _, n := range got[1:] {
				if (n > 50) != (policy != "primary") {
					t.Errorf("the replicas have got %v", got)
				}
			}
		})
	}
}

func TestWritesGoToThePrimary(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica")
	c := dial(t, b.Addr())
	awaitRead(t, b, c, 1, "k")
	script(t, c, "SET k 1 → OK", "INCR k → 2", "EVAL return(redis.call('incr',KEYS[1])) 1 k → 3", "GETEX k PERSIST → 3",
		"RPUSH l x → 1", "SORT l ALPHA → [x]", "LMPOP 1 l LEFT → [l [x]]", "TOUCH k → 1", "OBJECT IDLETIME k → 0", "DBSIZE → 1",
		"GETDEL k → 3", "PFCOUNT hll → 0", "BITFIELD b GET u8 0 → [0]", "MULTI → OK", "GET k → QUEUED", "EXEC → [<nil>]")
	for _, name := range []string{"set", "incr", "eval", "getex", "rpush", "sort", "lmpop", "touch", "object|idletime", "getdel", "multi", "exec"} {
		// The replica gets writes by its link, which commandstats counts as well. A refused one is counted apart.
		for line := range strings.SplitSeq(fmt.Sprint(f.replicas[0].Do(t, "INFO", "commandstats")), "\r\n") {
			if strings.HasPrefix(line, "cmdstat_"+name+":") && (!strings.Contains(line, "rejected_calls=0,failed_calls=0") ||
				slices.Contains([]string{"eval", "getex", "sort", "touch", "object|idletime"}, name)) {
				t.Errorf("at the replica: %s", line)
			}
		}
	}
}

func TestReadFromReplicaHasAnErrorWhereThereIsNone(t *testing.T) {
	parallel(t)
	const none = "TRYAGAIN berth: no replica of "
	alone := redistest.Start(t)
	b := startBerth(t, alone.Addr(), "--read-from", "replica")
	c := dial(t, b.Addr())
	eventually(t, "the error", func() bool { return strings.HasPrefix(fmt.Sprint(c.Do("GET", "k")), none) })
	script(t, c, "SET k 1 → OK")

	f := startFamily(t, 1)
	b = startBerth(t, f.primary.Addr(), "--read-from", "replica")
	awaitReadable(t, b, 1)
	c = dial(t, b.Addr())
	script(t, c, "SET k 1 → OK", "GET k → 1") // its own write: the primary may have to answer
	f.replicas[0].Kill()
	eventually(t, "the error", func() bool { return strings.HasPrefix(fmt.Sprint(c.Do("GET", "k")), none) })
	script(t, c, "SET k 2 → OK", "INCR k → 3")
	f.replicas[0].Restart(t)
	eventually(t, "the replica to be read", func() bool { return c.Do("GET", "k") == "3" })
}

func TestNearestNodesAreReadByRoundTrip(t *testing.T) {
	parallel(t)
	f := startFamily(t, 2)
	// The primary and one replica are far.
	far := func(target string) string {
		l := startLink(t, target)
		l.holdFrom(func(string) bool { pace(3e6); return false })
		return l.addr
	}
	away := far(f.replicas[1].Addr())
	_, port, _ := strings.Cut(away, ":")
	f.replicas[1].Do(t, "CONFIG", "SET", "replica-announce-port", port)
	f.wires[1].cut()
	eventually(t, "the replica to have announced its port", func() bool {
		return strings.Contains(fmt.Sprint(f.primary.Do(t, "INFO", "replication")), "port="+port+",state=online")
	})
	b := startBerth(t, far(f.primary.Addr()), "--read-from", "nearest")
	awaitReadable(t, b, 2)
	c := dial(t, b.Addr())
	near := f.replicas[0]
	eventually(t, "reads to go to the near replica alone", func() bool {
		before := calls(t, near, "getrange")
		for range 20 {
			c.Do("GETRANGE", "k", 0, -1)
		}
		return calls(t, near, "getrange")-before == 20
	})
	near.Kill()
	eventually(t, "reads to go to the far ones", func() bool {
		by, _, _ := readsAt(t, b)
		for range 20 {
			if got := c.Do("GETRANGE", "k", 0, -1); got != "" {
				t.Fatalf("GETRANGE: %v", got)
			}
		}
		after, _, _ := readsAt(t, b)
		return after[away] > by[away]
	})
}
