package backend_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/looptest"
)

// ending is gnet's handler of two loops. It reports which loops there are, and when one has ended.
type ending struct {
	gnet.BuiltinEventEngine
	opened chan gnet.EventLoop
	ended  chan gnet.EventLoop
}

func (e *ending) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	e.opened <- c.EventLoop()
	return nil, gnet.None
}

func (e *ending) OnClose(c gnet.Conn, _ error) gnet.Action {
	e.ended <- c.EventLoop()
	return gnet.None
}

// endedLoop is a backend.Loop that gives sockets to a loop of gnet's and runs what is posted at
// once.
type endedLoop struct {
	backend.Loop
	gnetLoop gnet.EventLoop
}

func (l endedLoop) Post(f func()) { f() }

func (l endedLoop) Enroll(conn net.Conn, owner any) error {
	enrolled, err := l.gnetLoop.Enroll(gnet.NewContext(context.Background(), owner), conn)
	if err != nil {
		return err
	}
	return (<-enrolled).Err
}

func TestDialIntoALoopThatHasEndedIsRefused(t *testing.T) {
	node := looptest.StartNode(t)
	e := &ending{opened: make(chan gnet.EventLoop, 2), ended: make(chan gnet.EventLoop, 2)}
	client, err := gnet.NewClient(e, gnet.WithNumEventLoop(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	var loops [2]gnet.EventLoop
	for i := range loops { // gnet gives a socket to the loop that has the fewest
		conn, err := net.Dial("tcp", node.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Enroll(conn); err != nil {
			t.Fatal(err)
		}
		loops[i] = <-e.opened
	}
	if loops[0] == loops[1] {
		t.Fatal("both sockets are on one loop")
	}

	// One loop is held, so gnet does not know yet that it is shut down when the other loop has
	// ended.
	held := make(chan struct{})
	_ = loops[1].Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		<-held
		return nil
	}))
	var links backend.LinkSettings
	links.SetDialTimeout(10 * time.Second)
	stopped := make(chan struct{})
	go func() {
		links.EndDials()
		_ = client.Stop()
		close(stopped)
	}()
	if ended := <-e.ended; ended != loops[0] {
		t.Fatal("the loop that is held has ended")
	}

	dialled := make(chan error, 1)
	links.Dial(endedLoop{gnetLoop: loops[0]}, node.Addr(), nil, func(err error) { dialled <- err })
	select {
	case err := <-dialled:
		if !errors.Is(err, backend.ErrShutdown) {
			t.Errorf("Dial: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Dial waits for a loop that has ended")
	}
	close(held)
	<-stopped
}
