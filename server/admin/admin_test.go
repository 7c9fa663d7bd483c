package admin

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-proxy/berth/server/config"
)

// startAdmin serves on a free loopback port; ready is what /readyz asks.
func startAdmin(t *testing.T, ready func() error) *Endpoint {
	t.Helper()
	metrics := func(w io.Writer) { io.WriteString(w, "berth_loops_running 2\n") }
	a, err := Listen([]string{"127.0.0.1"}, 0, nil, Source{Metrics: metrics, Healthy: func() error { return nil }, Ready: ready})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func fetch(t *testing.T, url string) (status int, body string, header http.Header) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(data), res.Header
}

func TestMetricsAreServedAsPrometheusText(t *testing.T) {
	a := startAdmin(t, func() error { return nil })
	status, body, header := fetch(t, a.URL())
	if status != 200 || header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("status %d, type %s", status, header.Get("Content-Type"))
	}
	if body != "berth_loops_running 2\n" {
		t.Errorf("got\n%s", body)
	}
}

func TestReadinessFollowsTheServer(t *testing.T) {
	var reason atomic.Pointer[error]
	a := startAdmin(t, func() error {
		if why := reason.Load(); why != nil {
			return *why
		}
		return nil
	})
	base := strings.TrimSuffix(a.URL(), "/metrics")
	if status, body, _ := fetch(t, base+"/readyz"); status != 200 || body != "ok\n" {
		t.Errorf("ready: %d %q", status, body)
	}
	why := errors.New("no node of the cluster is reachable")
	reason.Store(&why)
	if status, body, _ := fetch(t, base+"/readyz"); status != 503 || body != why.Error()+"\n" {
		t.Errorf("not ready: %d %q", status, body)
	}
	if status, body, _ := fetch(t, base+"/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("healthy: %d %q", status, body)
	}
	if status, _, _ := fetch(t, base+"/nothing"); status != 404 {
		t.Errorf("an unknown path gives %d", status)
	}
}

func TestProfilesAreForThisMachineOnly(t *testing.T) {
	a := &Endpoint{source: Source{Metrics: func(io.Writer) {}, Pprof: true}}
	for _, c := range []struct {
		loopback   bool
		host, path string
		want       int
	}{
		{true, "127.0.0.1:9379", "/debug/pprof/", 200},
		{true, "localhost:9379", "/debug/pprof/goroutine", 200},
		{true, "[::1]:9379", "/debug/pprof/cmdline", 200},
		{true, "evil.example:9379", "/debug/pprof/", 403},
		{true, "10.0.0.1", "/debug/pprof/heap", 403},
		{true, "evil.example:9379", "/metrics", 403},
		{true, "localhost:9379", "/metrics", 200},
		{false, "10.0.0.1:9379", "/metrics", 200},
		{false, "127.0.0.1:9379", "/debug/pprof/", 404},
		{false, "127.0.0.1:9379", "/debug/pprof/profile", 404},
		{false, "10.0.0.1:9379", "/", 200},
	} {
		r := httptest.NewRequest("GET", c.path, nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		a.handler(c.loopback).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("loopback %v, host %s, %s: %d, want %d", c.loopback, c.host, c.path, w.Code, c.want)
		}
		if c.path == "/debug/pprof/cmdline" && w.Body.String() != "berth" {
			t.Errorf("the command line is shown: %s", w.Body)
		}
	}
}

func TestOnlyLoopbackListenersCountAsSuch(t *testing.T) {
	for host, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true, "localhost": true,
		"0.0.0.0": false, "::": false, "10.0.0.1": false, "example.org": false, "": false} {
		if got := config.IsLoopback(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestAnAdminPortInUseIsAnError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	if _, err := Listen([]string{"127.0.0.1"}, port, nil, Source{}); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
	a, err := Listen([]string{"-127.0.0.1"}, port, nil, Source{})
	if err != nil || a.URL() != "" {
		t.Errorf("an optional address that is in use: %v, URL %q", err, a.URL())
	}
}

func TestAClosedAdminEndpointLetsItsPortGo(t *testing.T) {
	a := startAdmin(t, func() error { return nil })
	addr := a.listeners[0].Addr().String()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

func TestProfilesAreServedOnlyWhenAskedFor(t *testing.T) {
	a := &Endpoint{}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/pprof/cmdline"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "localhost"
		a.handler(true).ServeHTTP(w, r)
		if w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// More connections than MaxConns: each new one takes the place of the one that has been idle for
// longest.
func TestTheOldestIdleConnectionMakesRoom(t *testing.T) {
	a := startAdmin(t, func() error { return nil })
	addr := a.listeners[0].Addr().String()
	ask := func(conn net.Conn) error {
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		return err
	}
	var conns []net.Conn
	for range 3 * MaxConns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := ask(conn); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if n := a.crowd.len(); n > MaxConns {
		t.Errorf("%d connections", n)
	}
	if _, err := conns[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the first connection is open: %v", err)
	}
	if err := ask(conns[len(conns)-1]); err != nil {
		t.Errorf("the last connection: %v", err)
	}
}

func (c *crowd) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns)
}
