package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/backend/redistest"
)

// mark tells the goroutines and descriptors of one berth from all others of the process.
//
// Goroutines carry the berth's name as a profiler label, which a goroutine hands on to those that it starts. Goroutines of
// pools (gopool, ants) serve whoever comes next, and callbacks of netpoll's pollers carry no label: these, and descriptors
// other than sockets of the berth's own port, are checked when no other berth runs, and by the last berth.
type mark struct {
	test   string    // that started it
	number int       // of berths, from 1
	port   int       // where it listens
	others bool      // another berth ran beside it; guarded by leaks.mu
	files  openFiles // before it started
}

// label runs f, whose goroutines and those of the current goroutine from now on carry the berth's name.
func (m *mark) label(f func()) {
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("berth", fmt.Sprintf("%s #%d", m.test, m.number))))
	f()
}

// leaks looks at the end of each berth for what it left behind.
var leaks = &leakCheck{patience: 5 * time.Second, running: map[*berthServer]bool{}, reported: map[string]bool{}}

type leakCheck struct {
	patience time.Duration // for what ends by itself
	mu       sync.Mutex    // guards what follows
	running  map[*berthServer]bool
	crowded  bool            // tests run side by side
	count    int             // of berths that were started
	reported map[string]bool // goroutines and files that one test has failed for: no other test shall
	files    openFiles       // before the first test
}

// parallel has a test run beside others that say so, when all those that do not have run. Such a test shares no node with
// one that flushes it, kills its clients or changes its configuration, and measures nothing of the process.
func parallel(t *testing.T) {
	t.Helper()
	t.Parallel()
	leaks.mu.Lock()
	defer leaks.mu.Unlock()
	leaks.crowded = true
}

// begin remembers what is open before the first test, and has stacks show labels.
func (lc *leakCheck) begin() {
	_ = os.Setenv("GODEBUG", "tracebacklabels=1")
	lc.files = listFiles()
}

// enter is called before a berth starts.
func (lc *leakCheck) enter(b *berthServer) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	lc.count++
	b.mark = mark{test: b.t.Name(), number: lc.count, others: len(lc.running) > 0}
	for other := range lc.running {
		other.mark.others = true
	}
	lc.running[b] = true
	b.mark.files = listFiles()
}

// leave is called when a berth has stopped.
func (lc *leakCheck) leave(b *berthServer) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	delete(lc.running, b)
}

// check waits until nothing of b is left. What is left in the end is reported once.
func (lc *leakCheck) check(b *berthServer) {
	b.t.Helper()
	if left := lc.await(func() []string { return lc.leftBy(b) }); left != "" {
		b.t.Errorf("the berth of %s left behind:\n%s", b.mark.test, left)
	}
}

// end waits until nothing of any berth is left, and returns what is and was not reported.
func (lc *leakCheck) end() string {
	return lc.await(func() []string {
		return append(ourGoroutines(func(string) bool { return true }), listFiles().since(lc.files)...)
	})
}

// await asks for what is left until it is nothing, and gives up when patience ends.
func (lc *leakCheck) await(left func() []string) string {
	var found []string
	if redistest.Await(lc.patience, func() bool {
		found = slices.DeleteFunc(left(), lc.known)
		return len(found) == 0
	}) {
		return ""
	}
	lc.report(found)
	return strings.Join(found, "\n\n")
}

// known reports whether a test has failed for this goroutine or file.
func (lc *leakCheck) known(found string) bool {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	return lc.reported[identity(found)]
}

func (lc *leakCheck) report(found []string) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	for _, f := range found {
		lc.reported[identity(f)] = true
	}
}

// identity is the part of a stack or a file that stays the same: "goroutine 17", "socket:[4711]".
func identity(found string) string {
	id, _, _ := strings.Cut(found, " [")
	return id
}

// leftBy is what is left of b, and of nobody in particular if no berth runs.
func (lc *leakCheck) leftBy(b *berthServer) []string {
	lc.mu.Lock()
	nobodyRuns := len(lc.running) == 0
	alone := nobodyRuns && !b.mark.others && !lc.crowded
	lc.mu.Unlock()
	left := ourGoroutines(func(stack string) bool {
		return b.mark.owned(stack) || nobodyRuns && unowned(stack)
	})
	files := listFiles().since(b.mark.files)
	if !alone {
		files = slices.DeleteFunc(files, func(f string) bool { return !strings.Contains(f, b.mark.portWord()) })
	}
	return append(left, files...)
}

// portWord is how a file name of a socket on the berth's port says so.
func (m *mark) portWord() string { return fmt.Sprintf("port %d ", m.port) }

// owned reports whether a goroutine carries the berth's label. The label of a pool's goroutine is of whoever needed it first
// and says nothing.
func (m *mark) owned(stack string) bool {
	head, _, _ := strings.Cut(stack, "\n")
	return !unowned(stack) && strings.Contains(head, fmt.Sprintf(" #%d\"", m.number))
}

func unowned(stack string) bool {
	head, _, _ := strings.Cut(stack, "\n")
	return !strings.Contains(head, `"berth": `) ||
		strings.Contains(stack, "util/gopool.") || strings.Contains(stack, "panjf2000/ants/")
}

// ourGoroutines are the stacks of goroutines that run berth's or gnet's code and are wanted, those of tests excepted. Idle
// workers of gopool and netpoll's pollers run neither.
func ourGoroutines(wanted func(stack string) bool) []string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for _, stack := range strings.Split(string(buf), "\n\n") {
		code := strings.ReplaceAll(stack, redistestCode, "")
		ours := strings.Contains(code, "berth-proxy/berth/") || strings.Contains(code, "panjf2000/gnet")
		if ours && !strings.Contains(stack, "_test.go") && !strings.Contains(stack, "testing.(*M)") && wanted(stack) {
			left = append(left, stack)
		}
	}
	return left
}

const redistestCode = "berth-proxy/berth/backend/redistest"

// openFiles are descriptors of the process by name. A socket has a name of its own; an eventfd shares its name with others.
type openFiles map[string][]int

// listFiles lists all but those of redis-server processes, which come and go as a test likes.
func listFiles() openFiles {
	entries, _ := os.ReadDir("/proc/self/fd")
	files := openFiles{}
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil || strings.Contains(name, "redistest") || strings.Contains(name, "[pidfd]") {
			continue // err: closed meanwhile
		}
		fd, _ := strconv.Atoi(e.Name())
		files[name] = append(files[name], fd)
	}
	return files
}

// since describes what is open now and was not before.
func (now openFiles) since(before openFiles) []string {
	var left []string
	for name, fds := range now {
		if len(fds) > len(before[name]) {
			left = append(left, fmt.Sprintf("%s [%d now, %d before]%s", name, len(fds), len(before[name]), endsOf(fds[0])))
		}
	}
	return left
}

// endsOf are the ports of a TCP socket: its own, and its peer's unless it listens or has lost the peer. "" for other files.
func endsOf(fd int) string {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	ends := portOf(sa)
	if sa, err := unix.Getpeername(fd); err == nil {
		ends += "and" + portOf(sa)
	}
	return ends
}

func portOf(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf(" port %d ", sa.Port)
	case *unix.SockaddrInet6:
		return fmt.Sprintf(" port %d ", sa.Port)
	}
	return ""
}

// complaints is a test that writes down its failures.
type complaints struct {
	testing.TB
	said []string
}

func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

func TestLeakIsReportedOnceAndForItsBerth(t *testing.T) {
	node := sharedNode(t)
	x, y := startBerth(t, node.Addr()), startBerth(t, node.Addr())
	strict := &leakCheck{patience: 50 * time.Millisecond, running: map[*berthServer]bool{y: true}, reported: map[string]bool{}}
	check := func(b *berthServer) []string {
		c := &complaints{TB: t}
		strict.check(&berthServer{t: c, mark: b.mark})
		return c.said
	}

	// x leaves a goroutine that accepts clients for ever, and a copy of its listener.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepts sync.WaitGroup
	accept := (&acceptor{srv: x.srv, door: door{Listener: ln}}).run
	x.mark.label(func() { accepts.Go(accept) })
	file, err := (*x.srv.doors.Load())[0].Listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	x.Stop()

	said := check(x)
	if len(said) != 1 || strings.Count(said[0], "\ngoroutine ") != 1 || strings.Count(said[0], "socket:") != 1 ||
		!strings.Contains(said[0], "(*acceptor).run") || !strings.Contains(said[0], x.mark.portWord()) || !strings.Contains(said[0], t.Name()) {
		t.Errorf("of x's goroutine and listener is said: %q", said)
	}
	if said := check(x); len(said) != 0 {
		t.Errorf("the second time: %q", said)
	}
	file.Close()
	ln.Close()
	accepts.Wait()
	y.Stop()
	if said := check(y); len(said) != 0 {
		t.Errorf("of y is said: %q", said)
	}
}
