package clients

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/backend/redistest"
)

// terminal is a program at a terminal and the text that it has printed there.
type terminal struct {
	t    *testing.T
	keys *os.File
	done chan error // the program has ended

	mu    sync.Mutex // guards shown
	shown bytes.Buffer
	seen  int           // bytes of the text that expect has matched
	more  chan struct{} // signals new text
}

// openTerminal starts a program at a new terminal.
func openTerminal(t *testing.T, command ...string) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(keys.Fd())
	must := func(what string, err error) {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("unlock the terminal", unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	must("size of the terminal", unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200}))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must("number of the terminal", err)
	screen, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must("open the terminal", err)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = screen, screen, screen
	cmd.Env = append(os.Environ(), "TERM=xterm", "HOME="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must("start", cmd.Start())
	_ = screen.Close()
	x := &terminal{t: t, keys: keys, done: make(chan error, 1), more: make(chan struct{}, 1)}
	go x.watch()
	go func() { x.done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = keys.Close()
	})
	return x
}

// watch reads the screen until the program has ended.
func (x *terminal) watch() {
	var chunk [4096]byte
	for {
		n, err := x.keys.Read(chunk[:])
		x.mu.Lock()
		x.shown.Write(chunk[:n])
		x.mu.Unlock()
		select {
		case x.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// control is what moves the cursor and colours the text.
var control = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

// text is what has been shown.
func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return control.ReplaceAllString(x.shown.String(), "")
}

// expect waits until a pattern has been shown behind the last one.
func (x *terminal) expect(pattern string) {
	x.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	late := time.After(10 * time.Second)
	for {
		text := x.text()
		if at := re.FindStringIndex(text[x.seen:]); at != nil {
			x.seen += at[1]
			return
		}
		select {
		case <-x.more:
		case <-late:
			x.t.Fatalf("the terminal does not show %q; it shows\n%s", pattern, text[x.seen:])
		}
	}
}

// enter types a line at the prompt and waits for its echo and the patterns.
func (x *terminal) enter(line string, patterns ...string) {
	x.t.Helper()
	x.expect(`[\d)]> `)        // the prompt, which ends with the address or (TX)
	for _, key := range line { // one key at a time, because redis-cli shows a hint after each
		_, _ = x.keys.WriteString(string(key))
	}
	x.expect(regexp.QuoteMeta(line))
	_, _ = x.keys.WriteString("\r")
	for _, p := range patterns {
		x.expect(p)
	}
}

func TestRedisCliIsServedAtATerminal(t *testing.T) {
	onEachTransport(t, func(t *testing.T, on transport) {
		over := map[string]string{"node": "redis://" + redistest.Start(t).Addr(), "cluster": clusterURL(redistest.StartCluster(t, 3, 0)), "embedded": ""}
		for kind, backend := range over {
			b := startBerth(t, on, kind, backend)
			for _, protocol := range []string{"-2", "-3"} {
				t.Run(kind+" "+protocol, func(t *testing.T) {
					x := openTerminal(t, append([]string{"redis-cli", protocol}, b.reach()...)...)
					x.enter("set a 1", `^OK\r$`)
					x.enter("get a", `^"1"\r$`)
					x.enter("mget a b c", `^1\) "1"\r$`, `^2\) \(nil\)\r$`)
					x.enter("nosuch a", `^\(error\) ERR unknown command 'nosuch', with args beginning with: 'a' \r$`)
					x.enter("multi", `^OK\r$`)
					x.enter("incr a", `^QUEUED\r$`)
					x.enter("exec", `^1\) \(integer\) 2\r$`)
					x.enter("HELP GETEX", `^ +GETEX key`, `^ +summary: Get the value of a key and optionally set its expiration\r+$`)
					x.enter("HELP @string", `^ +APPEND key value\r+$`, `^ +summary: Append a value to a key\r+$`, `^ +SUBSTR key start end\r+$`)
					x.enter("exit")
					select {
					case err := <-x.done:
						want(t, "exit", err, nil)
					case <-time.After(patience):
						t.Error("redis-cli does not exit")
					}
				})
			}
		}
	})
}
