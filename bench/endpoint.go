//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// endpoint is an address to measure and the processes that serve it.
type endpoint struct {
	name  string
	addrs []string // client i connects to addrs[i mod len]; several only for a Cluster without a proxy
	proxy []int    // process ids of the proxy; empty: no proxy, or an unknown one
	nodes []*node
	owned [][]uint32 // by address: keys that it serves; nil: all
	most  int        // clients that it can serve at one time; 0: no limit

	proc   *process                  // the proxy, if bench started it
	launch func() (*endpoint, error) // starts another one; nil: bench did not start this one

	filledSize int    // bytes of the values of all keys below filledKeys
	filledKeys uint32 // keys that have a value
}

// fresh starts another endpoint of the same kind, with new processes.
func (e *endpoint) fresh() (*endpoint, error) {
	if e.launch == nil {
		return nil, errors.New("bench did not start this endpoint, so it cannot start another one")
	}
	return e.launch()
}

// stop ends the processes that bench started for the endpoint.
func (e *endpoint) stop() {
	if e.proc != nil {
		e.proc.stop()
	}
	stopNodes(e.nodes)
}

// explain adds the last output of every process of the endpoint that has ended to an error.
func (e *endpoint) explain(err error) error {
	procs := []*process{e.proc}
	for _, n := range e.nodes {
		procs = append(procs, n.proc)
	}
	for _, p := range procs {
		if p != nil && p.ended() {
			err = fmt.Errorf("%w; %s ended:\n%s", err, p.cmd.Path, p.said())
		}
	}
	return err
}

// nodePIDs returns the known process ids of the nodes.
func (e *endpoint) nodePIDs() []int {
	var pids []int
	for _, n := range e.nodes {
		if n.pid > 0 {
			pids = append(pids, n.pid)
		}
	}
	return pids
}

// nodeClients returns how many connections all nodes have together.
func (e *endpoint) nodeClients() (int, error) {
	sum := 0
	for _, n := range e.nodes {
		clients, err := n.clients()
		if err != nil {
			return 0, err
		}
		sum += clients
	}
	return sum, nil
}

// errNotHere is returned by launcher.start for an endpoint that does not support a bed.
var errNotHere = errors.New("not supported")

// launcher starts endpoints by name.
type launcher struct {
	dir   string   // directory for logs and configurations
	berth string   // path of berth's binary; "": not built yet
	args  []string // additional arguments for berth
	files int      // limit of file descriptors per process
	count int      // proxies started so far, for the names of log files
}

// start starts the endpoint with this name on this bed: direct, berth, nutcracker or haproxy. A
// name of the form "name=host:port[@PID][/node:port…]" is an endpoint that runs already.
func (l *launcher) start(name string, on bed) (*endpoint, error) {
	var e *endpoint
	var err error
	switch {
	case strings.Contains(name, "="):
		e, err = l.external(name)
	case name == "direct":
		e, err = l.direct(on)
	case name == "berth":
		e, err = l.startBerth(on)
	case name == "nutcracker":
		e, err = l.nutcracker(on)
	case name == "haproxy":
		e, err = l.haproxy(on)
	default:
		err = errors.New("no such endpoint; there are direct, berth, nutcracker, haproxy, and name=host:port")
	}
	if err != nil {
		return nil, fmt.Errorf("endpoint %s on %s: %w", name, on, err)
	}
	if !strings.Contains(name, "=") {
		e.name = name
		e.launch = func() (*endpoint, error) { return l.start(name, on) }
	}
	return e, nil
}

// nodesFor starts the nodes for a proxy. If sharding is set, the proxy distributes the keys itself
// and does not support Redis Cluster.
func (l *launcher) nodesFor(on bed, sharding bool) ([]*node, error) {
	switch {
	case on == cluster && sharding:
		return startNodes(l.dir, shardsOfCluster)
	case on == cluster:
		return startCluster(l.dir)
	}
	return startNodes(l.dir, 1)
}

// direct starts nodes without a proxy.
func (l *launcher) direct(on bed) (*endpoint, error) {
	nodes, err := l.nodesFor(on, false)
	if err != nil {
		return nil, err
	}
	e := &endpoint{nodes: nodes}
	for _, n := range nodes {
		e.addrs = append(e.addrs, n.addr)
	}
	return e, nil
}

// proxied starts a proxy for nodes. args returns the proxy's arguments; the parameter port is the
// port for clients and other is another free port. If the proxy does not start, proxied stops the
// nodes.
func (l *launcher) proxied(nodes []*node, name, bin string, args func(port, other int) ([]string, error)) (*endpoint, error) {
	e, err := func() (*endpoint, error) {
		ports, err := freePorts(2)
		if err != nil {
			return nil, err
		}
		words, err := args(ports[0], ports[1])
		if err != nil {
			return nil, err
		}
		l.count++
		p, err := spawn(l.dir, name+"-"+strconv.Itoa(l.count), bin, words...)
		if err != nil {
			return nil, err
		}
		addr := "127.0.0.1:" + strconv.Itoa(ports[0])
		if err := p.awaitAnswer(addr); err != nil {
			p.stop()
			return nil, err
		}
		return &endpoint{addrs: []string{addr}, proxy: []int{p.pid()}, nodes: nodes, proc: p}, nil
	}()
	if err != nil {
		stopNodes(nodes)
	}
	return e, err
}

// startBerth builds berth, unless there is a binary, and starts it.
func (l *launcher) startBerth(on bed) (*endpoint, error) {
	if l.berth == "" {
		bin, err := buildBerth(l.dir)
		if err != nil {
			return nil, err
		}
		l.berth = bin
	}
	nodes, err := l.nodesFor(on, false)
	if err != nil {
		return nil, err
	}
	return l.proxied(nodes, "berth", l.berth, func(port, _ int) ([]string, error) {
		var addrs []string
		for _, n := range nodes {
			addrs = append(addrs, n.addr)
		}
		args := []string{"redis://" + strings.Join(addrs, ","), "--port", strconv.Itoa(port), "--admin-port", "0",
			"--maxclients", "100000"}
		return append(args, l.args...), nil
	})
}

// nutcracker starts nutcracker.
func (l *launcher) nutcracker(on bed) (*endpoint, error) {
	nodes, err := l.nodesFor(on, true)
	if err != nil {
		return nil, err
	}
	return l.proxied(nodes, "nutcracker", "nutcracker", func(port, stats int) ([]string, error) {
		conf := fmt.Sprintf("bench:\n  listen: 127.0.0.1:%d\n  redis: true\n  hash: crc16\n  distribution: modula\n"+
			"  backlog: 4096\n  preconnect: true\n  servers:\n", port)
		for _, n := range nodes {
			conf += fmt.Sprintf("   - %s:1\n", n.addr)
		}
		file := filepath.Join(l.dir, fmt.Sprintf("nutcracker-%d.yml", port))
		return []string{"-c", file, "-a", "127.0.0.1", "-s", strconv.Itoa(stats)}, os.WriteFile(file, []byte(conf), 0o644)
	})
}

// haproxy starts haproxy, which does not support a Cluster.
func (l *launcher) haproxy(on bed) (*endpoint, error) {
	if on == cluster {
		return nil, errNotHere
	}
	nodes, err := l.nodesFor(on, false)
	if err != nil {
		return nil, err
	}
	most := l.files/2 - 100 // each client uses two descriptors
	e, err := l.proxied(nodes, "haproxy", "haproxy", func(port, _ int) ([]string, error) {
		conf := fmt.Sprintf("global\n  maxconn %d\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n"+
			"  timeout server 1h\nlisten bench\n  bind 127.0.0.1:%d backlog 4096\n  server redis %s\n",
			most, port, nodes[0].addr)
		file := filepath.Join(l.dir, fmt.Sprintf("haproxy-%d.cfg", port))
		return []string{"-db", "-f", file}, os.WriteFile(file, []byte(conf), 0o644)
	})
	if err == nil {
		e.most = most
	}
	return e, err
}

// external returns an endpoint that runs already: "name=host:port[@PID][/node:port…]".
func (l *launcher) external(text string) (*endpoint, error) {
	name, rest, _ := strings.Cut(text, "=")
	words := strings.Split(rest, "/")
	addr, pid, hasPID := strings.Cut(words[0], "@")
	e := &endpoint{name: name, addrs: []string{addr}}
	if hasPID {
		n, err := positive(pid)
		if err != nil {
			return nil, fmt.Errorf("process id %q: %w", pid, err)
		}
		e.proxy = []int{n}
	}
	for _, word := range words[1:] {
		n, err := findNode(word)
		if err != nil {
			stopNodes(e.nodes)
			return nil, fmt.Errorf("node %s: %w", word, err)
		}
		e.nodes = append(e.nodes, n)
	}
	return e, answersPing(addr)
}
