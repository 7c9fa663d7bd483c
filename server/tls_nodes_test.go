package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// tlsNode is a redis-server with a port for TLS beside its plain one, which tests ask directly.
type tlsNode struct {
	*redistest.Server
	ca   *redistest.Authority
	pair *redistest.Pair
	port string
}

// startTLSNode is redistest.Start for a node of an authority, whose certificate is for names. It asks for no certificate.
func startTLSNode(t testing.TB, ca *redistest.Authority, names []string, args ...string) *tlsNode {
	t.Helper()
	n := &tlsNode{ca: ca, pair: ca.Issue(t, names...), port: freePort(t)}
	base := []string{"--tls-port", n.port, "--tls-cert-file", n.pair.CertPath, "--tls-key-file", n.pair.KeyPath, "--tls-ca-cert-file", ca.Path}
	if !hasFlag(args, "--tls-auth-clients") {
		base = append(base, "--tls-auth-clients", "no")
	}
	n.Server = redistest.Start(t, append(base, args...)...)
	return n
}

var loopbackName = []string{"node.example", "127.0.0.1"}

// url is the node as berth's backend.
func (n *tlsNode) url() string { return "rediss://127.0.0.1:" + n.port }

// plainClients counts the clients that reach the node without TLS, but for the one that asks.
func (n *tlsNode) plainClients(t *testing.T) (count int) {
	t.Helper()
	for _, c := range nodeClients(t, n.Server) {
		if strings.HasSuffix(c["laddr"], ":"+strconv.Itoa(n.Port())) {
			count++
		}
	}
	return count
}

func TestNodesAreSpokenToOverTLS(t *testing.T) {
	for name, protocols := range map[string]string{"TLS 1.2": "TLSv1.2", "TLS 1.3": "TLSv1.3"} {
		t.Run(name, func(t *testing.T) {
			node := startTLSNode(t, redistest.NewAuthority(t), loopbackName, "--tls-protocols", protocols)
			b := startTLS(t, node.url(), "--backend-tls-ca-file", node.ca.Path)
			converseOverTLS(t, func() *redistest.Conn { return dial(t, b.Addr()) })
			converseOverTLS(t, func() *redistest.Conn { return b.client(t) })
			if n := node.plainClients(t); n > 0 {
				t.Errorf("%d of berth's connections are plain", n)
			}
		})
	}
}

func TestLongValuesTravelOnLeasesOverTLS(t *testing.T) {
	node := startTLSNode(t, redistest.NewAuthority(t), loopbackName)
	b := startTLS(t, node.url(), "--backend-tls-ca-file", node.ca.Path)
	c := b.client(t)
	const size = 10 << 20
	mustCarry(t, c, "k", size)
	script(t, c, "WATCH k → OK")
	mustCarry(t, c, "k", size)
	script(t, c, "MULTI → OK")
	value := strings.Repeat("0123456789abcdef", size/16)
	if got := c.Do("SET", "k", value); got != "QUEUED" {
		t.Fatal(got)
	}
	script(t, c, "EXEC → <nil>", "MULTI → OK")
	if got := c.Do("SET", "k", value); got != "QUEUED" {
		t.Fatal(got)
	}
	script(t, c, "GET k → QUEUED")
	if got, ok := c.Do("EXEC").([]any); !ok || len(got) != 2 || got[0] != "OK" || got[1] != value {
		t.Error("EXEC brought something else")
	}
	if got := node.Do(t, "GET", "k"); got != value {
		t.Error("the node has something else")
	}
}

func TestMonitorComesOverTLS(t *testing.T) {
	node := startTLSNode(t, redistest.NewAuthority(t), loopbackName)
	b := startTLS(t, node.url(), "--backend-tls-ca-file", node.ca.Path)
	watcher, c := b.client(t), b.client(t)
	if got := watcher.Do("MONITOR"); got != "OK" {
		t.Fatal(got)
	}
	const lines = 500
	for i := range lines {
		c.Send("SET", "k", fmt.Sprintf("%d.%s", i, strings.Repeat("x", i)))
	}
	for i := range lines {
		want := fmt.Sprintf("\"k\" \"%d.%s\"", i, strings.Repeat("x", i))
		for {
			line := text(watcher.Recv())
			if strings.HasSuffix(line, want) {
				break
			}
			if strings.Contains(line, `"SET"`) {
				t.Fatalf("%q, want %q", line, want)
			}
		}
	}
	for range lines {
		c.Recv()
	}
	script(t, c, "DEL k → 1")
}

// The stream of a replica goes through pools, a tunnel and two layers of TLS.
func TestAServerReplicatesOverTLS(t *testing.T) {
	for _, diskless := range []string{"yes", "no"} {
		t.Run("diskless "+diskless, func(t *testing.T) {
			node := startTLSNode(t, redistest.NewAuthority(t), loopbackName, "--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0")
			b := startTLS(t, node.url(), "--backend-tls-ca-file", node.ca.Path)
			c := b.client(t)
			mustCarry(t, c, "before", 10<<20)
			plain := redistest.Start(t, "--repl-timeout", "60")
			secure := redistest.Start(t, "--repl-timeout", "60", "--tls-replication", "yes", "--tls-ca-cert-file", b.ca.Path,
				"--tls-cert-file", b.pair.CertPath, "--tls-key-file", b.pair.KeyPath)
			_, port, _ := net.SplitHostPort(b.Addr())
			plain.Do(t, "REPLICAOF", "127.0.0.1", port)
			secure.Do(t, "REPLICAOF", "127.0.0.1", b.port)
			want := node.Do(t, "GET", "before")
			for name, replica := range map[string]*redistest.Server{"plain": plain, "secure": secure} {
				eventually(t, name+" to have what was there before", func() bool { return replica.Do(t, "GET", "before") == want })
			}
			mustCarry(t, c, "while", 10<<20)
			want = node.Do(t, "GET", "while")
			for name, replica := range map[string]*redistest.Server{"plain": plain, "secure": secure} {
				eventually(t, name+" to follow", func() bool { return replica.Do(t, "GET", "while") == want })
			}
			if stats := text(node.Do(t, "INFO", "stats")); !strings.Contains(stats, "sync_full:2\r") {
				t.Errorf("the replicas began anew: %s", stats)
			}
			plain.Stop()
			secure.Stop()
			eventually(t, "their connections to be closed", func() bool { return b.leases().Leased == 0 })
		})
	}
}

func TestManyClientsOverNodesOfTLS(t *testing.T) {
	node := startTLSNode(t, redistest.NewAuthority(t), loopbackName)
	b := startTLS(t, node.url(), "--backend-tls-ca-file", node.ca.Path)
	chatter(t, 100, func(i int) *redistest.Conn {
		if i%2 == 0 {
			return dial(t, b.Addr())
		}
		return b.client(t)
	})
	b.awaitClients(t, 0)
}

func TestBerthShowsItsCertificateToNodes(t *testing.T) {
	node := startTLSNode(t, redistest.NewAuthority(t), loopbackName, "--tls-auth-clients", "yes")
	pair := node.ca.Issue(t, "berth")
	b := startBerth(t, node.url(), "--backend-tls-ca-file", node.ca.Path, "--backend-tls-cert-file", pair.CertPath, "--backend-tls-key-file", pair.KeyPath)
	script(t, dial(t, b.Addr()), "SET a 1 → OK", "WATCH a → OK", "GET a → 1")
	without := startBerth(t, node.url(), "--backend-tls-ca-file", node.ca.Path)
	if without.srv.ready() == nil { // in TLS 1.3 berth is done first, and may hear of a reset
		t.Error("a node takes berth without a certificate")
	}
}

func TestNodesThatCannotBeTrustedAreRefusedInWords(t *testing.T) {
	ca, stranger := redistest.NewAuthority(t), redistest.NewAuthority(t)
	node := startTLSNode(t, ca, loopbackName)
	other := startTLSNode(t, ca, []string{"other.example"})
	for name, test := range map[string]struct {
		url   string
		args  []string
		words string // "": berth serves
	}{
		"of our authority":           {node.url(), []string{"--backend-tls-ca-file", ca.Path}, ""},
		"of another":                 {node.url(), []string{"--backend-tls-ca-file", stranger.Path}, "unknown authority"},
		"of none of this machine's":  {node.url(), nil, "unknown authority"},
		"for another name":           {other.url(), []string{"--backend-tls-ca-file", ca.Path}, "127.0.0.1"},
		"for the name that is given": {other.url(), []string{"--backend-tls-ca-file", ca.Path, "--backend-tls-server-name", "other.example"}, ""},
		"not for the one given":      {node.url(), []string{"--backend-tls-ca-file", ca.Path, "--backend-tls-server-name", "third.example"}, "third.example"},
		"that is not checked":        {other.url(), []string{"--backend-tls-insecure-skip-verify", "yes"}, ""},
		"that speaks no TLS":         {"rediss://" + node.Addr(), []string{"--backend-tls-ca-file", ca.Path, "--backend-connect-timeout-ms", "300"}, "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBerth(t, test.url, test.args...)
			c := dial(t, b.Addr())
			if test.words == "" {
				script(t, c, "SET a 1 → OK", "WATCH a → OK", "GET a → 1")
				return
			}
			if got, failed := c.Do("GET", "a").(redistest.Error); !failed {
				t.Errorf("GET: %v", got)
			}
			if err := b.srv.ready(); err == nil || !strings.Contains(err.Error(), test.words) || !strings.Contains(err.Error(), "TLS") {
				t.Errorf("%q does not say %q", err, test.words)
			}
		})
	}
}

// A node that changes its certificate is met with the new authority, once that is in the file.
func TestNodesThatComeBackAreSpokenToAgain(t *testing.T) {
	node := startTLSNode(t, redistest.NewAuthority(t), loopbackName)
	b := startTLS(t, node.url(), "--backend-tls-ca-file", node.ca.Path)
	c := b.client(t)
	script(t, c, "SET a 1 → OK", "WATCH a → OK")
	node.Restart(t)
	script(t, c, "MULTI → OK", "SET a 2 → QUEUED", "EXEC → <nil>")
	eventually(t, "the node to be there again", func() bool { return c.Do("SET", "a", "3") == "OK" })
	script(t, c, "WATCH a → OK", "GET a → 3", "MULTI → OK", "GET a → QUEUED", "EXEC → [3]")
}

// startTLSCluster starts nodes that speak TLS to each other, and of which each has a third of the slots.
func startTLSCluster(t *testing.T, ca *redistest.Authority) []*tlsNode {
	t.Helper()
	nodes := make([]*tlsNode, 3)
	for i := range nodes {
		nodes[i] = startTLSNode(t, ca, loopbackName, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--tls-cluster", "yes")
		nodes[i].Do(t, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		slots := []any{"CLUSTER", "ADDSLOTS"}
		for slot := i * 16384 / 3; slot < (i+1)*16384/3; slot++ {
			slots = append(slots, slot)
		}
		if got := nodes[i].Do(t, slots...); got != "OK" {
			t.Fatal(got)
		}
		for _, other := range nodes[:i] {
			if got := nodes[i].Do(t, "CLUSTER", "MEET", "127.0.0.1", other.port); got != "OK" {
				t.Fatal(got)
			}
		}
	}
	for _, n := range nodes {
		eventually(t, "the cluster to be ok", func() bool {
			info := text(n.Do(t, "CLUSTER", "INFO"))
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3\r")
		})
	}
	return nodes
}

func TestAClusterIsSpokenToOverTLS(t *testing.T) {
	ca := redistest.NewAuthority(t)
	nodes := startTLSCluster(t, ca)
	b := startTLS(t, nodes[0].url()+",127.0.0.1:"+nodes[1].port, "--backend-tls-ca-file", ca.Path)
	c := b.client(t)
	eventually(t, "berth to know all nodes", func() bool { return len(b.srv.nodes.Topology().Shards()) == 3 })
	for i := range 100 {
		key := fmt.Sprintf("k%d", i)
		script(t, c, "SET "+key+" "+key+" → OK", "GET "+key+" → "+key)
	}
	script(t, c, "MSET a 1 b 2 c 3 d 4 → OK", "MGET a b c d → [1 2 3 4]", "DBSIZE → 104")
	script(t, c, "WATCH a → OK", "MULTI → OK", "INCR a → QUEUED", "EXEC → [2]")
	converseOverTLS(t, func() *redistest.Conn { return b.client(t) })
	for _, n := range nodes {
		if got := n.plainClients(t); got > 0 {
			t.Errorf("%d of berth's connections to %s are plain", got, n.Addr())
		}
		if len(nodeClients(t, n.Server)) == 0 {
			t.Errorf("berth has no connection to %s", n.Addr())
		}
	}
}
