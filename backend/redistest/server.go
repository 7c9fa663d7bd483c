package redistest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds how long a server may take until it answers PING; see
// Patience. It is generous because tests of several packages share two cores.
const startTimeout = 20 * time.Second

// errPortTaken says that somebody else listens where a server wanted to.
var errPortTaken = errors.New("port is taken")

// Server is one redis-server process. Its methods may be called from several
// goroutines, but Kill, Stop and Restart from one at a time.
type Server struct {
	bin  string
	dir  string
	args []string // what the test gave, behind the base settings
	pass string   // requirepass of args, used by Do
	conf string   // its configuration file, which a Sentinel must have; "": none
	port *reservedPort

	mu   sync.Mutex // guards proc
	proc *process   // the process that runs now, or the last one that did
}

// process is one run of redis-server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once the process is gone and reaped
}

// Start starts a redis-server on a free port of 127.0.0.1 and returns when it
// answers PING. args are redis.conf settings as command line options
// ("--maxclients", "100") and win over the base settings: no persistence, data
// in t.TempDir. The process is killed in t.Cleanup. Without an installed
// redis-server the test fails.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, false, args, nil)
}

// start is Start; with busPort also the cluster bus port (port + 10000) is free. setUp is called
// before the process is started.
func start(t testing.TB, busPort bool, args []string, setUp func(*Server)) *Server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("redistest: redis-server is not installed; install it with "+
			"`apt-get install redis-server redis-tools` or run scripts/test (%v)", err)
	}
	s := &Server{bin: bin, dir: t.TempDir(), args: args, pass: argValue(args, "--requirepass")}
	if setUp != nil {
		setUp(s)
	}
	t.Cleanup(func() {
		s.Kill()
		if s.port != nil {
			s.port.release()
		}
		if t.Failed() {
			t.Logf("redis-server %s said:\n%s", s.Addr(), s.logTail(25))
		}
	})
	for try := 0; ; try++ {
		if s.port, err = reservePort(busPort); err != nil {
			t.Fatalf("redistest: %v", err)
		}
		err = s.launch()
		if err == nil {
			return s
		}
		// Between our look at the port and redis-server's bind a stranger took it.
		if !errors.Is(err, errPortTaken) || try == 20 {
			t.Fatalf("redistest: start redis-server: %v\n%s", err, s.logTail(25))
		}
		s.port.release()
	}
}

// Addr returns "127.0.0.1:port".
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.Port()) }

// Port returns the TCP port; Restart keeps it.
func (s *Server) Port() int {
	if s.port == nil {
		return 0
	}
	return s.port.number
}

// Dir returns the directory the server works in.
func (s *Server) Dir() string { return s.dir }

// PID returns the process id of the current, or last, process.
func (s *Server) PID() int { return s.current().cmd.Process.Pid }

// Kill ends the process as kill -9 does and returns when it is gone. Killing a
// server that is not running does nothing.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

// Stop asks the process to shut down (SIGTERM) and returns when it is gone. It
// is killed when it does not go within ten seconds.
func (s *Server) Stop() {
	if !s.signal(syscall.SIGTERM) {
		s.Kill()
	}
}

// Pause freezes the process (SIGSTOP): its sockets stay open and nothing
// answers. Resume lets it go on.
func (s *Server) Pause() { _ = s.current().cmd.Process.Signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() { _ = s.current().cmd.Process.Signal(syscall.SIGCONT) }

// Restart kills the server if it runs and starts it again with the same
// arguments on the same port in the same directory.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	deadline := time.Now().Add(Patience(startTimeout))
	for {
		err := s.launch()
		if err == nil {
			return
		}
		// The port is reserved, but a connection that just ended may hold it for a moment.
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			t.Fatalf("redistest: restart redis-server %s: %v\n%s", s.Addr(), err, s.logTail(25))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Do runs one command on a connection of its own, authenticated when the
// server was started with --requirepass, and returns its reply as Conn.Recv
// does. A network error fails the test.
func (s *Server) Do(t testing.TB, args ...any) any {
	t.Helper()
	c := Dial(t, s.Addr())
	defer c.Close()
	if s.pass != "" {
		if err, failed := c.Do("AUTH", s.pass).(Error); failed {
			t.Fatalf("redistest: AUTH at %s: %v", s.Addr(), err)
		}
	}
	return c.Do(args...)
}

// Log returns everything the server has logged so far, over all its restarts.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "redistest.log") }

func (s *Server) logTail(lines int) string {
	all := strings.Split(strings.TrimSpace(s.Log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// signal sends sig and waits up to ten seconds for the end; false: still there.
func (s *Server) signal(sig syscall.Signal) bool {
	p := s.current()
	if p == nil {
		return true
	}
	_ = p.cmd.Process.Signal(sig) // fails only when the process is gone already
	select {
	case <-p.exited:
		return true
	case <-time.After(10 * time.Second):
		return false
	}
}

// launch starts a process and returns when it answers PING.
func (s *Server) launch() error {
	p, err := spawn(s.bin, s.commandLine(), s.dir, s.logFile())
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	begin := time.Now()
	if err := s.waitAnswers(p); err != nil {
		s.Kill()
		return err
	}
	measure(time.Since(begin))
	return nil
}

func (s *Server) commandLine() []string {
	if s.conf != "" {
		return append([]string{s.conf, "--port", strconv.Itoa(s.Port())}, s.args...)
	}
	base := []string{
		"--port", strconv.Itoa(s.Port()), "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--protected-mode", "no",
	}
	return append(base, s.args...)
}

// spawn starts the process. Its parent is one locked thread that lives as long
// as the process: a child told to die with its parent dies with the *thread*
// that forked it.
func spawn(bin string, args []string, dir, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	dieWithParent(cmd)
	p := &process{cmd: cmd, exited: make(chan struct{})}
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
	return p, nil
}

// waitAnswers returns nil once the server answers and proves to be p, and
// errPortTaken when p could not listen.
func (s *Server) waitAnswers(p *process) error {
	deadline := time.Now().Add(Patience(startTimeout))
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		select {
		case <-p.exited:
			if strings.Contains(s.logTail(10), "Address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("redis-server ended: %v", p.cmd.ProcessState)
		case <-time.After(pause):
		}
		err := s.ping(p)
		if err == nil || errors.Is(err, errPortTaken) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer to PING within %s: %w", Patience(startTimeout), err)
		}
	}
}

// ping asks once. A server that wants a password is up; one that still loads is not.
func (s *Server) ping(p *process) error {
	nc, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return err
	}
	c := newConn(nil, nc)
	c.SetTimeout(2 * time.Second)
	defer c.Close()
	reply, err := c.TryDo("PING")
	if err != nil {
		return err
	}
	if e, failed := reply.(Error); failed {
		if strings.HasPrefix(string(e), "NOAUTH") {
			return nil
		}
		return e
	}
	info, err := c.TryDo("INFO", "server")
	if err != nil {
		return err
	}
	if text, ok := info.(string); ok && !strings.Contains(text, fmt.Sprintf("process_id:%d\r\n", p.cmd.Process.Pid)) {
		return errPortTaken
	}
	return nil
}

// argValue returns the value behind the last name in args, or "".
func argValue(args []string, name string) string {
	value := ""
	for i := 0; i+1 < len(args); i++ {
		if args[i] == name {
			value = args[i+1]
		}
	}
	return value
}
