package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// relay is a row of berths, each of which takes over from the one before.
type relay struct {
	t                *testing.T
	addr, unix, next string // of clients, and the take-over-socket
	readyz           string
	args             []string
	now              *passed
}

func startRelay(t *testing.T, node *redistest.Server, args ...string) *relay {
	t.Helper()
	dir, port, admin := t.TempDir(), freePort(t), freePort(t)
	r := &relay{t: t, addr: "127.0.0.1:" + port, unix: filepath.Join(dir, "b.sock"), next: filepath.Join(dir, "next")}
	r.readyz = "http://127.0.0.1:" + admin + "/readyz"
	r.args = append([]string{"redis://" + node.Addr(), "--port", port, "--unixsocket", r.unix, "--admin-port", admin,
		"--take-over-socket", r.next, "--loops", "1", "--shutdown-timeout", "20"}, args...)
	r.now = r.start(r.args...)
	return r
}

func (r *relay) start(args ...string) *passed {
	return runProcess(r.t, exec.Command(os.Args[0], args...))
}

// replace has another berth take over, with other options beside, and returns the one before when it
// has ended.
func (r *relay) replace(args ...string) (before *passed) {
	r.t.Helper()
	before = r.now
	r.now = r.start(append([]string{"--take-over"}, append(r.args, args...)...)...)
	if got := r.now.output(); !strings.Contains(got, "berth ready on ") {
		r.t.Fatalf("the successor: %s", got)
	}
	<-before.done
	if code := before.cmd.ProcessState.ExitCode(); code != 0 {
		r.t.Errorf("the berth before ended with %d:\n%s", code, before.output())
	}
	return before
}

// visitors come, ask one thing and go, one after another.
type visitors struct {
	sync.WaitGroup
	stop                          atomic.Bool
	tried, refused, reset, others atomic.Int64
	wrong                         findings
}

func (v *visitors) start(n int, dial func() (net.Conn, error)) {
	for range n {
		v.Go(func() {
			for !v.stop.Load() {
				v.tried.Add(1)
				switch err := visit(dial); {
				case err == nil:
				case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
					v.refused.Add(1)
					v.wrong.add("%v", err)
				case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
					v.reset.Add(1)
					v.wrong.add("%v", err)
				default:
					v.others.Add(1)
					v.wrong.add("%v", err)
				}
			}
		})
	}
}

func visit(dial func() (net.Conn, error)) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "+PONG\r\n" {
		err = fmt.Errorf("the reply is %q", line)
	}
	return err
}

// watchReadiness asks the admin endpoint, over a connection of its own each time.
func (v *visitors) watchReadiness(url string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	v.Go(func() {
		for !v.stop.Load() {
			v.tried.Add(1)
			resp, err := client.Get(url)
			if err != nil {
				v.others.Add(1)
				v.wrong.add("%s: %v", url, err)
				continue
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				v.others.Add(1)
				v.wrong.add("%s: %d %s", url, resp.StatusCode, text)
			}
		}
	})
}

func TestSuccessorTakesOverWithoutARefusedClient(t *testing.T) {
	ca := redistest.NewAuthority(t)
	pair, tlsPort := ca.Issue(t, "berth.example", "127.0.0.1"), freePort(t)
	r := startRelay(t, sharedNode(t), "--tls-port", tlsPort, "--tls-cert-file", pair.CertPath, "--tls-key-file", pair.KeyPath, "--tls-auth-clients", "no")
	var v visitors
	v.start(8, func() (net.Conn, error) { return net.Dial("tcp", r.addr) })
	v.start(2, func() (net.Conn, error) { return net.Dial("unix", r.unix) })
	v.start(2, func() (net.Conn, error) {
		return tls.Dial("tcp", "127.0.0.1:"+tlsPort, &tls.Config{RootCAs: ca.Pool()})
	})
	v.watchReadiness(r.readyz)
	times := sized(3, 20)
	for i := range times {
		r.replace("--loops", strconv.Itoa(1+i%2))
	}
	v.stop.Store(true)
	v.Wait()
	v.wrong.none(t, "visits that failed while berths took over")
	figure(t, "%d take-overs: %d visits, %d refused, %d reset, %d other failures",
		times, v.tried.Load(), v.refused.Load(), v.reset.Load(), v.others.Load())
	if info, err := os.Stat(r.next); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("take-over-socket: %v, %v", info, err)
	}
	r.now.stop()
	for _, path := range []string{r.unix, r.next} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s stays behind the last berth: %v", path, err)
		}
	}
}

// A client that is never idle stays with its berth. One that is idle goes to the successor.
func TestBusyClientsStayWithABerthThatWasReplaced(t *testing.T) {
	r := startRelay(t, sharedNode(t))
	idle := dial(t, r.addr)
	script(t, idle, "PING → PONG")
	key := unique("busy")
	var busy sync.WaitGroup
	var stop atomic.Bool
	var done atomic.Int64
	for range 4 {
		c := dial(t, r.addr)
		busy.Go(func() {
			for !stop.Load() {
				if got, err := c.TryDo("INCR", key); err != nil {
					t.Errorf("a busy client: %v, %v", got, err)
					return
				}
				done.Add(1)
			}
			c.Close()
		})
	}
	ended := make(chan *passed)
	go func() { ended <- r.replace() }()
	if _, err := idle.TryRecv(); !errors.Is(err, io.EOF) {
		t.Errorf("the idle client: %v", err)
	}
	after := done.Load()
	eventually(t, "the busy clients to go on", func() bool { return done.Load() > after+1000 || t.Failed() })
	stop.Store(true)
	busy.Wait()
	<-ended
	script(t, dial(t, r.addr), "GET "+key+" → "+fmt.Sprint(done.Load()))
}

func TestClientsGoOnUntilTheirBerthHasBeenReplaced(t *testing.T) {
	r := startRelay(t, sharedNode(t))
	blocked, watching := dial(t, r.addr), dial(t, r.addr)
	key := unique("relay")
	script(t, watching, "WATCH "+key+" → OK", "MULTI → OK", "SET "+key+" 1 → QUEUED")
	blocked.Send("BLPOP", unique("none"), "0")
	ended := make(chan *passed)
	go func() { ended <- r.replace() }()
	if got := blocked.Recv(); got != nil {
		t.Errorf("the blocked client: %v", got)
	}
	script(t, dial(t, r.addr), "PING → PONG") // of the successor
	script(t, watching, "EXEC → [OK]")
	before := <-ended
	for _, words := range []string{"a berth starts to take over", "taken over"} {
		if !strings.Contains(before.output(), words) {
			t.Errorf("the berth before does not say %q:\n%s", words, before.output())
		}
	}
}

func TestSuccessorThatFailsChangesNothing(t *testing.T) {
	r := startRelay(t, sharedNode(t))
	client := dial(t, r.addr)
	script(t, client, "PING → PONG")
	other, _ := net.Listen("tcp", "127.0.0.1:0")
	defer other.Close()
	_, taken, _ := net.SplitHostPort(other.Addr().String())
	dead := slices.Clone(r.args)
	dead[0] = "redis://127.0.0.1:1"
	for _, c := range []struct {
		args []string
		want string
	}{
		{dead, "connection refused"},
		{[]string{"--maxclients", "none"}, "maxclients"},
		{[]string{"--listen", "127.0.0.1:" + taken}, "address already in use"},
		{[]string{"--admin-port", taken}, "address already in use"},
		{[]string{"--take-over-socket", r.next + "x"}, "no berth to take over from"},
		{[]string{"--take-over-socket", ""}, "it needs the take-over-socket"},
	} {
		args := c.args
		if len(args) < len(r.args) {
			args = slices.Concat(r.args, args)
		}
		p := r.start(append([]string{"--take-over"}, args...)...)
		<-p.done
		if got := p.output(); p.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(got, c.want) {
			t.Errorf("%v: %d\n%s", c.args, p.cmd.ProcessState.ExitCode(), got)
		}
		script(t, client, "PING → PONG")
		script(t, dial(t, r.addr), "PING → PONG")
		script(t, dial(t, r.unix), "PING → PONG")
	}
	r.replace()
}

// One at a time takes over, and none that says something else.
func TestOnlyOneSuccessorAtATime(t *testing.T) {
	r := startRelay(t, sharedNode(t))
	ask := func(words string) net.Conn {
		conn, err := net.Dial("unix", r.next)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, words)
		return conn
	}
	odd := ask("hello\n")
	if text, _ := io.ReadAll(odd); len(text) > 0 {
		t.Errorf("an odd word: %q", text)
	}
	odd.Close()
	first := ask(askSockets)
	if _, err := first.Read(make([]byte, 1)); err != nil { // it has its answer
		t.Fatal(err)
	}
	second := ask(askSockets)
	if text, _ := io.ReadAll(second); !strings.Contains(string(text), "takes over already") {
		t.Errorf("the second: %q", text)
	}
	second.Close()
	first.Close()
	eventually(t, "the first to have given up", func() bool { return strings.Contains(r.now.output(), "it has not become ready") })
	r.replace()
}

// As a service manager has it: berth starts its successor itself, and says which process it is.
func TestSignalHasBerthReplacedByItsProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	hears := func(want string) (found []string) {
		t.Helper()
		var b [4096]byte
		_ = manager.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := manager.Read(b[:])
		found = regexp.MustCompile(want).FindStringSubmatch(string(b[:n]))
		if err != nil || found == nil {
			t.Fatalf("%q, %v; want %s", b[:n], err, want)
		}
		return found
	}
	t.Setenv("NOTIFY_SOCKET", path)
	r := startRelay(t, sharedNode(t))
	hears(`^READY=1\n`)
	_ = r.now.cmd.Process.Signal(syscall.SIGUSR2)
	successor, _ := strconv.Atoi(hears(`^MAINPID=(\d+)$`)[1])
	<-r.now.done
	hears(`^READY=1\n`)
	script(t, dial(t, r.addr), "PING → PONG")
	if err := syscall.Kill(successor, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	hears(`^STOPPING=1\nEXTEND_TIMEOUT_USEC=25000000$`)
	eventually(t, "the successor to have ended", func() bool { return syscall.Kill(successor, 0) != nil })
}

// A rotation of the log must not undo what CONFIG SET has changed, as SIGHUP does.
func TestSIGUSR1OpensTheLogAgainAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	file, log := filepath.Join(dir, "conf"), filepath.Join(dir, "log")
	if err := os.WriteFile(file, []byte("timeout 300\nlogfile "+log+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := startRelay(t, sharedNode(t), file)
	c := dial(t, r.addr)
	script(t, c, "CONFIG SET timeout 77 → OK")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	_ = r.now.cmd.Process.Signal(syscall.SIGUSR1)
	eventually(t, "the log to be opened again", func() bool { _, err := os.Stat(log); return err == nil })
	script(t, c, "CONFIG GET timeout → [timeout 77]")
}

// The mode of the file keeps others out; if that is changed, berth asks who they are.
func TestOtherUsersDoNotTakeOver(t *testing.T) {
	if os.Geteuid() != 0 { // only root can be somebody else
		return
	}
	r := startRelay(t, sharedNode(t))
	const nobody = 65534
	dir := filepath.Dir(r.next)
	for path, mode := range map[string]os.FileMode{r.next: 0o666, dir: 0o755, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("redis-cli", "-s", r.next, "PING")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("another user is answered %q", out)
	}
	eventually(t, "berth to say who it was", func() bool { return strings.Contains(r.now.output(), "it is user 65534") })
	r.replace()
}

// A signal stops the berth before while its successor starts: the successor serves at all its places.
func TestBerthThatStopsLeavesItsPathsToTheSuccessor(t *testing.T) {
	r := startRelay(t, sharedNode(t))
	var next predecessor
	if err := next.meet(r.next); err != nil {
		t.Fatal(err)
	}
	defer next.conn.Close()
	_ = r.now.cmd.Process.Signal(syscall.SIGTERM)
	<-r.now.done
	for _, path := range []string{r.unix, r.next} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		c.Close()
	}
	for _, d := range next.doors {
		d.Close()
	}
	for _, ln := range append(next.admin, next.next) {
		ln.Close()
	}
}
