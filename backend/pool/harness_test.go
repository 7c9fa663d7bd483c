package pool

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// poolLoop stands in for an event loop: one goroutine that runs what is posted to it.
type poolLoop struct {
	tasks chan func()
	inbox *Inbox
}

func newPoolLoop(t testing.TB) *poolLoop {
	loop := &poolLoop{tasks: make(chan func(), 4096)}
	loop.inbox = NewInbox(func() { loop.tasks <- loop.inbox.Drain })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for f := range loop.tasks {
			if f == nil {
				return
			}
			f()
		}
	}()
	t.Cleanup(func() {
		loop.tasks <- nil
		<-done
	})
	return loop
}

// do runs f on the loop and waits for it.
func (loop *poolLoop) do(f func()) {
	done := make(chan struct{})
	loop.tasks <- func() {
		defer close(done)
		f()
	}
	<-done
}

type poolAnswer struct {
	lease *Lease
	err   error
}

// poolHolder notes what it is told. Its hooks, if set, run on the loop.
type poolHolder struct {
	t        testing.TB
	loop     *poolLoop
	attached chan poolAnswer
	replies  chan string
	lost     chan error
	onReply  func(l *Lease, reply []byte)
}

func newPoolHolder(t testing.TB, loop *poolLoop) *poolHolder {
	return &poolHolder{
		t: t, loop: loop,
		attached: make(chan poolAnswer, 16), replies: make(chan string, 1024), lost: make(chan error, 16),
	}
}

func (h *poolHolder) Attached(l *Lease, err error) { h.attached <- poolAnswer{l, err} }
func (h *poolHolder) LeaseLost(_ *Lease, err error) {
	h.lost <- err
}

func (h *poolHolder) LeaseReply(l *Lease, reply []byte) {
	if h.onReply != nil {
		h.onReply(l, reply)
	}
	h.replies <- string(reply)
}

// ask calls Get on the loop and returns its results.
func (h *poolHolder) ask(p *Pool, want backend.Identity) (l *Lease, w *Waiter) {
	h.loop.do(func() { l, w = p.Get(h, h.loop.inbox, want, ReasonTxn) })
	return l, w
}

// attach returns a lease, waiting for one if it must.
func (h *poolHolder) attach(p *Pool, want backend.Identity) *Lease {
	h.t.Helper()
	l, err := h.tryAttach(p, want)
	if err != nil {
		h.t.Fatalf("no lease: %v", err)
	}
	return l
}

func (h *poolHolder) tryAttach(p *Pool, want backend.Identity) (*Lease, error) {
	h.t.Helper()
	if l, _ := h.ask(p, want); l != nil {
		return l, nil
	}
	a := receive(h.t, h.attached, "an answer to Get")
	return a.lease, a.err
}

func (h *poolHolder) send(l *Lease, args ...string) {
	h.loop.do(func() {
		l.Send(codec.AppendCommandString(nil, args...), 1)
		l.Flush()
	})
}

// call sends a command and returns its reply.
func (h *poolHolder) call(l *Lease, args ...string) string {
	h.t.Helper()
	h.send(l, args...)
	return receive(h.t, h.replies, "the reply to "+args[0])
}

func (h *poolHolder) detach(l *Lease) { h.loop.do(l.Detach) }

func receive[T any](t testing.TB, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(redistest.Patience(patience)):
		t.Fatalf("%s has not come", what)
	}
	return v
}

// newTestPool returns a pool that is closed with the test. Its settings are the defaults, edited by change.
func newTestPool(t testing.TB, addr string, change func(v *Values)) (*Pool, *Settings) {
	v := DefaultValues()
	v.WaitTimeout = patience
	v.DialTimeout = patience
	if change != nil {
		change(&v)
	}
	s := NewSettings(v)
	p := userPool(addr, "", "", s)
	t.Cleanup(p.Close)
	return p, s
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	redistest.Eventually(t, patience, what, cond)
}

// scripted is a node that does what a real one does not do on demand. Each connection it accepts runs the script.
type scripted struct {
	addr string
	t    testing.TB
	mu   sync.Mutex // guards conns
	all  []*scriptedConn
}

type scriptedConn struct {
	net.Conn
	r *bufio.Reader
	n int // the how-many-eth connection this is, from 0
}

func newScripted(t testing.TB, script func(c *scriptedConn)) *scripted {
	return newScriptedOn(t, "127.0.0.1:0", script)
}

// newScriptedOn listens on an address, or the path of a unix socket: those leave no port behind in TIME_WAIT.
func newScriptedOn(t testing.TB, addr string, script func(c *scriptedConn)) *scripted {
	listener, err := net.Listen(backend.Network(addr), addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{addr: listener.Addr().String(), t: t}
	var running sync.WaitGroup
	running.Go(func() {
		for n := 0; ; n++ {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			c := &scriptedConn{Conn: nc, r: bufio.NewReader(nc), n: n}
			s.mu.Lock()
			s.all = append(s.all, c)
			s.mu.Unlock()
			running.Go(func() {
				defer c.Close()
				c.introduce()
				script(c)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		s.mu.Lock()
		for _, c := range s.all {
			c.Close()
		}
		s.mu.Unlock()
		running.Wait()
	})
	return s
}

// clientID is what the pool asks at the end of each dial.
var clientID = codec.AppendCommandString(nil, "CLIENT", "ID")

// introduce answers clientID if no command comes before it. Scripts begin after that.
func (c *scriptedConn) introduce() {
	if b, err := c.r.Peek(len(clientID)); err == nil && bytes.Equal(b, clientID) {
		_, _ = c.r.Discard(len(clientID))
		c.say(fmt.Sprintf(":%d\r\n", c.n+1))
	}
}

// read returns the next command, its words joined by blanks, or "" at the end of the connection.
func (c *scriptedConn) read() string {
	var n int
	if _, err := fmt.Fscanf(c.r, "*%d\r\n", &n); err != nil {
		return ""
	}
	words := make([]string, n)
	for i := range words {
		var size int
		if _, err := fmt.Fscanf(c.r, "$%d\r\n", &size); err != nil {
			return ""
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(c.r, word); err != nil {
			return ""
		}
		words[i] = string(word[:size])
	}
	return strings.Join(words, " ")
}

func (c *scriptedConn) say(s string) { _, _ = io.WriteString(c, s) }

// obey answers every command with +OK until the connection ends.
func (c *scriptedConn) obey() {
	for c.read() != "" {
		c.say("+OK\r\n")
	}
}

// openFiles counts the descriptors of this process.
func openFiles(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// userPool returns a pool of its own for a user of the node. Both empty is the default user without AUTH.
func userPool(addr, user, password string, settings *Settings) *Pool {
	logins := &backend.Logins{}
	if user != "" {
		logins.Accepted(user, password, false, nil)
	}
	return newPool(addr, backend.Identity{User: user}, logins, settings, newNodeLimit(settings))
}
