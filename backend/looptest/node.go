package looptest

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"
)

// Node is a node that does what the test says, connection by connection.
type Node struct {
	Ln    net.Listener
	Conns chan *NodeConn // accepted, for Accept
}

// NodeConn is the node's end of a connection.
type NodeConn struct {
	net.Conn
	R *bufio.Reader
}

// StartNode starts a node, which accepts connections until the test ends. A connection is handed out
// when its first bytes have come; PING among them is answered already.
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
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			go func() { n.Conns <- greeted(&NodeConn{c, bufio.NewReader(c)}) }()
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return n
}

// greeting is what a connection of the default user begins with.
const greeting = "*1\r\n$4\r\nPING\r\n"

// greeted lets a connection of the default user in.
func greeted(c *NodeConn) *NodeConn {
	if first, _ := c.R.Peek(len(greeting)); string(first) == greeting {
		_, _ = c.R.Discard(len(greeting))
		_, _ = c.Write([]byte("+PONG\r\n"))
	}
	return c
}

// Addr is where the node listens.
func (n *Node) Addr() string { return n.Ln.Addr().String() }

// Expect fails the test unless the next bytes are exactly want.
func (c *NodeConn) Expect(t testing.TB, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.R, got); err != nil || string(got) != want {
		t.Fatalf("the node got %q (%v), want %q", got, err, want)
	}
}

// Say writes to whoever is connected.
func (c *NodeConn) Say(t *testing.T, what string) {
	t.Helper()
	if _, err := c.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
}

// Accept returns the next connection to the node.
func Accept(t *testing.T, n *Node) *NodeConn {
	t.Helper()
	select {
	case c := <-n.Conns:
		return c
	case <-time.After(time.Minute):
		t.Fatal("nobody connects to the node")
		return nil
	}
}
