// Package clients contains only tests, which run unchanged client libraries and tools against
// berth.
//
//	node/      programs for ioredis, node-redis and BullMQ; package-lock.json pins their versions
//	python/    programs for redis-py, Flask, aiohttp and Celery, in the versions of Debian
//	*_test.go  tests of Go libraries, redis-cli and redis-benchmark, and what runs the programs
//
// The arguments of a program are berth's address, the kind of its backend, a prefix for keys, and
// files for TLS: the certificate of berth's authority, the client's certificate and its key, "" for
// none. A program prints only "ok" if all replies were correct. scripts/test installs everything that
// the programs need.
//
// With BERTH_TEST_TLS=yes all clients speak TLS: once 1.2, and once 1.3 with certificates of their own.
package clients

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
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
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// patience limits how long a program may run. On an idle machine none needs a tenth of it.
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

// build builds berth as it is released. If the tests use the race detector, berth uses it too.
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

// raced reports whether the tests were built with -race.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// berth is a process of berth with one node, a Cluster or its embedded backend.
type berth struct {
	host, port string
	kind       string // "node", "cluster" or "embedded"

	ca, cert, key string      // what programs need for TLS, as files; "" for none
	tls           *tls.Config // what Go libraries need; nil: no TLS
}

// addr returns "host:port".
func (b *berth) addr() string { return net.JoinHostPort(b.host, b.port) }

// These ports are used neither by redistest nor by the kernel for outgoing connections.
const (
	firstPort = 5000
	lastPort  = 10999
)

// startBerth starts berth for a backend ("": the embedded one) and returns once berth is ready.
// After the test it stops berth. The test fails if berth does not stop or has logged a warning or
// an error.
func startBerth(t *testing.T, on transport, kind, backend string) *berth {
	t.Helper()
	for try := 0; ; try++ {
		b := &berth{host: "127.0.0.1", port: strconv.Itoa(firstPort + rand.IntN(lastPort-firstPort+1)), kind: kind}
		line := append(on.secure(t, b), "--admin-port", "0")
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

// start starts berth once. If berth is not ready, start returns berth's log and an error.
func (b *berth) start(t *testing.T, args []string) (said string, err error) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "berth.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stderr = log
	// berth takes variables of this name for options, and warns of those of tests.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "BERTH_") })
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
		return string(text), errors.New("not ready")
	}
	t.Cleanup(func() { b.stop(t, cmd, exited, log.Name()) })
	return "", nil
}

// spawn starts cmd from a thread that lives as long as the process. The kernel kills a child that
// should die with its parent when the thread that started it ends.
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

// complaint matches lines that berth must not log.
var complaint = regexp.MustCompile(`(?m)^.*(level=(warning|ERROR)|panic|DATA RACE).*$`)

// stop ends berth and checks its log.
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
		t.Errorf("berth's log:\n%s", said)
	}
}

// program runs a client program with its arguments. It fails the test unless the program succeeds and
// prints only "ok".
func (b *berth) program(t *testing.T, command ...string) {
	t.Helper()
	said := b.run(t, "", append(command, b.host, b.port, b.kind, unique(t), b.ca, b.cert, b.key)...)
	if said != "ok\n" {
		t.Errorf("%s: printed %q instead of ok", strings.Join(command, " "), said)
	}
}

// run runs a command and returns its standard output and standard error. It fails the test if the
// exit code is not 0.
func (b *berth) run(t *testing.T, input string, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &said, &said
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%v; scripts/test installs it", err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s: not finished after %s; output:\n%s", strings.Join(command, " "), patience, said.String())
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, said.String())
	}
	return said.String()
}

// unique returns a prefix for keys that no other test uses.
func unique(t *testing.T) string {
	return fmt.Sprintf("%s.%d:", regexp.MustCompile(`\W`).ReplaceAllString(t.Name(), "-"), uniques.Add(1))
}

var uniques atomic.Int64

// clusterURL returns the URL of a Cluster for berth.
func clusterURL(c *redistest.Cluster) string { return "redis://" + strings.Join(c.Addrs(), ",") }
