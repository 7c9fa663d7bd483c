package redistest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// clusterTimeout bounds each wait for nodes to agree; see Patience.
const clusterTimeout = 20 * time.Second

// Cluster is a Redis Cluster of real servers: nodes 0 … primaries-1 are the
// primaries and own the slots in even, ascending ranges, the replicas follow
// (those of primary 0 first).
type Cluster struct {
	nodes     []*Server
	primaries int
	ids       []string
}

// StartCluster starts primaries × (1 + replicasPerPrimary) servers and returns
// when every node says cluster_state:ok and every replica is in step. That
// takes a little over two seconds: for so long a primary that just started
// refuses to call the cluster ok. Nodes are declared dead after 1.5 s unless
// args contain --cluster-node-timeout.
func StartCluster(t testing.TB, primaries, replicasPerPrimary int, args ...string) *Cluster {
	t.Helper()
	base := []string{
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
		"--cluster-node-timeout", "1500", "--repl-diskless-sync-delay", "0",
		"--repl-ping-replica-period", "1", // CLUSTER SHARDS calls a replica loading until something was replicated
		"--enable-debug-command", "yes",
	}
	if pass := argValue(args, "--requirepass"); pass != "" && argValue(args, "--masterauth") == "" {
		base = append(base, "--masterauth", pass)
	}
	c := &Cluster{primaries: primaries}
	for range primaries * (1 + replicasPerPrimary) {
		s := start(t, true, append(base[:len(base):len(base)], args...), nil)
		c.nodes = append(c.nodes, s)
		c.ids = append(c.ids, mustText(t, s.Do(t, "CLUSTER", "MYID")))
	}
	for i, s := range c.nodes {
		mustOK(t, s.Do(t, "CLUSTER", "SET-CONFIG-EPOCH", i+1))
		if i < primaries {
			mustOK(t, s.Do(t, "CLUSTER", "ADDSLOTSRANGE", i*16384/primaries, (i+1)*16384/primaries-1))
		}
	}
	// Everybody meets everybody, so that nothing waits for gossip.
	for i, s := range c.nodes {
		for _, other := range c.nodes[i+1:] {
			mustOK(t, s.Do(t, "CLUSTER", "MEET", "127.0.0.1", other.Port()))
		}
	}
	for i := primaries; i < len(c.nodes); i++ {
		c.replicate(t, i, (i-primaries)/replicasPerPrimary)
	}
	c.WaitOK(t)
	return c
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

// ID returns the 40 hex digits node i is known by.
func (c *Cluster) ID(i int) string { return c.ids[i] }

// Owner returns the primary that StartCluster gave the slot to.
func (c *Cluster) Owner(slot int) int {
	for i := range c.primaries {
		if slot < (i+1)*16384/c.primaries {
			return i
		}
	}
	panic(fmt.Sprintf("redistest: no slot %d", slot))
}

// WaitOK returns when every running node says cluster_state:ok, knows all
// nodes, and, if it is a replica, has its link to the primary up.
func (c *Cluster) WaitOK(t testing.TB) {
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

// MoveSlot moves a slot and its keys from one primary to another, in the order
// that keeps every key reachable: StartMove, MigrateKeys, FinishMove.
func (c *Cluster) MoveSlot(t testing.TB, slot, from, to int) {
	t.Helper()
	c.StartMove(t, slot, from, to)
	c.MigrateKeys(t, slot, from, to)
	c.FinishMove(t, slot, from, to)
}

// StartMove marks the slot as importing and migrating: from now on its owner
// answers ASK for keys it does not have.
func (c *Cluster) StartMove(t testing.TB, slot, from, to int) {
	t.Helper()
	mustOK(t, c.nodes[to].Do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from]))
	mustOK(t, c.nodes[from].Do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to]))
}

// MigrateKeys moves all keys that are in the slot now.
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

// FinishMove gives the slot to its new owner: there first, or for a moment
// nobody would own it, then at the old owner and at the other primaries.
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

func (c *Cluster) replicate(t testing.TB, replica, primary int) {
	t.Helper()
	var last any
	Eventually(t, clusterTimeout, "the replica to know its primary", func() bool {
		last = c.nodes[replica].Do(t, "CLUSTER", "REPLICATE", c.ids[primary])
		return last == "OK"
	})
}

// Eventually polls cond until it is true and fails the test when that takes
// longer than Patience(within). It is for what only other processes can make true.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	within = Patience(within)
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("redistest: waited %s for %s", within, what)
		}
		time.Sleep(pause)
	}
}

func (s *Server) running() bool {
	select {
	case <-s.current().exited:
		return false
	default:
		return true
	}
}

func mustOK(t testing.TB, reply any) {
	t.Helper()
	if reply != "OK" {
		t.Fatalf("redistest: want OK, got %v", reply)
	}
}

func mustText(t testing.TB, reply any) string {
	t.Helper()
	text, ok := reply.(string)
	if !ok {
		t.Fatalf("redistest: want a string, got %v", reply)
	}
	return text
}
