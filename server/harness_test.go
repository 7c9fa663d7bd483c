package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cloudwego/netpoll"
	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/config"
)

// berthServer is a berth that runs in the test's process, as main starts it.
type berthServer struct {
	srv   *server
	t     testing.TB
	addr  string
	once  sync.Once
	fed   sync.Map // *clientReads by *redistest.Conn
	reads sync.Map // the same by the client's address
	front sync.Map // addresses of clients by those that berth sees: see tlsFront
	mark  mark     // what tells its goroutines and descriptors from those of others
}

// has reports whether clients find a command.
func (b *berthServer) has(name string) bool { return b.srv.table().Find(name) != nil }

// noCommand is what the node says to a user who may not run a command. It names the user since 7.2.
func (b *berthServer) noCommand(user, command string) string {
	who := "User " + user
	if b.srv.isBefore(7, 2) {
		who = "this user"
	}
	return "NOPERM " + who + " has no permissions to run the '" + command + "' command"
}

// noKey is what the node says to a user who may not touch a key.
func (b *berthServer) noKey() string {
	if b.srv.isBefore(7, 2) {
		return "NOPERM this user has no permissions to access one of the keys used as arguments"
	}
	return "NOPERM No permissions to access a key"
}

// startBerth runs berth in front of backend ("redis://host:port", "host:port"; "" is the embedded
// one), with the defaults, a port of its own and no admin listener, but for what args say
// ("--name", "value"). It stops with the test, and the test fails when a goroutine or a descriptor
// stays behind: see mark. What clients and nodes sent is destroyed as soon as berth has looked at
// it, as gnet would do with the next read.
func startBerth(t testing.TB, backend string, args ...string) *berthServer {
	t.Helper()
	b := &berthServer{t: t}
	var line []string
	if backend != "" {
		if !strings.Contains(backend, "://") {
			backend = "redis://" + backend
		}
		line = append(line, backend)
	}
	more, front := b.tlsFront(t, args)
	line = append(line, more...)
	leaks.enter(b)
	for try := 0; ; try++ {
		var err error
		b.mark.label(func() { err = b.start(append(line, args...)) })
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EADDRINUSE) || try == 50 {
			leaks.leave(b)
			t.Fatalf("start berth: %v", err)
		}
	}
	if front != nil {
		b.addr = front()
	}
	t.Cleanup(func() {
		b.Stop()
		leaks.check(b)
	})
	return b
}

// Ports for berths lie where neither redistest nor the kernel's outgoing connections take theirs.
const (
	firstBerthPort = 5000
	lastBerthPort  = 10999
)

func (b *berthServer) start(args []string) error {
	port := strconv.Itoa(firstBerthPort + rand.IntN(lastBerthPort-firstBerthPort+1))
	var said bytes.Buffer
	line := append(args, "--port", port)
	if !hasFlag(args, "--admin-port") {
		line = append(line, "--admin-port", "0")
	}
	if !hasFlag(args, "--loops") {
		line = append(line, "--loops", "2") // on any machine: what one client does must reach those on other loops
	}
	for _, patience := range [][]string{{"--pool-wait-timeout", "30000"}, {"--backend-connect-timeout-ms", "10000"}} {
		if !hasFlag(args, patience[0]) {
			line = append(line, patience...) // a starved machine dials slowly
		}
	}
	settings, _ := config.Read(line, nil, &said, &said)
	if settings == nil {
		return errors.New(said.String())
	}
	nodes, nodeCerts, err := connect(settings.Load())
	if err != nil {
		return err
	}
	srv := newServer(settings, nodes, nodeCerts)
	srv.wrap = func(h gnet.EventHandler) gnet.EventHandler { return poisoner{h, b} }
	if err := srv.start(); err != nil {
		_ = srv.shutdown(context.Background())
		return err
	}
	if err := srv.startAdmin(); err != nil {
		_ = srv.shutdown(context.Background())
		return err
	}
	b.srv, b.addr = srv, "127.0.0.1:"+port
	b.mark.port, _ = strconv.Atoi(port)
	return nil
}

func hasFlag(args []string, name string) bool {
	for _, a := range args {
		if a == name {
			return true
		}
	}
	return false
}

// Addr is where clients go.
func (b *berthServer) Addr() string { return b.addr }

// Stop shuts berth down as SIGTERM does, with little patience. Stopping twice is harmless.
func (b *berthServer) Stop() {
	b.once.Do(func() {
		b.t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = b.srv.shutdown(ctx) // clients that still wait are none of its tests' business
		if n := b.srv.clients.Load(); n != 0 {
			eventually(b.t, "all clients to be gone", func() bool { return b.srv.clients.Load() == 0 })
		}
		leaks.leave(b)
	})
}

// set changes options while berth runs: name, value, name, value.
func (b *berthServer) set(pairs ...string) {
	b.t.Helper()
	if err := b.srv.settings.Set(pairs...); err != nil {
		b.t.Fatalf("set %v: %v", pairs, err)
	}
}

// dial connects a client that hides nothing.
func dial(t testing.TB, addr string) *redistest.Conn {
	t.Helper()
	return redistest.Dial(t, addr)
}

// eventually waits for what other goroutines or processes must make true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, what, cond)
}

// feed sends bytes and returns when berth has looked at them, or has closed the connection: what is
// fed next is another read.
func (b *berthServer) feed(c *redistest.Conn, bytes string) {
	b.t.Helper()
	seen := b.readsOf(c)
	due := seen.bytes.Load() + int64(len(bytes))
	if due > goneFar || c.TryWrite([]byte(bytes)) != nil {
		return
	}
	if !seen.await(due, redistest.Patience(10*time.Second)) {
		b.t.Fatalf("berth has not read what %s sent", c.LocalAddr())
	}
}

// clientReads counts the bytes that berth has read of a client.
type clientReads struct {
	bytes atomic.Int64
	more  chan struct{} // holds one token when there are more
}

func newClientReads() *clientReads { return &clientReads{more: make(chan struct{}, 1)} }

// await reports whether so many bytes have been read in time.
func (r *clientReads) await(due int64, patience time.Duration) bool {
	late := time.NewTimer(patience)
	defer late.Stop()
	for r.bytes.Load() < due {
		select {
		case <-r.more:
		case <-late.C:
			return false
		}
	}
	return true
}

func (r *clientReads) add(n int64) {
	r.bytes.Add(n)
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// readsOf counts what berth reads of a client, from now on.
func (b *berthServer) readsOf(c *redistest.Conn) *clientReads {
	v, known := b.fed.LoadOrStore(c, newClientReads())
	seen := v.(*clientReads)
	if !known {
		b.reads.Store(c.LocalAddr(), seen)
	}
	return seen
}

// goneFar is more than any client sends: a closed connection has been read to its end.
const goneFar = 1 << 60

// poison is what the race detector checks at once, and not byte by byte.
var poison = bytes.Repeat([]byte{'!'}, 64<<10)

// poisoner overwrites gnet's read buffer when the handler has returned: a slice of it that somebody
// kept is then garbage, always, and not only when the next client's bytes happen to land there.
type poisoner struct {
	gnet.EventHandler
	b *berthServer
}

func (p poisoner) OnTraffic(c gnet.Conn) gnet.Action {
	seen, _ := c.Peek(-1)
	reads := p.reads(c)
	action := p.EventHandler.OnTraffic(c)
	n := len(seen)
	for poisoned := 0; poisoned < n; {
		poisoned += copy(seen[poisoned:], poison)
	}
	if reads != nil {
		reads.add(int64(n))
	}
	return action
}

func (p poisoner) OnClose(c gnet.Conn, err error) gnet.Action {
	reads := p.reads(c)
	action := p.EventHandler.OnClose(c, err)
	if reads != nil {
		reads.add(goneFar)
	}
	return action
}

// reads counts the bytes of a client that is fed, else it is nil.
func (p poisoner) reads(c gnet.Conn) *clientReads {
	if _, ok := c.Context().(*session); !ok {
		return nil
	}
	addr := any(c.RemoteAddr().String())
	if client, ok := p.b.front.Load(addr); ok {
		addr = client
	}
	v, ok := p.b.reads.Load(addr)
	if !ok {
		return nil
	}
	return v.(*clientReads)
}

// unique is a key prefix that no other test has used, nor this one when it runs again.
func unique(prefix string) string { return fmt.Sprintf("%s.%d", prefix, uniques.Add(1)) }

var uniques atomic.Int64

// sharedNode is one redis-server for all tests that only need their own keys: see unique.
func sharedNode(testing.TB) *redistest.Server { return shared.node() }

// sharedCluster is one cluster of three primaries for all tests that leave its slots where they
// are.
func sharedCluster(testing.TB) *redistest.Cluster { return shared.cluster() }

// clusterURL is a cluster as berth's backend.
func clusterURL(c *redistest.Cluster) string { return "redis://" + strings.Join(c.Addrs(), ",") }

var shared = &sharedServers{}

type sharedServers struct {
	tb      packageTB
	node    func() *redistest.Server
	cluster func() *redistest.Cluster
	alone   func() *redistest.Cluster // of one node, to ask directly what berth answers over three
}

func (s *sharedServers) init() {
	s.node = sync.OnceValue(func() *redistest.Server {
		return redistest.Start(&s.tb, "--enable-debug-command", "yes", "--hz", "100")
	})
	s.cluster = sync.OnceValue(func() *redistest.Cluster { return redistest.StartCluster(&s.tb, 3, 0, "--hz", "100") })
	s.alone = sync.OnceValue(func() *redistest.Cluster { return redistest.StartCluster(&s.tb, 1, 0, "--hz", "100") })
}

// packageTB lets redistest's servers live as long as the package's tests.
type packageTB struct {
	testing.TB // nil: what redistest uses is below
	mu         sync.Mutex
	cleanups   []func()
	dirs       []string
}

func (p *packageTB) Helper()                   {}
func (p *packageTB) Failed() bool              { return false }
func (p *packageTB) Logf(string, ...any)       {}
func (p *packageTB) Fatalf(f string, a ...any) { panic("shared servers: " + fmt.Sprintf(f, a...)) }
func (p *packageTB) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

func (p *packageTB) TempDir() string {
	dir, err := os.MkdirTemp("", "berth-test-")
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dirs = append(p.dirs, dir)
	return dir
}

func (p *packageTB) end() {
	for i := len(p.cleanups) - 1; i >= 0; i-- {
		p.cleanups[i]()
	}
	for _, dir := range p.dirs {
		_ = os.RemoveAll(dir)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(runsBerth) != "" {
		os.Exit(run()) // this is berth, started by a test
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	netpoll.Initialize() // its pollers stay, and are no leak
	shared.init()
	leaks.begin()
	code := m.Run()
	shared.tb.end()
	if left := leaks.end(); left != "" {
		fmt.Printf("FAIL: after all tests, of a berth that ran beside others, there is left:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

func TestBerthsRunOneAfterAnotherAndSideBySide(t *testing.T) {
	node := redistest.Start(t)
	for range 3 {
		b := startBerth(t, node.Addr())
		if got := dial(t, b.Addr()).Do("SET", "k", "v"); got != "OK" {
			t.Fatalf("SET: %v", got)
		}
		b.Stop()
		if c, err := net.Dial("tcp", b.Addr()); err == nil {
			c.Close()
			t.Fatal("a stopped berth still accepts")
		}
	}
	x, y := startBerth(t, node.Addr()), startBerth(t, "")
	if got := dial(t, x.Addr()).Do("GET", "k"); got != "v" {
		t.Errorf("over the node: %v", got)
	}
	if got := dial(t, y.Addr()).Do("GET", "k"); got != nil {
		t.Errorf("embedded: %v", got)
	}
}
