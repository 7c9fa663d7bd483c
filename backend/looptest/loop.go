package looptest

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend"
)

// Loop is one event loop of gnet's without clients, and a backend.Loop.
type Loop struct {
	gnet.BuiltinEventEngine
	client *gnet.Client
	el     gnet.EventLoop
	Flush  []func()              // run after each turn in which Wake was called
	Set    *backend.LinkSettings // of the loop's pipes and feeds
	Ahead  time.Duration         // how far the loop's clock is ahead of the time
	woken  bool                  // Flush is posted
}

// socket is what a pipe and a feed are to their loop.
type socket interface {
	Opened(c gnet.Conn)
	Traffic()
	Closed(c gnet.Conn, err error)
}

func (l *Loop) Enter() int64 { return l.Now() }

func (l *Loop) After() {}

func (l *Loop) Now() int64 { return time.Now().Add(l.Ahead).UnixNano() }

// Enroll gives the loop a connected socket and passes the socket's events to owner.
func (l *Loop) Enroll(conn net.Conn, owner any) error {
	enrolled, err := l.el.Enroll(gnet.NewContext(context.Background(), owner), conn)
	if err != nil {
		_ = conn.Close()
		return err
	}
	return (<-enrolled).Err
}

func (l *Loop) Wake() {
	if !l.woken {
		l.woken = true
		l.Post(func() {
			l.woken = false
			for _, flush := range l.Flush {
				flush()
			}
		})
	}
}

func (l *Loop) Post(f func()) {
	_ = l.el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error { f(); return nil }))
}

func (l *Loop) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	switch x := c.Context().(type) {
	case socket:
		x.Opened(c)
	case func(gnet.Conn):
		x(c)
	}
	return nil, gnet.None
}

func (l *Loop) OnTraffic(c gnet.Conn) gnet.Action {
	if x, ok := c.Context().(socket); ok {
		x.Traffic()
	}
	return gnet.None
}

func (l *Loop) OnClose(c gnet.Conn, err error) gnet.Action {
	if x, ok := c.Context().(socket); ok {
		x.Closed(c, err)
	}
	return gnet.None
}

// Do runs f on the loop and waits for it.
func (l *Loop) Do(f func()) {
	done := make(chan struct{})
	l.Post(func() { f(); close(done) })
	<-done
}

// Start starts a loop, which ends with the test.
func Start(t testing.TB) *Loop {
	t.Helper()
	l := &Loop{Set: &backend.LinkSettings{}}
	l.Set.SetDialTimeout(2 * time.Second)
	var err error
	if l.client, err = gnet.NewClient(l, gnet.WithNumEventLoop(1)); err != nil {
		t.Fatal(err)
	}
	if err := l.client.Start(); err != nil {
		t.Fatal(err)
	}
	// gnet does not say which loops there are: a first socket finds it out.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.EnrollContext(conn, func(c gnet.Conn) { l.el = c.EventLoop() }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Set.EndDials()
		_ = l.client.Stop()
	})
	return l
}
