//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a proxy or a node that bench started and will end.
type process struct {
	cmd    *exec.Cmd
	log    string        // path of the file with its output
	exited chan struct{} // closed once it is gone and reaped
}

// running holds all processes that bench must end before it exits.
var running struct {
	sync.Mutex // guards all
	all        map[*process]bool
}

// spawn starts a program with its output in dir/name.log. The kernel kills the program when bench
// dies, even if bench itself is killed. To be exact, the kernel kills the program when the thread
// that forked it ends, so one locked thread forks the program and waits for it.
func spawn(dir, name, bin string, args ...string) (*process, error) {
	path, err := exec.LookPath(bin)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, log: log.Name(), exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	running.Lock()
	defer running.Unlock()
	if running.all == nil {
		running.all = map[*process]bool{}
	}
	running.all[p] = true
	return p, nil
}

// pid returns the process id.
func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process and returns once it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if the process is gone already
	select {
	case <-p.exited:
	case <-time.After(3 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	running.Lock()
	defer running.Unlock()
	delete(running.all, p)
}

// ended reports whether the process is gone. It waits a moment, because the sockets of a process
// that ends close before the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	case <-time.After(200 * time.Millisecond):
		return false
	}
}

// stopAll ends all processes that still run.
func stopAll() {
	running.Lock()
	var left []*process
	for p := range running.all {
		left = append(left, p)
	}
	running.Unlock()
	for _, p := range left {
		p.stop()
	}
}

// said returns the last lines of the process' output, for an error message.
func (p *process) said() string {
	b, _ := os.ReadFile(p.log)
	lines := strings.Split(string(bytes.TrimSpace(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// awaitAnswer returns once the address answers PING with anything but LOADING.
func (p *process) awaitAnswer(addr string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		last := answersPing(addr)
		if last == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended:\n%s", p.cmd.Path, p.said())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer at %s: %w\n%s", p.cmd.Path, addr, last, p.said())
		}
	}
}

// errLoading is returned by answersPing when a server still loads its data.
var errLoading = errors.New("still loading")

// answersPing returns nil if the address answers PING with anything but LOADING.
func answersPing(addr string) error {
	c, err := dialControl(addr)
	if err != nil {
		return err
	}
	defer c.close()
	reply, err := c.do("PING")
	if err == nil && strings.HasPrefix(string(reply.Str), "LOADING") {
		return errLoading
	}
	return err
}

// freePorts asks the kernel for n free ports.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close() // after all are found, so that they differ
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// moduleRoot returns the directory of go.mod, where berth is built.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == os.DevNull {
		return "", errors.New("not inside berth's repository; pass a berth binary with -berth")
	}
	return filepath.Dir(file), nil
}

// buildBerth builds berth as it is released and returns the binary's path.
func buildBerth(dir string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "berth")
	build := exec.Command("go", "build", "-tags", "poll_opt", "-o", bin, "./server")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build berth: %w\n%s", err, out)
	}
	return bin, nil
}
