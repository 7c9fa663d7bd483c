package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/config"
)

// stranger is a connection from another machine.
type stranger struct{ net.Conn }

func (stranger) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 5} }

// farAddresses are the machine's addresses beyond loopback. A client that comes through one of them
// is a stranger to Redis.
func farAddresses(t *testing.T) (far []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			far = append(far, p.Addr().String())
		}
	}
	return far
}

// lastWords is all that a server says to a client before it closes the connection.
func lastWords(t *testing.T, conn net.Conn) string {
	t.Helper()
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("read: %v", err)
	}
	return string(text)
}

func TestStrangersAreKeptOutWhereNoPasswordIsAskedFor(t *testing.T) {
	overBackends(t, []string{"--bind", "0.0.0.0", "--protected-mode", "yes"}, comeAsStrangers)
}

func comeAsStrangers(t *testing.T, nodes backing) {
	b := startBerth(t, nodes.url(""), "--bind", "0.0.0.0")
	watcher := startBystander(t, b.Addr())
	for range sized(100, 20_000) {
		here, there := net.Pipe()
		go b.srv.welcome(stranger{there}, (*b.srv.doors.Load())[0].way)
		if got := lastWords(t, here); got != b.srv.deniedReply() {
			t.Fatalf("a stranger was told %q", got)
		}
	}
	for _, host := range farAddresses(t) {
		var words []string
		for _, port := range []string{strconv.Itoa(nodes[0].Port()), strings.TrimPrefix(b.Addr(), "127.0.0.1:")} {
			conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, lastWords(t, conn))
		}
		if words[0] != words[1] || !strings.HasPrefix(words[0], "-DENIED ") {
			t.Errorf("through %s: redis says %q, berth %q", host, words[0], words[1])
		}
	}
	watcher.end()
	b.set("protected-mode", "no")
	for _, host := range farAddresses(t) {
		if got := dial(t, strings.Replace(b.Addr(), "127.0.0.1", host, 1)).Do("PING"); got != "PONG" {
			t.Errorf("through %s without protected mode: %v", host, got)
		}
	}
}

func TestStrangersMayTryAPassword(t *testing.T) {
	node := redistest.Start(t, "--requirepass", "sesame")
	b := startBerth(t, "redis://:sesame@"+node.Addr(), "--bind", "0.0.0.0")
	if b.srv.protects() {
		t.Error("berth keeps strangers out of nodes that ask for a password")
	}
	for _, host := range farAddresses(t) {
		stranger := dial(t, strings.Replace(b.Addr(), "127.0.0.1", host, 1))
		if got := fmt.Sprint(stranger.Do("PING"), stranger.Do("AUTH", "sesame"), stranger.Do("PING")); got != "NOAUTH Authentication required.OKPONG" {
			t.Errorf("through %s: %s", host, got)
		}
	}
}

func TestAllOfIPv4IsNothingOfIPv6(t *testing.T) {
	for _, word := range []string{"0.0.0.0", "*"} {
		b := startBerth(t, sharedNode(t).Addr(), "--bind", word)
		for _, ln := range *b.srv.doors.Load() {
			if a := ln.Addr().(*net.TCPAddr); a.IP.To4() == nil {
				t.Errorf("--bind %s listens on %v", word, a)
			}
		}
	}
}

// Connections to the admin port that are kept open take no descriptors that clients and nodes need,
// and the port goes on answering.
func TestAdminConnectionsLockNobodyOut(t *testing.T) { overBackends(t, nil, crowdTheAdminPort) }

func crowdTheAdminPort(t *testing.T, nodes backing) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	b := startBerth(t, nodes.url(""), "--admin-port", port)
	watcher := startBystander(t, b.Addr())
	get := func(path string) (net.Conn, string) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
		status, _ := bufio.NewReader(conn).ReadString('\n')
		return conn, status
	}
	for i := range sized(300, 2500) {
		conn, status := get("/healthz")
		defer conn.Close()
		if status != "HTTP/1.1 200 OK\r\n" {
			t.Fatalf("request %d: %q", i, status)
		}
	}
	for range sized(300, 2500) { // and such as never ask
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	conn, status := get("/metrics")
	conn.Close()
	if status != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("/metrics: %q", status)
	}
	watcher.end()
}

// The log says where a password was tried in vain, and neither the password nor each try.
func TestFailedAuthenticationIsLoggedWithTheClientsAddress(t *testing.T) {
	overBackends(t, []string{"--user", "default", "on", "nopass", "~*", "+@all", "--user", "eve", "on", ">right", "~*", "+@all"}, tryPasswordsInVain)
}

func tryPasswordsInVain(t *testing.T, nodes backing) {
	path := filepath.Join(t.TempDir(), "berth.log")
	useLog(t, path, config.LevelNotice)
	b := startBerth(t, nodes.url(""))
	watcher := startBystander(t, b.Addr())
	attacker := dial(t, b.Addr())
	for range sized(500, 5000) {
		if got := fmt.Sprint(attacker.Do("AUTH", "eve", "s3cretWord")); !strings.HasPrefix(got, "WRONGPASS ") {
			t.Fatalf("AUTH: %s", got)
		}
	}
	log := readLog(t, path)
	line := fmt.Sprintf(`msg="authentication failed" addr=%s id=`, attacker.LocalAddr())
	if !strings.Contains(log, line) || !strings.Contains(log, "user=eve why=WRONGPASS") || strings.Contains(log, "s3cretWord") {
		t.Errorf("want %s in\n%s", line, log)
	}
	if n := strings.Count(log, "authentication failed"); n > 100 {
		t.Errorf("%d lines", n)
	}
	watcher.end()
}

// CONFIG SET moves berth to another port and other addresses, and says what Redis says when it
// cannot: then all stays as it was. Clients that are there stay.
func TestListenersChangeWhileRunning(t *testing.T) {
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	host, port, _ := strings.Cut(b.Addr(), ":")
	c := dial(t, b.Addr())
	taken, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, takenPort, _ := net.SplitHostPort(taken.Addr().String())
	const failed = "ERR CONFIG SET failed (possibly related to argument '%s') - %s"
	noPort := fmt.Sprintf(failed, "port", "Unable to listen on this port. Check server logs.")
	noBind := fmt.Sprintf(failed, "bind", "Failed to bind to specified addresses.")
	reaches := func(addr string) bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	for _, step := range []struct{ bind, port, want string }{
		{"192.0.2.1", port, noBind},
		{"127.0.0.2", takenPort, noBind},
		{"127.0.0.1 127.0.0.2", takenPort, noBind},
		{strings.Repeat("127.0.0.1 ", 17), port, fmt.Sprintf(failed, "bind", "Too many bind addresses specified.")},
		{"-192.0.2.1", port, noBind},   // there would be no way in
		{"* 127.0.0.1", port, noBind},  // its own addresses overlap: what was closed for it is opened again
		{"127.0.0.1", takenPort, "OK"}, // another address of the port is taken
		{"127.0.0.1", port, "OK"},      // and back
		{"*", port, "OK"},              // 127.0.0.1 is in its way
		{"127.0.0.3 -::1", port, "OK"},
	} {
		if got := text(c.Do("CONFIG", "SET", "bind", step.bind, "port", step.port)); got != step.want {
			t.Errorf("bind %s port %s: %q, want %q", step.bind, step.port, got, step.want)
		}
		if step.want != "OK" && !reaches(net.JoinHostPort(host, port)) {
			t.Errorf("bind %s port %s: nobody listens any more", step.bind, step.port)
		}
	}
	if reaches(b.Addr()) || !reaches("127.0.0.3:"+port) {
		t.Error("it listens where it was, or not where it shall")
	}
	script(t, dial(t, "127.0.0.3:"+port), "SET k 1 → OK", "CONFIG GET bind → [bind 127.0.0.3 -::1]")
	script(t, c, "GET k → 1", "CONFIG SET port "+takenPort+" bind 127.0.0.2 → "+noPort, "CONFIG SET port 0 → "+noPort,
		"CONFIG SET bind 127.0.0.1 → OK")
	if !reaches(b.Addr()) || reaches("127.0.0.3:"+port) {
		t.Error("it is not back")
	}
}

// Several addresses may come in one argument; a "-" is for an address that the machine may lack,
// not for one that another has taken.
func TestSeveralAddressesInOneArgument(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--bind", "127.0.0.1 -127.0.0.2 -192.0.2.1")
	var at []string
	for _, d := range *b.srv.doors.Load() {
		host, _, _ := net.SplitHostPort(d.Addr().String())
		at = append(at, host)
	}
	if fmt.Sprint(at) != "[127.0.0.1 127.0.0.2]" {
		t.Errorf("it listens on %v", at)
	}
	_, port, _ := net.SplitHostPort(b.Addr())
	taken, err := net.Listen("tcp", "127.0.0.3:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if got := text(dial(t, b.Addr()).Do("CONFIG", "SET", "bind", "127.0.0.1 -127.0.0.3")); !strings.HasPrefix(got, "ERR CONFIG SET failed") {
		t.Error(got)
	}
}

// The log names the right door when a client speaks TLS to a plain address, or none to one of TLS. Neither
// is kept waiting.
func TestClientsWhoMistakeADoorAreClosedAndLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	useLog(t, path, config.LevelNotice)
	b := startTLS(t, sharedNode(t).Addr())
	plain := b.Addr()
	for _, first := range []string{"PING\r\n", "*1\r\n$4\r\nPING\r\n", "GET / HTTP/1.1\r\n\r\n"} {
		c := dial(t, b.tlsAddr())
		c.WriteString(first)
		if got := c.ReadAll(); got != "" {
			t.Errorf("%q at the door of TLS: %q", first, got)
		}
	}
	for _, pieces := range [][]string{
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"}, {"\x16", "\x03", "\x01\x02\x00"}, {"\x16\x03\x03 \n\n"}, {"\x16\x03\x01 \"x\n"},
	} {
		c := dial(t, plain)
		for _, piece := range pieces {
			b.feed(c, piece)
		}
		if got := c.ReadAll(); got != "-"+errNotTLS+"\r\n" {
			t.Errorf("%q at the plain door: %q", pieces, got)
		}
	}
	if conn, err := tls.Dial("tcp", plain, b.config()); err == nil {
		conn.Close()
		t.Error("a handshake succeeds at the plain door")
	}
	log := readLog(t, path)
	for _, line := range []string{
		`why="it does not speak TLS, which is spoken at this address" door=` + b.tlsAddr() + " use=" + plain,
		`why="it speaks TLS, which is not spoken at this address" door=` + plain + " use=" + b.tlsAddr(),
		`msg="client at the wrong address" addr=127.0.0.1:`,
	} {
		if !strings.Contains(log, line) {
			t.Errorf("not in the log: %s", line)
		}
	}
	c := dial(t, plain)
	script(t, c, "PING → PONG", "\x16\x03\x01 → ERR unknown command '\x16\x03\x01', with args beginning with: ", "PING → PONG")
}
