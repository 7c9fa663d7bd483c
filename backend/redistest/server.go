package redistest

import (
	"cmp"
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

// Server is one redis-server. Several goroutines may call its methods at the same time, except
// Kill, Stop and Restart.
type Server struct {
	bin  string
	dir  string
	args []string // arguments of the test, after the base settings
	pass string   // --requirepass of args, which Do uses
	conf string   // path of the configuration file, which a Sentinel needs; "": none
	port *reservedPort

	tlsPort int // where it speaks TLS to others; 0: it does not

	mu   sync.Mutex // guards proc
	proc *process   // the current process, or the last one
}

// process is one run of redis-server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once the process is gone and reaped
}

// startTimeout limits how long a server may take to answer PING; see Patience. It is long because
// tests of several packages share a few cores.
const startTimeout = 20 * time.Second

// errPortTaken is returned by launch if another process listens on the server's port.
var errPortTaken = errors.New("the port is taken")

// Start starts a redis-server on a free port of 127.0.0.1 and returns once it answers PING. args
// are redis.conf settings as command line options ("--maxclients", "100"). They override the base
// settings: no persistence, data in t.TempDir. t.Cleanup kills the process. The test fails if
// redis-server is not installed. The environment variable BERTH_TEST_SERVER names another program
// to start: that of another version, or of Valkey.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, false, args, nil)
}

// program is the path of the server that tests start.
func program() (string, error) {
	return exec.LookPath(cmp.Or(os.Getenv("BERTH_TEST_SERVER"), "redis-server"))
}

// isBefore7 reports whether tests start a Redis 6, which does not know all settings.
var isBefore7 = sync.OnceValue(func() bool {
	bin, err := program()
	if err != nil {
		return false // the start of a server tells why
	}
	version, _ := exec.Command(bin, "--version").Output()
	return strings.Contains(string(version), " v=6.")
})

// start is Start with two additions. If busPort is set, the cluster bus port (port + 10000) is free
// too. If setUp is not nil, start calls it before the process starts.
func start(t testing.TB, busPort bool, args []string, setUp func(*Server)) *Server {
	t.Helper()
	bin, err := program()
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
			t.Logf("log of redis-server %s:\n%s", s.Addr(), s.logTail(25))
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
		// Another process took the port after we checked it and before redis-server bound it.
		if !errors.Is(err, errPortTaken) || try == 20 {
			t.Fatalf("redistest: start redis-server: %v\n%s", err, s.logTail(25))
		}
		s.port.release()
	}
}

// Addr returns "127.0.0.1:port".
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.Port()) }

// Port returns the TCP port, which Restart does not change.
func (s *Server) Port() int {
	if s.port == nil {
		return 0
	}
	return s.port.number
}

// LinkAddr is where others than the test reach the server: "127.0.0.1:port", with the port for TLS if
// it has one.
func (s *Server) LinkAddr() string { return "127.0.0.1:" + strconv.Itoa(s.linkPort()) }

func (s *Server) linkPort() int { return cmp.Or(s.tlsPort, s.Port()) }

// PID returns the process id of the current process, or of the last one.
func (s *Server) PID() int { return s.current().cmd.Process.Pid }

// Kill ends the process as kill -9 does and returns once it is gone. It does nothing if the server
// does not run.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

// Stop asks the process to shut down (SIGTERM) and returns once it is gone. It kills a process that
// does not end within ten seconds.
func (s *Server) Stop() {
	if !s.signal(syscall.SIGTERM) {
		s.Kill()
	}
}

// Pause stops the process (SIGSTOP): its sockets stay open, but it does not answer until Resume.
func (s *Server) Pause() { _ = s.current().cmd.Process.Signal(syscall.SIGSTOP) }

// Resume continues the process after Pause.
func (s *Server) Resume() { _ = s.current().cmd.Process.Signal(syscall.SIGCONT) }

// Restart kills the server if it runs. It starts the server again with the same arguments, port and
// directory.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	deadline := time.Now().Add(Patience(startTimeout))
	for {
		err := s.launch()
		if err == nil {
			return
		}
		// The port is reserved, but a connection that has just ended may use it for a moment.
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			t.Fatalf("redistest: restart redis-server %s: %v\n%s", s.Addr(), err, s.logTail(25))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Do runs one command on a new connection and returns its reply as Conn.Recv does. The connection
// is authenticated if the server has a --requirepass. A network error fails the test.
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

// log returns everything the server has logged since its first start.
func (s *Server) log() string {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// logFile returns the path of the server's log.
func (s *Server) logFile() string { return filepath.Join(s.dir, "redistest.log") }

// logTail returns the last lines of the log.
func (s *Server) logTail(lines int) string {
	all := strings.Split(strings.TrimSpace(s.log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// current returns the current process, or the last one.
func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// signal sends sig and waits up to ten seconds for the process to end. It returns false if the
// process has not ended.
func (s *Server) signal(sig syscall.Signal) bool {
	p := s.current()
	if p == nil {
		return true
	}
	_ = p.cmd.Process.Signal(sig) // fails only if the process is gone already
	select {
	case <-p.exited:
		return true
	case <-time.After(10 * time.Second):
		return false
	}
}

// launch starts a process and returns once it answers PING.
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

// commandLine returns the arguments of redis-server.
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

// spawn starts the process from a locked thread that lives as long as the process. The kernel kills
// a child that should die with its parent when the thread that forked it ends.
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

// waitAnswers returns nil once process p answers PING. It returns errPortTaken if p could not
// listen or if another process answers.
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

// ping sends PING once and returns nil if process p answers. A server that asks for a password is
// up. A server that still loads its data is not.
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

// argValue returns the value after the last name in args, or "".
func argValue(args []string, name string) string {
	value := ""
	for i := 0; i+1 < len(args); i++ {
		if args[i] == name {
			value = args[i+1]
		}
	}
	return value
}
