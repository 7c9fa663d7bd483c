package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Watched is a primary with replicas and the Sentinels that watch it.
type Watched struct {
	Name      string    // the Sentinels' name for the primary
	Nodes     []*Server // Nodes[0] is the primary until a failover
	Sentinels []*Server

	ca *Authority // nil: they speak no TLS
}

// tlsArgs are settings of a node or Sentinel that speaks TLS to others of the authority, and asks them
// for certificates.
func tlsArgs(t testing.TB, ca *Authority, port int) []string {
	t.Helper()
	pair := ca.Issue(t, "127.0.0.1")
	return []string{
		"--tls-port", strconv.Itoa(port), "--tls-replication", "yes",
		"--tls-cert-file", pair.CertPath, "--tls-key-file", pair.KeyPath, "--tls-ca-cert-file", ca.Path,
	}
}

// StartWatched starts a primary with replicas and Sentinels. It returns once they have found each
// other. A Sentinel considers a node down after half a second, and more than half of the Sentinels
// must agree. args are for the nodes.
func StartWatched(t testing.TB, replicas, sentinels int, args ...string) *Watched {
	t.Helper()
	return startWatched(t, nil, replicas, sentinels, args)
}

// StartWatchedTLS is StartWatched with TLS on all links but the test's own: nodes and Sentinels have a
// port for TLS beside the plain one, where they want a certificate of the authority.
func StartWatchedTLS(t testing.TB, ca *Authority, replicas, sentinels int, args ...string) *Watched {
	t.Helper()
	return startWatched(t, ca, replicas, sentinels, args)
}

func startWatched(t testing.TB, ca *Authority, replicas, sentinels int, args []string) *Watched {
	t.Helper()
	w := &Watched{Name: "mymaster", ca: ca}
	// begin starts a node or a Sentinel.
	begin := func(args []string, setUp func(*Server)) *Server {
		if ca == nil {
			return start(t, false, args, setUp)
		}
		port, err := reservePort(false)
		if err != nil {
			t.Fatalf("redistest: %v", err)
		}
		t.Cleanup(port.release)
		s := start(t, false, append(tlsArgs(t, ca, port.number), args...), setUp)
		s.tlsPort = port.number
		return s
	}
	primary := begin(args, nil)
	w.Nodes = append(w.Nodes, primary)
	for range replicas {
		w.Nodes = append(w.Nodes, begin(append([]string{
			"--replicaof", fmt.Sprint("127.0.0.1 ", primary.linkPort()), "--repl-diskless-sync-delay", "0",
		}, args...), nil))
	}
	conf := fmt.Sprintf("bind 127.0.0.1\nprotected-mode no\nsentinel monitor %[1]s 127.0.0.1 %[2]d %[3]d\n"+
		"sentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 3000\n", w.Name, primary.linkPort(), sentinels/2+1)
	for range sentinels {
		w.Sentinels = append(w.Sentinels, begin([]string{"--sentinel"}, func(s *Server) {
			s.conf = filepath.Join(s.dir, "sentinel.conf")
			if err := os.WriteFile(s.conf, fmt.Appendf(nil, "dir %s\n%s", s.dir, conf), 0o600); err != nil {
				t.Fatal(err)
			}
		}))
	}
	for _, replica := range w.Nodes[1:] {
		Eventually(t, clusterTimeout, "a replica to be in sync with its primary", func() bool {
			return strings.Contains(replica.Do(t, "INFO", "replication").(string), "master_link_status:up")
		})
	}
	for _, s := range w.Sentinels {
		Eventually(t, clusterTimeout, "a Sentinel to know all others", func() bool {
			return len(s.Do(t, "SENTINEL", "REPLICAS", w.Name).([]any)) == replicas &&
				len(s.Do(t, "SENTINEL", "SENTINELS", w.Name).([]any)) == sentinels-1
		})
	}
	return w
}

// URL returns the sentinel:// URL with all Sentinels, or the rediss+sentinel:// URL if they speak TLS.
func (w *Watched) URL() string {
	url := "sentinel://"
	if w.ca != nil {
		url = "rediss+sentinel://"
	}
	for i, s := range w.Sentinels {
		if i > 0 {
			url += ","
		}
		url += s.LinkAddr()
	}
	return url + "/" + w.Name
}

// Failover asks a Sentinel to replace the primary although it works. It returns once that Sentinel
// reports another primary. A Sentinel gives a failover up when a busy replica does not say in time that
// it was promoted; it is asked again then.
func (w *Watched) Failover(t testing.TB) {
	t.Helper()
	s := w.Sentinels[0]
	var before string
	Eventually(t, clusterTimeout, "a failover by a Sentinel", func() bool {
		port, flags := w.primaryAsSeenBy(t, s)
		if before == "" {
			before = port
		}
		if port == before && !strings.Contains(flags, "failover_in_progress") {
			s.Do(t, "SENTINEL", "FAILOVER", w.Name)
		}
		return port != before
	})
}

// primaryAsSeenBy returns the port and the flags of the primary that a Sentinel reports.
func (w *Watched) primaryAsSeenBy(t testing.TB, s *Server) (port, flags string) {
	t.Helper()
	pairs := s.Do(t, "SENTINEL", "MASTER", w.Name).([]any)
	for i := 0; i+1 < len(pairs); i += 2 {
		switch pairs[i] {
		case "port":
			port = pairs[i+1].(string)
		case "flags":
			flags = pairs[i+1].(string)
		}
	}
	return port, flags
}

// Oracle is a scripted Sentinel: the test decides which primary it reports.
type Oracle struct {
	ln net.Listener

	mu      sync.Mutex // guards the fields below
	primary string
	epoch   int
	conns   []net.Conn
}

// StartOracle starts an Oracle that reports a primary, "host:port", with a configuration epoch.
func StartOracle(t testing.TB, primary string, epoch int) *Oracle {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &Oracle{ln: ln, primary: primary, epoch: epoch}
	t.Cleanup(o.Stop)
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns = append(o.conns, nc)
			o.mu.Unlock()
			go o.serve(nc)
		}
	}()
	return o
}

// Addr returns "127.0.0.1:port".
func (o *Oracle) Addr() string { return o.ln.Addr().String() }

// Say changes the primary that the Oracle reports. "": it knows no primary.
func (o *Oracle) Say(primary string, epoch int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.primary, o.epoch = primary, epoch
}

// Stop closes the listener and all connections.
func (o *Oracle) Stop() {
	_ = o.ln.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, nc := range o.conns {
		_ = nc.Close()
	}
}

// serve answers the requests of one connection.
func (o *Oracle) serve(nc net.Conn) {
	defer nc.Close()
	in := bufio.NewReader(nc)
	for {
		var words []string
		var n int
		if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
			return
		}
		for range n {
			var size int
			if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
				return
			}
			word := make([]byte, size+2)
			if _, err := io.ReadFull(in, word); err != nil {
				return
			}
			words = append(words, string(word[:size]))
		}
		if _, err := io.WriteString(nc, o.answer(words[0])); err != nil {
			return
		}
	}
}

// answer returns the reply to SENTINEL MASTER. It confirms any other command as a subscription, on
// which no message arrives.
func (o *Oracle) answer(command string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case command != "SENTINEL":
		return "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n"
	case o.primary == "":
		return "-ERR No such master with that name\r\n"
	}
	host, port, _ := net.SplitHostPort(o.primary)
	return string(Command("ip", host, "port", port, "config-epoch", strconv.Itoa(o.epoch)))
}
