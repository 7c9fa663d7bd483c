package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// runsBerth is the environment variable that has the test binary be berth.
const runsBerth = "BERTH_TEST_RUNS_BERTH"

// passed is a berth in a process of its own; pass gives it sockets as systemd does.
type passed struct {
	t    *testing.T
	cmd  *exec.Cmd
	said string // file of its output
	done chan struct{}
}

// pass starts berth with sockets. names are those of LISTEN_FDNAMES.
func pass(t *testing.T, sockets []*os.File, names, pid string, args ...string) *passed {
	t.Helper()
	line := append([]string{"-c", "LISTEN_PID=" + pid + ` exec "$0" "$@"`, os.Args[0], "redis://" + sharedNode(t).Addr()}, args...)
	cmd := exec.Command("sh", append(line, "--admin-port", "0", "--loops", "1")...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(sockets)), "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = sockets
	return runProcess(t, cmd)
}

// runProcess starts berth in a process of its own, and returns when it is ready or has ended.
func runProcess(t *testing.T, cmd *exec.Cmd) *passed {
	t.Helper()
	p := &passed{t: t, cmd: cmd, said: filepath.Join(t.TempDir(), "berth.log"), done: make(chan struct{})}
	out, err := os.Create(p.said)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Env = append(cmd.Environ(), runsBerth+"=yes")
	cmd.Stdout, cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("berth said:\n%s", p.output())
		}
	})
	eventually(t, "berth to be ready, or to end", func() bool {
		select {
		case <-p.done:
			return true
		default:
			return strings.Contains(p.output(), "berth ready on ")
		}
	})
	return p
}

func (p *passed) output() string {
	text, _ := os.ReadFile(p.said)
	return string(text)
}

// stop ends berth as SIGTERM does.
func (p *passed) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
}

// socketOf is a descriptor of a listener, and its address.
func socketOf(t *testing.T, network, addr string) (*os.File, string) {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	if u, isUnix := ln.(*net.UnixListener); isUnix {
		u.SetUnlinkOnClose(false)
	}
	f, err := ln.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	t.Cleanup(func() { f.Close() })
	return f, ln.Addr().String()
}

func TestPassedSocketsAreDoors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.sock")
	byPort, portAddr := socketOf(t, "tcp4", "127.0.0.1:0")
	byListen, listenAddr := socketOf(t, "tcp4", "0.0.0.0:0")
	plain, plainAddr := socketOf(t, "tcp6", "[::1]:0")
	secure, secureAddr := socketOf(t, "tcp4", "127.0.0.1:0")
	unix, _ := socketOf(t, "unix", path)
	b := &tlsBerth{ca: redistest.NewAuthority(t)}
	pair := b.ca.Issue(t, "berth.example", "127.0.0.1")
	_, port, _ := net.SplitHostPort(portAddr)
	_, listenPort, _ := net.SplitHostPort(listenAddr)
	files := []string{"--tls-cert-file", pair.CertPath, "--tls-key-file", pair.KeyPath, "--tls-auth-clients", "no"}
	p := pass(t, []*os.File{byPort, byListen, plain, secure, unix}, "a:b:c:tls:d", "$$", slices.Concat(files, []string{
		"--port", port, "--listen", "*:" + listenPort, "maxclients=1", "--listen", "unix:" + path, "perm=600"})...)

	admin := dial(t, portAddr)
	script(t, admin, "PING → PONG")
	one := dial(t, "127.0.0.1:"+listenPort)
	script(t, one, "PING → PONG")
	if got := dial(t, "127.0.0.1:"+listenPort).ReadAll(); !strings.HasPrefix(got, "-ERR max number") {
		t.Errorf("one too many for the door of the passed socket: %q", got)
	}
	script(t, dial(t, plainAddr), "PING → PONG")
	script(t, dial(t, path), "PING → PONG")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	b.port = strings.TrimPrefix(secureAddr, "127.0.0.1:")
	secured := b.client(t)
	script(t, secured, "PING → PONG")

	// Changes leave them as they are, with the terms that were said last.
	other := freePort(t)
	script(t, admin, "CONFIG SET port "+other+" → OK", "CONFIG SET bind 127.0.0.2 → OK")
	if got := text(admin.Do("CONFIG", "SET", "listen", "")); got != "OK" {
		t.Error(got)
	}
	for _, addr := range []string{portAddr, plainAddr, path, "127.0.0.2:" + other} {
		script(t, dial(t, addr), "PING → PONG")
	}
	if got := dial(t, "127.0.0.1:"+listenPort).ReadAll(); !strings.HasPrefix(got, "-ERR max number") {
		t.Errorf("one too many, when nothing is said of the door any more: %q", got)
	}
	script(t, b.client(t), "PING → PONG")

	p.stop()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the passed unix socket: %v", err)
	}
	if ln, err := net.FileListener(byPort); err != nil {
		t.Error(err)
	} else if conn, err := net.Dial("tcp", portAddr); err != nil {
		t.Errorf("the passed socket does not listen any more: %v", err)
	} else {
		conn.Close()
		ln.Close()
	}
}

func TestPassedSocketOfBothFamiliesServesBoth(t *testing.T) {
	dual, addr := socketOf(t, "tcp", "[::]:0")
	_, port, _ := net.SplitHostPort(addr)
	pass(t, []*os.File{dual}, "", "$$", "--bind", "*", "::*", "--port", port)
	for _, host := range []string{"127.0.0.1", "::1"} {
		script(t, dial(t, net.JoinHostPort(host, port)), "PING → PONG")
	}
	again := pass(t, []*os.File{dual}, "", "$$", "--port", port) // 127.0.0.1, which is another address
	want := "bind: address already in use; systemd has passed a socket of [::]:" + port
	if got := again.output(); !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
	pass(t, []*os.File{dual}, "", "$$", "--port", "0") // it alone
}

func TestSocketsOfAnotherProcessAreNotTaken(t *testing.T) {
	f, addr := socketOf(t, "tcp4", "127.0.0.1:0")
	p := pass(t, []*os.File{f}, "", "1", "--port", freePort(t))
	if got := p.output(); strings.Contains(got, addr) || !strings.Contains(got, "berth ready on ") {
		t.Error(got)
	}
	p = pass(t, []*os.File{f}, "", "1", "--port", "0")
	if got := p.output(); !strings.Contains(got, "there is nothing to listen on") {
		t.Error(got)
	}
}

func TestSocketsThatAreNoListenersAreRefused(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	datagrams, _ := udp.(*net.UDPConn).File()
	defer datagrams.Close()
	conn, err := net.Dial("tcp", sharedNode(t).Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	connected, _ := conn.(*net.TCPConn).File()
	defer connected.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ln, _ := socketOf(t, "tcp4", "127.0.0.1:0")
	for _, f := range []*os.File{datagrams, connected, file} {
		p := pass(t, []*os.File{ln, f}, "a:b", "$$", "--port", "0")
		if got, want := p.output(), `berth: descriptor 4 that systemd has passed ("b"): it is no listening stream socket`+"\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	p := pass(t, []*os.File{ln}, "a", "$$ LISTEN_FDS=x", "--port", "0")
	if got := p.output(); got != "berth: LISTEN_FDS is no number of sockets\n" {
		t.Error(got)
	}
	p = pass(t, []*os.File{ln}, "a", "$$ LISTEN_FDS=9999", "--port", "0")
	if got := p.output(); !strings.HasPrefix(got, "berth: descriptor ") {
		t.Error(got)
	}
}

func TestWhatSystemdSaysIsForgotten(t *testing.T) {
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		t.Setenv(name, "1")
	}
	if doors, err := takePassed(); doors != nil || err != nil {
		t.Errorf("of another process: %v, %v", doors, err)
	}
	for _, word := range os.Environ() {
		if strings.HasPrefix(word, "LISTEN_") {
			t.Error(word)
		}
	}
}
