package looptest

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"
)

// Node is a node that does what a test says, connection by connection.
type Node struct {
	Ln    net.Listener
	Conns chan *NodeConn
}

type NodeConn struct {
	net.Conn
	R *bufio.Reader
}

func StartNode(t testing.TB) *Node {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Ln: ln, Conns: make(chan *NodeConn, 16)}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			n.Conns <- &NodeConn{c, bufio.NewReader(c)}
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return n
}

func (n *Node) Addr() string { return n.Ln.Addr().String() }

// Expect reads exactly these bytes.
func (c *NodeConn) Expect(t testing.TB, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.R, got); err != nil || string(got) != want {
		t.Fatalf("the node got %q (%v), want %q", got, err, want)
	}
}

func (c *NodeConn) Say(t *testing.T, what string) {
	t.Helper()
	if _, err := c.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
}

func Accept(t *testing.T, n *Node) *NodeConn {
	t.Helper()
	select {
	case c := <-n.Conns:
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("nobody connects to the node")
		return nil
	}
}
