package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A berth that is its own backend does not start.
func TestBerthWhoseBackendIsItselfIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.sock")
	port := freePort(t)
	for _, args := range [][]string{
		{"redis://127.0.0.1:" + port, "--listen", "127.0.0.1:" + port},
		{"redis://localhost:" + port, "--listen", "*:" + port},
		{"redis://127.0.0.1:1,127.0.0.1:" + port, "--listen", "127.0.0.1:" + port},
		{"unix://" + path, "--unixsocket", path},
	} {
		b := &berthServer{t: t}
		err := b.start(args)
		for errors.Is(err, syscall.EADDRINUSE) { // the port that start has chosen
			err = b.start(args)
		}
		if err == nil {
			b.Stop()
		}
		if want := " is an address of this berth itself"; err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
	// Another one has the same port elsewhere, or does not answer yet.
	startBerth(t, "redis://127.0.0.2:"+port, "--listen", "127.0.0.1:"+port)
}

// A berth before a berth is allowed. INFO names both, and is one berth's.
func TestBerthMayStandBeforeABerth(t *testing.T) {
	parallel(t)
	front := startBerth(t, startBerth(t, redistest.Start(t).Addr()).Addr())
	c := dial(t, front.Addr())
	script(t, c, "SET k v → OK", "GET k → v", "INCR n → 1", "MULTI → OK", "GET k → QUEUED", "EXEC → [v]", "WATCH k → OK", "UNWATCH → OK")
	info := fmt.Sprint(c.Do("INFO", "server"))
	if !regexp.MustCompile(`\r\nberth_chain:\w+,\w+\r\n`).MatchString(info) || strings.Count(info, "berth_version:") != 1 || strings.Count(info, "go_version:") != 1 {
		t.Errorf("INFO: %s", info)
	}
	if !front.srv.nodes.Ready() {
		t.Error(front.srv.nodes.Health().Err)
	}
}
