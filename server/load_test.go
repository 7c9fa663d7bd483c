package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// Load tests are small and short, to run with all the others. LOAD_SIZE=full makes them as large as
// scripts/acceptance wants them, and LOAD_BINARY=path runs them against that program instead of
// a berth in the test's own process.
var (
	loadFull   = os.Getenv("LOAD_SIZE") == "full"
	loadBinary = os.Getenv("LOAD_BINARY")
)

// sized is small, or full with LOAD_SIZE=full.
func sized[T any](small, full T) T {
	if loadFull {
		return full
	}
	return small
}

// chosen reports whether a case of many is run: one of n by chance, another choice each time, or
// all with LOAD_SIZE=full.
func chosen(n int) bool { return loadFull || rand.IntN(n) == 0 }

// figure prints a line that scripts/acceptance shows.
func figure(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("figure: "+format, args...)
}

// backing is what berth is put before: one node, or the primaries of a Cluster.
type backing []*redistest.Server

// url is the backing as berth's first argument. login is "user:password@", or nothing.
func (n backing) url(login string) string {
	var addrs []string
	for _, node := range n {
		addrs = append(addrs, node.Addr())
	}
	return "redis://" + login + strings.Join(addrs, ",")
}

// each sends a command to each node.
func (n backing) each(t testing.TB, command ...any) {
	t.Helper()
	for _, node := range n {
		if got := node.Do(t, command...); got != "OK" && got != int64(1) {
			t.Fatalf("%v: %v", command, got)
		}
	}
}

// overBackends runs a test over one node, and at full size over a Cluster of three primaries too.
// Nodes with arguments are the test's own.
func overBackends(t *testing.T, args []string, test func(t *testing.T, nodes backing)) {
	t.Helper()
	t.Run("standalone", func(t *testing.T) {
		if args == nil {
			test(t, backing{sharedNode(t)})
			return
		}
		test(t, backing{redistest.Start(t, args...)})
	})
	if !loadFull {
		return
	}
	t.Run("cluster", func(t *testing.T) {
		c := sharedCluster(t)
		if args != nil {
			c = redistest.StartCluster(t, 3, 0, args...)
		}
		test(t, backing{c.Node(0), c.Node(1), c.Node(2)})
	})
}

// loadedBerth is a berth under load, in this process or in its own.
type loadedBerth struct {
	t     testing.TB
	addr  string
	admin string
	inner *berthServer // nil when it has a process of its own
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
	said  string        // file with what the process has written
}

// startLoaded is startBerth with metrics, for the berth LOAD_BINARY names.
func startLoaded(t testing.TB, backend string, args ...string) *loadedBerth {
	t.Helper()
	args = append([]string{"--pool-wait-timeout", "30000"}, args...) // a starved machine dials slowly
	if loadBinary != "" {
		return startApart(t, backend, args...)
	}
	admin := freePort(t)
	b := &loadedBerth{t: t, admin: "127.0.0.1:" + admin}
	b.inner = startBerth(t, backend, append(args, "--admin-port", admin)...)
	b.addr = b.inner.Addr()
	return b
}

// startApart starts a berth in a process of its own: the one that LOAD_BINARY names, or the test binary.
func startApart(t testing.TB, backend string, args ...string) *loadedBerth {
	t.Helper()
	for range 20 {
		admin := freePort(t)
		b := &loadedBerth{t: t, admin: "127.0.0.1:" + admin}
		if b.launch(backend, append(args[:len(args):len(args)], "--admin-port", admin)) {
			return b
		}
	}
	t.Fatal("no berth would start")
	return nil
}

// freePort is one where nobody listens now, outside of the ranges of the kernel, of redistest and
// of startBerth.
func freePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(2000 + rand.IntN(firstBerthPort-2000))
		ln, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// launch starts the program and waits for its ready line; false: its port was taken.
func (b *loadedBerth) launch(backend string, args []string) bool {
	b.t.Helper()
	if backend != "" && !strings.Contains(backend, "://") {
		backend = "redis://" + backend
	}
	port := freePort(b.t)
	b.addr = "127.0.0.1:" + port
	b.said = filepath.Join(b.t.TempDir(), "berth.log")
	out, err := os.Create(b.said)
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	b.cmd = exec.Command(cmp.Or(loadBinary, os.Args[0]), append([]string{backend, "--port", port}, args...)...)
	b.cmd.Env = append(os.Environ(), runsBerth+"=yes")
	b.cmd.Stdout, b.cmd.Stderr = out, out
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.ended = make(chan struct{})
	go func() {
		_ = b.cmd.Wait()
		close(b.ended)
	}()
	b.t.Cleanup(func() {
		_ = b.cmd.Process.Kill()
		<-b.ended
		if b.t.Failed() {
			text, _ := os.ReadFile(b.said)
			b.t.Logf("berth said:\n%s", text)
		}
	})
	ready := false
	eventually(b.t, "berth to be ready", func() bool {
		text, _ := os.ReadFile(b.said)
		ready = strings.Contains(string(text), "berth ready on ")
		select {
		case <-b.ended:
			return true
		default:
			return ready
		}
	})
	return ready
}

// Addr is where clients go.
func (b *loadedBerth) Addr() string { return b.addr }

// terminate asks berth to stop as SIGTERM does, and returns its exit code and how long it took.
func (b *loadedBerth) terminate(patience time.Duration) (code int, took time.Duration) {
	b.t.Helper()
	begin := time.Now()
	if b.inner != nil {
		b.inner.once.Do(func() {
			ctx, cancel := contextFor(patience)
			defer cancel()
			if b.inner.srv.shutdown(ctx) != nil {
				code = 1
			}
			leaks.leave(b.inner)
		})
		return code, time.Since(begin)
	}
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(patience + 5*time.Second):
		b.t.Fatal("berth does not end")
	}
	return b.cmd.ProcessState.ExitCode(), time.Since(begin)
}

// metrics are the figures of a scrape, by name with labels.
func (b *loadedBerth) metrics() map[string]float64 {
	b.t.Helper()
	resp, err := http.Get("http://" + b.admin + "/metrics")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	return readMetrics(resp.Body)
}

func readMetrics(text io.Reader) map[string]float64 {
	values := map[string]float64{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			values[line[:i]], _ = strconv.ParseFloat(line[i+1:], 64)
		}
	}
	return values
}

// sum adds the metrics of a family whose labels contain all the words.
func sum(metrics map[string]float64, family string, words ...string) (total float64) {
	for name, v := range metrics {
		if name != family && !strings.HasPrefix(name, family+"{") {
			continue
		}
		has := true
		for _, w := range words {
			has = has && strings.Contains(name, w)
		}
		if has {
			total += v
		}
	}
	return total
}

// findings collects what went wrong under load, from many clients.
type findings struct {
	count atomic.Int64
	mu    sync.Mutex // guards first
	first []string   // the first few, in words
}

func (f *findings) add(format string, args ...any) {
	f.count.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.first) < 10 {
		f.first = append(f.first, fmt.Sprintf(format, args...))
	}
}

// texts are the first few.
func (f *findings) texts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.first)
}

// none fails the test when anything was found.
func (f *findings) none(t testing.TB, what string) {
	t.Helper()
	if n := f.count.Load(); n > 0 {
		t.Errorf("%s: %d, among them:\n%s", what, n, strings.Join(f.first, "\n"))
	}
}

// loadClient is a client made for thousands: it knows RESP2 and nothing else.
type loadClient struct {
	nc  net.Conn
	in  *bufio.Reader
	out []byte
}

// loadReply is one reply. text is an error's or a string's, n an integer's.
type loadReply struct {
	kind  byte // '+', '-', ':', '$', '*', or '_' for null
	text  string
	n     int64
	elems []loadReply
}

func (a loadReply) isError(prefix string) bool {
	return a.kind == '-' && strings.HasPrefix(a.text, prefix)
}

func (a loadReply) String() string {
	switch a.kind {
	case '-':
		return "-" + a.text
	case ':':
		return strconv.FormatInt(a.n, 10)
	case '*':
		return fmt.Sprint(a.elems)
	case '_':
		return "nil"
	}
	return a.text
}

func dialLoad(addr string) (*loadClient, error) {
	nc, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return newLoadClient(nc), nil
}

func newLoadClient(nc net.Conn) *loadClient {
	return &loadClient{nc: nc, in: bufio.NewReaderSize(nc, 2<<10)}
}

func (c *loadClient) close() { _ = c.nc.Close() }

// add puts a request behind those not flushed yet.
func (c *loadClient) add(args ...string) {
	c.out = append(strconv.AppendInt(append(c.out, '*'), int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		c.out = append(strconv.AppendInt(append(c.out, '$'), int64(len(a)), 10), "\r\n"...)
		c.out = append(append(c.out, a...), "\r\n"...)
	}
}

func (c *loadClient) flush() error {
	_ = c.nc.SetDeadline(time.Now().Add(loadPatience))
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// loadPatience bounds the wait for any one reply: no reply for so long is a lost one.
const loadPatience = 30 * time.Second

func (c *loadClient) do(args ...string) (loadReply, error) {
	c.add(args...)
	if err := c.flush(); err != nil {
		return loadReply{}, err
	}
	return c.read()
}

var errNotReply = errors.New("not a reply")

func (c *loadClient) read() (a loadReply, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return a, err
	}
	if len(line) < 3 {
		return a, errNotReply
	}
	a.kind = line[0]
	rest := string(line[1 : len(line)-2])
	switch a.kind {
	case '+', '-':
		a.text = rest
		return a, nil
	case '_':
		return a, nil
	}
	if a.n, err = strconv.ParseInt(rest, 10, 64); err != nil {
		return a, errNotReply
	}
	if a.kind == '%' {
		a.kind, a.n = '*', 2*a.n
	}
	switch {
	case a.kind == ':':
	case a.n < 0:
		a.kind = '_'
	case a.kind == '$':
		b := make([]byte, a.n+2)
		if _, err := io.ReadFull(c.in, b); err != nil {
			return a, err
		}
		a.text = string(b[:a.n])
	case a.kind == '*':
		for range a.n {
			e, err := c.read()
			if err != nil {
				return a, err
			}
			a.elems = append(a.elems, e)
		}
	default:
		return a, errNotReply
	}
	return a, nil
}

// crowd runs clients, each in a goroutine with its own connection, until stop is closed and they
// have all returned.
type crowd struct {
	t    testing.TB
	addr string
	stop chan struct{}
	done sync.WaitGroup
	lost findings // connections that ended, replies that did not come
}

func newCrowd(t testing.TB, addr string) *crowd {
	return &crowd{t: t, addr: addr, stop: make(chan struct{})}
}

// start adds n clients of a kind. run does one round of client i and is called again until the
// crowd stops; an error is one of its connection, and ends the client.
func (k *crowd) start(n int, kind string, run func(c *loadClient, i, round int) error) {
	for i := range n {
		k.done.Add(1)
		go func() {
			defer k.done.Done()
			c, err := dialLoad(k.addr)
			if err != nil {
				k.lost.add("%s %d: %v", kind, i, err)
				return
			}
			defer c.close()
			for round := 0; !k.stopped(); round++ {
				if err := run(c, i, round); errors.Is(err, errNoMore) {
					return
				} else if err != nil {
					k.lost.add("%s %d round %d: %v", kind, i, round, err)
					return
				}
			}
		}()
	}
}

func (k *crowd) stopped() bool {
	select {
	case <-k.stop:
		return true
	default:
		return false
	}
}

// pause waits, but not beyond the end.
func (k *crowd) pause(d time.Duration) {
	select {
	case <-k.stop:
	case <-time.After(d):
	}
}

// end stops the clients and waits for them.
func (k *crowd) end() {
	close(k.stop)
	k.done.Wait()
}
