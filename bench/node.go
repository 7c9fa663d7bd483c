//go:build linux

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/berth-proxy/berth/codec"
)

// node is a redis-server of an endpoint.
type node struct {
	addr string
	pid  int      // 0: not known, for example because it is on another machine
	proc *process // nil: bench did not start it
	ctl  *control
}

// slots is the number of hash slots of a Redis Cluster.
const slots = 16384

// startNode starts a redis-server without persistence.
func startNode(dir string, extra ...string) (*node, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	name := "redis-" + strconv.Itoa(ports[0])
	args := append([]string{
		"--port", strconv.Itoa(ports[0]), "--cluster-port", strconv.Itoa(ports[1]), "--bind", "127.0.0.1",
		"--save", "", "--appendonly", "no", "--protected-mode", "no", "--tcp-backlog", "4096",
		"--maxclients", "60000", "--dir", dir, "--cluster-config-file", name + ".conf",
	}, extra...)
	p, err := spawn(dir, name, "redis-server", args...)
	if err != nil {
		return nil, fmt.Errorf("redis-server: %w", err)
	}
	n := &node{addr: "127.0.0.1:" + strconv.Itoa(ports[0]), pid: p.pid(), proc: p}
	if err := p.awaitAnswer(n.addr); err == nil {
		n.ctl, err = dialControl(n.addr)
		if err == nil {
			return n, nil
		}
	} else {
		p.stop()
		return nil, err
	}
	return nil, errors.New("redis-server accepts no second connection")
}

// findNode returns a node that runs already.
func findNode(addr string) (*node, error) {
	ctl, err := dialControl(addr)
	if err != nil {
		return nil, err
	}
	n := &node{addr: addr, ctl: ctl}
	if strings.HasPrefix(addr, "127.") || strings.HasPrefix(addr, "localhost:") {
		n.pid, err = ctl.info("server", "process_id")
	}
	return n, err
}

// stop ends the node if bench started it.
func (n *node) stop() {
	if n.ctl != nil {
		n.ctl.close()
	}
	if n.proc != nil {
		n.proc.stop()
	}
}

// clients returns how many connections the node has, without bench's control connection.
func (n *node) clients() (int, error) {
	all, err := n.ctl.info("clients", "connected_clients")
	return all - 1, err
}

// startNodes starts count servers. If one does not start, it stops the others.
func startNodes(dir string, count int, extra ...string) ([]*node, error) {
	var nodes []*node
	for range count {
		n, err := startNode(dir, extra...)
		if err != nil {
			stopNodes(nodes)
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// stopNodes stops all nodes.
func stopNodes(nodes []*node) {
	for _, n := range nodes {
		n.stop()
	}
}

// shardsOfCluster is the number of primaries on the cluster bed.
const shardsOfCluster = 3

// firstSlot returns the first slot of primary i. All primaries have equal shares.
func firstSlot(i int) int { return i * slots / shardsOfCluster }

// startCluster starts three primaries and returns once all of them report that the cluster is ok.
func startCluster(dir string) ([]*node, error) {
	nodes, err := startNodes(dir, shardsOfCluster, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
	if err != nil {
		return nil, err
	}
	if err := joinCluster(nodes); err != nil {
		stopNodes(nodes)
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return nodes, nil
}

// joinCluster makes a Cluster of nodes that do not know each other and waits until it is ok.
func joinCluster(nodes []*node) error {
	for i, n := range nodes {
		first, last := strconv.Itoa(firstSlot(i)), strconv.Itoa(firstSlot(i+1)-1)
		if _, err := n.ctl.must("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
		if _, err := n.ctl.must("CLUSTER", "ADDSLOTSRANGE", first, last); err != nil {
			return err
		}
	}
	for _, n := range nodes { // only now, because SET-CONFIG-EPOCH fails on a node that knows another
		bus, err := n.ctl.must("CONFIG", "GET", "cluster-port")
		if err != nil {
			return err
		}
		port, _ := bus.Lookup("cluster-port")
		_, addr, _ := strings.Cut(n.addr, ":")
		for _, other := range nodes {
			if other == n {
				continue
			}
			if _, err := other.ctl.must("CLUSTER", "MEET", "127.0.0.1", addr, port.Text()); err != nil {
				return err
			}
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for _, n := range nodes {
		for {
			info, err := n.ctl.must("CLUSTER", "INFO")
			if err != nil {
				return err
			}
			if text := info.Text(); strings.Contains(text, "cluster_state:ok") &&
				strings.Contains(text, fmt.Sprintf("cluster_known_nodes:%d\r\n", len(nodes))) {
				break
			}
			if time.Now().After(deadline) {
				return errors.New("the nodes do not agree within 30 s")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// keysByPrimary returns, for each primary, the numbers of its keys among those below count.
func keysByPrimary(ctl *control, count uint32) ([][]uint32, error) {
	const batch = 2000
	owned := make([][]uint32, shardsOfCluster)
	for from := uint32(0); from < count; from += batch {
		to := min(count, from+batch)
		var out []byte
		for k := from; k < to; k++ {
			out = codec.AppendCommand(out, []byte("CLUSTER"), []byte("KEYSLOT"), appendKey(nil, k))
		}
		if err := ctl.send(out); err != nil {
			return nil, err
		}
		for k := from; k < to; k++ {
			v, err := ctl.receive()
			if err != nil {
				return nil, err
			}
			i := 0
			for int(v.Int) >= firstSlot(i+1) {
				i++
			}
			owned[i] = append(owned[i], k)
		}
	}
	return owned, nil
}
