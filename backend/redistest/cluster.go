package redistest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// clusterTimeout bounds each wait for nodes to agree; see Patience.
const clusterTimeout = 20 * time.Second

// Cluster is a Redis Cluster of real servers. Nodes 0 … primaries-1 are the primaries and own the
// slots in equal, ascending ranges. The replicas follow, those of primary 0 first.
type Cluster struct {
	nodes     []*Server
	primaries int
	ids       []string
	args      []string // of each node
}

// StartCluster starts primaries × (1 + replicasPerPrimary) servers. It returns once every node
// reports cluster_state:ok and every replica is connected to its primary. That takes a little over
// two seconds, because a primary does not report ok in its first two seconds. Nodes declare another
// node dead after 1.5 s if there are replicas to replace it, and else after Redis' own 15 s: on a
// busy machine one that lives may be silent for a while. --cluster-node-timeout in args is for others.
func StartCluster(t testing.TB, primaries, replicasPerPrimary int, args ...string) *Cluster {
	t.Helper()
	timeout := "15000"
	if replicasPerPrimary > 0 {
		timeout = "1500"
	}
	c := &Cluster{primaries: primaries, args: clusterArgs(timeout, args)}
	for range primaries * (1 + replicasPerPrimary) {
		c.launch(t)
	}
	for i, s := range c.nodes {
		mustOK(t, s.Do(t, "CLUSTER", "SET-CONFIG-EPOCH", i+1))
		if i < primaries {
			slots := []any{"CLUSTER", "ADDSLOTS"} // ADDSLOTSRANGE is of Redis 7
			for slot := i * 16384 / primaries; slot < (i+1)*16384/primaries; slot++ {
				slots = append(slots, slot)
			}
			mustOK(t, s.Do(t, slots...))
		}
	}
	// Every node meets every other node, so that nothing waits for gossip.
	for i := range c.nodes {
		c.meet(t, i)
	}
	for i := primaries; i < len(c.nodes); i++ {
		c.replicate(t, i, (i-primaries)/replicasPerPrimary)
	}
	c.waitOK(t)
	return c
}

// Join adds a primary without slots, and returns its number once all nodes know it.
func (c *Cluster) Join(t testing.TB) int {
	t.Helper()
	c.launch(t)
	i := len(c.nodes) - 1
	c.meet(t, i)
	c.waitOK(t)
	return i
}

// clusterArgs are the arguments of each node.
func clusterArgs(timeout string, args []string) []string {
	base := []string{
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
		"--cluster-node-timeout", timeout, "--repl-diskless-sync-delay", "0",
		"--repl-ping-replica-period", "1", // CLUSTER SHARDS reports a replica as loading until it has received something
	}
	if !isBefore7() {
		base = append(base, "--enable-debug-command", "yes") // Redis 6 allows it without a word
	}
	if pass := argValue(args, "--requirepass"); pass != "" && argValue(args, "--masterauth") == "" {
		base = append(base, "--masterauth", pass)
	}
	return append(base, args...)
}

// launch starts a node that knows no other.
func (c *Cluster) launch(t testing.TB) {
	t.Helper()
	s := start(t, true, c.args, nil)
	c.nodes = append(c.nodes, s)
	c.ids = append(c.ids, mustText(t, s.Do(t, "CLUSTER", "MYID")))
}

// meet makes node i known to those before it.
func (c *Cluster) meet(t testing.TB, i int) {
	t.Helper()
	for _, other := range c.nodes[:i] {
		mustOK(t, other.Do(t, "CLUSTER", "MEET", "127.0.0.1", c.nodes[i].Port()))
	}
}

// Addrs returns the addresses of all nodes, primaries first.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, s := range c.nodes {
		addrs[i] = s.Addr()
	}
	return addrs
}

// Len returns the number of nodes.
func (c *Cluster) Len() int { return len(c.nodes) }

// Primaries returns how many nodes started as primaries.
func (c *Cluster) Primaries() int { return c.primaries }

// Node returns node i.
func (c *Cluster) Node(i int) *Server { return c.nodes[i] }

// ID returns the node ID of node i, 40 hex digits.
func (c *Cluster) ID(i int) string { return c.ids[i] }

// Owner returns the primary to which StartCluster assigned the slot.
func (c *Cluster) Owner(slot int) int {
	for i := range c.primaries {
		if slot < (i+1)*16384/c.primaries {
			return i
		}
	}
	panic(fmt.Sprintf("redistest: no slot %d", slot))
}

// waitOK returns once every running node reports cluster_state:ok and knows all nodes, and every
// running replica is connected to its primary.
func (c *Cluster) waitOK(t testing.TB) {
	t.Helper()
	for _, s := range c.nodes {
		if !s.running() {
			continue
		}
		Eventually(t, clusterTimeout, s.Addr()+" to be in a cluster that is ok", func() bool {
			info, _ := s.Do(t, "CLUSTER", "INFO").(string)
			if !strings.Contains(info, "cluster_state:ok") ||
				!strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r\n", len(c.nodes))) {
				return false
			}
			repl, _ := s.Do(t, "INFO", "replication").(string)
			return strings.Contains(repl, "role:master") || strings.Contains(repl, "master_link_status:up")
		})
	}
}

// MoveSlot moves a slot and its keys from one primary to another. It calls StartMove, MigrateKeys
// and FinishMove, so that every key stays reachable.
func (c *Cluster) MoveSlot(t testing.TB, slot, from, to int) {
	t.Helper()
	c.StartMove(t, slot, from, to)
	c.MigrateKeys(t, slot, from, to)
	c.FinishMove(t, slot, from, to)
}

// StartMove marks the slot as importing and migrating. From now on its owner answers ASK for keys
// that it does not have.
func (c *Cluster) StartMove(t testing.TB, slot, from, to int) {
	t.Helper()
	mustOK(t, c.nodes[to].Do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from]))
	mustOK(t, c.nodes[from].Do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to]))
}

// MigrateKeys moves all keys of the slot.
func (c *Cluster) MigrateKeys(t testing.TB, slot, from, to int) {
	t.Helper()
	for {
		keys, ok := c.nodes[from].Do(t, "CLUSTER", "GETKEYSINSLOT", slot, 100).([]any)
		if !ok || len(keys) == 0 {
			return
		}
		args := []any{"MIGRATE", "127.0.0.1", c.nodes[to].Port(), "", 0, 10000}
		if pass := c.nodes[to].pass; pass != "" {
			args = append(args, "AUTH", pass)
		}
		args = append(args, "KEYS", keys)
		if err, failed := c.nodes[from].Do(t, args...).(Error); failed {
			t.Fatalf("redistest: MIGRATE slot %d: %v", slot, err)
		}
	}
}

// FinishMove assigns the slot to its new owner. The new owner learns it first, because otherwise
// the slot would have no owner for a moment. The old owner and the other primaries follow.
func (c *Cluster) FinishMove(t testing.TB, slot, from, to int) {
	t.Helper()
	order := []int{to, from}
	for i := range c.primaries {
		if i != to && i != from {
			order = append(order, i)
		}
	}
	for _, i := range order {
		if c.nodes[i].running() {
			mustOK(t, c.nodes[i].Do(t, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to]))
		}
	}
}

// replicate makes one node a replica of another.
func (c *Cluster) replicate(t testing.TB, replica, primary int) {
	t.Helper()
	var last any
	Eventually(t, clusterTimeout, "the replica to know its primary", func() bool {
		last = c.nodes[replica].Do(t, "CLUSTER", "REPLICATE", c.ids[primary])
		return last == "OK"
	})
}

// Eventually polls cond until it is true. It fails the test if that takes longer than
// Patience(within). It is for conditions that depend on other processes.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	if !Await(within, cond) {
		t.Fatalf("redistest: waited %s for %s", Patience(within), what)
	}
}

// Await polls cond until it is true. It returns false if that takes longer than Patience(within).
func Await(within time.Duration, cond func() bool) bool {
	deadline := time.Now().Add(Patience(within))
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}

// running reports whether the current process has not ended.
func (s *Server) running() bool {
	select {
	case <-s.current().exited:
		return false
	default:
		return true
	}
}

// mustOK fails the test unless the reply is OK.
func mustOK(t testing.TB, reply any) {
	t.Helper()
	if reply != "OK" {
		t.Fatalf("redistest: want OK, got %v", reply)
	}
}

// mustText returns a reply that is a string. Any other reply fails the test.
func mustText(t testing.TB, reply any) string {
	t.Helper()
	text, ok := reply.(string)
	if !ok {
		t.Fatalf("redistest: want a string, got %v", reply)
	}
	return text
}
