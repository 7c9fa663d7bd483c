// Package clients holds no code: only tests that put client libraries and tools, as they are, in front of berth.
//
//	node/    programs for ioredis, node-redis and BullMQ; package-lock.json pins these
//	python/  programs for redis-py, Flask, aiohttp and Celery, as Debian has them
//	*_test.go  Go's own libraries, redis-cli, redis-benchmark, and what runs all of it
//
// A program is told where berth is and what to put in front of its keys; it says "ok" and nothing else when all it saw
// was right. scripts/test installs what they need.
package clients

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// patience bounds a program; none needs a tenth of it on an idle machine.
const patience = 2 * time.Minute

var binary string // berth, built for these tests

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "berth-clients-")
	if err == nil {
		binary = filepath.Join(dir, "berth")
		err = build(binary)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build berth:", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build makes berth as it is released, or with the race detector when the tests have it, too.
func build(to string) error {
	how := []string{"-tags", "poll_opt"}
	if raced() {
		how = []string{"-race"}
	}
	cmd := exec.Command("go", append(append([]string{"build"}, how...), "-o", to, "../../server")...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, said)
	}
	return nil
}

// raced tells whether this was built with -race.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// berth is a process in front of one node, of a Cluster or of its embedded backend.
type berth struct {
	host, port string
	kind       string // "node", "cluster" or "embedded"
}

func (b *berth) addr() string { return net.JoinHostPort(b.host, b.port) }

// Ports for berths lie where neither redistest nor the kernel's outgoing connections take theirs.
const (
	firstPort = 5000
	lastPort  = 10999
)

// startBerth starts berth in front of backend ("": the embedded one) and returns when it is ready. When the test is over
// berth is asked to stop; the test fails when it does not end well, or has complained.
func startBerth(t *testing.T, kind, backend string, args ...string) *berth {
	t.Helper()
	for try := 0; ; try++ {
		b := &berth{host: "127.0.0.1", port: strconv.Itoa(firstPort + rand.IntN(lastPort-firstPort+1)), kind: kind}
		line := append([]string{"--port", b.port, "--admin-port", "0"}, args...)
		if backend != "" {
			line = append([]string{backend}, line...)
		}
		said, err := b.start(t, line)
		if err == nil {
			return b
		}
		if !strings.Contains(said, "address already in use") || try == 50 {
			t.Fatalf("berth %s: %v\n%s", strings.Join(line, " "), err, said)
		}
	}
}

func (b *berth) start(t *testing.T, args []string) (said string, err error) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "berth.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	exited, err := spawn(cmd)
	if err != nil {
		t.Fatal(err)
	}
	ready, _ := bufio.NewReader(stdout).ReadString('\n')
	if !strings.HasPrefix(ready, "berth ready on "+b.addr()) {
		_ = cmd.Process.Kill()
		<-exited
		text, _ := os.ReadFile(log.Name())
		return string(text), errors.New("is not ready")
	}
	t.Cleanup(func() { b.stop(t, cmd, exited, log.Name()) })
	return "", nil
}

// spawn starts cmd from one thread that lives as long as the process: one that is to end with its parent ends with the
// thread that made it.
func spawn(cmd *exec.Cmd) (exited chan struct{}, err error) {
	dieWithParent(cmd)
	exited = make(chan struct{})
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_, _ = cmd.Process.Wait()
			close(exited)
		}
	}()
	return exited, <-started
}

// complaint is what berth does not say when all is well.
var complaint = regexp.MustCompile(`(?m)^.*(level=(WARN|ERROR)|panic|DATA RACE).*$`)

func (b *berth) stop(t *testing.T, cmd *exec.Cmd, exited chan struct{}, log string) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		t.Error("berth does not stop")
		_ = cmd.Process.Kill()
		<-exited
	}
	said, _ := os.ReadFile(log)
	if t.Failed() || complaint.Match(said) {
		t.Errorf("berth said:\n%s", said)
	}
}

// program runs a client with berth's host and port, what stands behind it, and a prefix for its keys. It fails the test
// unless the program says "ok", nothing else, and ends with success.
func (b *berth) program(t *testing.T, command ...string) {
	t.Helper()
	said := b.run(t, "", append(command, b.host, b.port, b.kind, unique(t))...)
	if said != "ok\n" {
		t.Errorf("%s: said %q instead of ok", strings.Join(command, " "), said)
	}
}

// run runs a command and returns what it prints on standard output and standard error. An exit code that is not 0 fails
// the test.
func (b *berth) run(t *testing.T, input string, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &said, &said
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%v; scripts/test installs it", err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s: not done after %s, having said\n%s", strings.Join(command, " "), patience, said.String())
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, said.String())
	}
	return said.String()
}

// unique is a prefix for keys that nothing else uses.
func unique(t *testing.T) string {
	return fmt.Sprintf("%s.%d:", regexp.MustCompile(`\W`).ReplaceAllString(t.Name(), "-"), uniques.Add(1))
}

var uniques atomic.Int64

// clusterURL is a Cluster as berth's backend.
func clusterURL(c *redistest.Cluster) string { return "redis://" + strings.Join(c.Addrs(), ",") }
