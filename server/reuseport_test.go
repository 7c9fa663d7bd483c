package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/berth-proxy/berth/server/config"
)

// beside starts a second berth on the port of b.
func (b *berthServer) beside(t *testing.T, backend string, args ...string) (*server, error) {
	t.Helper()
	_, port, _ := net.SplitHostPort(b.Addr())
	args = append([]string{"redis://" + backend, "--port", port, "--admin-port", "0"}, args...)
	settings, _ := config.Read(args, nil, io.Discard, io.Discard)
	if settings == nil {
		t.Fatal("bad settings")
	}
	nodes, nodeCerts, err := connect(settings.Load())
	if err != nil {
		t.Fatal(err)
	}
	srv := newServer(settings, nodes, nodeCerts)
	err = srv.start()
	t.Cleanup(func() { _ = srv.shutdown(context.Background()) })
	return srv, err
}

func TestSecondStartOnAPortFailsUnlessBothShareIt(t *testing.T) {
	node := sharedNode(t).Addr()
	for _, first := range []string{"no", "yes"} {
		b := startBerth(t, node, "--reuse-port", first)
		second := map[string]string{"no": "yes", "yes": "no"}[first]
		if _, err := b.beside(t, node, "--reuse-port", second); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("reuse-port %s beside %s: %v", second, first, err)
		}
	}
	b := startBerth(t, node)
	if _, err := b.beside(t, node); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("beside one by the defaults: %v", err)
	}
}

func TestProcessesShareAPort(t *testing.T) {
	node := sharedNode(t).Addr()
	b := startBerth(t, node, "--reuse-port", "yes")
	second, err := b.beside(t, node, "--reuse-port", "yes")
	if err != nil {
		t.Fatal(err)
	}
	key := unique("shared")
	const clients = 200 // that one process gets all of so many has the odds of 200 coins that fall alike
	for i := range clients {
		c := dial(t, b.Addr())
		if got := c.Do("SET", key, strconv.Itoa(i)); got != "OK" {
			t.Fatalf("SET: %v", got)
		}
		if got := c.Do("GET", key); got != strconv.Itoa(i) {
			t.Fatalf("GET: %v", got)
		}
	}
	x, y := b.srv.accepted.Load(), second.accepted.Load()
	if x == 0 || y == 0 || x+y != clients {
		t.Errorf("%d clients with one and %d with the other, of %d", x, y, clients)
	}
}
