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

// endpoint is where clients go, and the processes that serve them there.
type endpoint struct {
	name  string
	addrs []string // client i goes to addrs[i mod len]; several only for a Cluster without a proxy
	proxy []int    // process ids of the proxy; empty: there is none, or it is not known
	nodes []*node
	owned [][]uint32 // by address: the keys it may be asked for; nil: all
	most  int        // clients it can have at one time; 0: no limit of its own

	proc   *process // the proxy, when it was started here
	launch func() (*endpoint, error)

	filledSize int    // bytes of the values that all keys below filledKeys have
	filledKeys uint32 //
}

// fresh starts another endpoint of the same kind, with processes that have no past.
func (e *endpoint) fresh() (*endpoint, error) {
	if e.launch == nil {
		return nil, errors.New("not started here, so it cannot be started anew")
	}
	return e.launch()
}

func (e *endpoint) stop() {
	if e.proc != nil {
		e.proc.stop()
	}
	stopNodes(e.nodes)
}

// explain adds to an error that one of the endpoint's processes has ended, if so, and what it said
// last.
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

// nodePIDs are the nodes' processes that are known.
func (e *endpoint) nodePIDs() []int {
	var pids []int
	for _, n := range e.nodes {
		if n.pid > 0 {
			pids = append(pids, n.pid)
		}
	}
	return pids
}

// nodeClients is how many connections all nodes have together.
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

// errNotHere is returned for an endpoint that has no meaning on a bed.
var errNotHere = errors.New("has no meaning there")

// launcher starts endpoints by their names.
type launcher struct {
	dir   string   // for logs and configurations
	berth string   // berth's binary; "": not built yet
	args  []string // further arguments for berth
	files int      // descriptors a process may have
	count int      // for names of files
}

// start starts the endpoint with this name on this bed: direct, berth, nutcracker, haproxy, or
// "name=host:port", with "@PID" after it when the proxy's figures are wanted, and "/host:port" for
// each node after it.
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

// nodesFor starts what a proxy has after it. sharding: the proxy cuts the keys up by itself and
// knows no Cluster.
func (l *launcher) nodesFor(on bed, sharding bool) ([]*node, error) {
	switch {
	case on == cluster && sharding:
		return startNodes(l.dir, shardsOfCluster)
	case on == cluster:
		return startCluster(l.dir)
	}
	return startNodes(l.dir, 1)
}

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

// proxied starts a proxy in front of nodes; program returns what to run, given the port for
// clients.
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

func (l *launcher) haproxy(on bed) (*endpoint, error) {
	if on == cluster {
		return nil, errNotHere
	}
	nodes, err := l.nodesFor(on, false)
	if err != nil {
		return nil, err
	}
	most := l.files/2 - 100 // each client takes two descriptors
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

// external is an endpoint that somebody else has started: "name=host:port[@PID][/node:port…]".
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
