package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// setListen sets the doors, and wants a reply that begins so.
func setListen(t *testing.T, c *redistest.Conn, doors, want string) {
	t.Helper()
	if got := text(c.Do("CONFIG", "SET", "listen", doors)); !strings.HasPrefix(got, want) {
		t.Errorf("CONFIG SET listen %q: %s, want %s", doors, got, want)
	}
}

const listenFailed = "ERR CONFIG SET failed (possibly related to argument 'listen') - "

// reaches reports whether somebody listens on an address, or a path.
func reaches(addr string) bool {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, addr)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// doorway finds a door by its address.
func (b *berthServer) doorway(addr string) *doorway {
	for _, d := range *b.srv.doors.Load() {
		if d.way.name == addr {
			return d.way
		}
	}
	b.t.Fatalf("nothing listens on %s", addr)
	return nil
}

// clientFields is what PROXY CLIENTS says of a client, by name.
func clientFields(t *testing.T, c *redistest.Conn) map[string]string {
	t.Helper()
	id := fmt.Sprint(c.Do("CLIENT", "ID"))
	rows, _ := c.Do("PROXY", "CLIENTS").([]any)
	for _, row := range rows {
		fields, words := map[string]string{}, row.([]any)
		for i := 0; i+1 < len(words); i += 2 {
			fields[fmt.Sprint(words[i])] = fmt.Sprint(words[i+1])
		}
		if fields["id"] == id {
			return fields
		}
	}
	t.Fatalf("client %s is not listed", id)
	return nil
}

// headed is a client who comes with a PROXY header from 192.0.2.7.
func headed(t *testing.T, addr string) *redistest.Conn {
	t.Helper()
	c := dial(t, addr)
	c.WriteString("PROXY TCP4 192.0.2.7 192.0.2.1 4444 6379\r\n")
	return c
}

func TestDoorsSideBySideHaveTermsOfTheirOwn(t *testing.T) {
	plain, secure, headers, path := freePort(t), freePort(t), freePort(t), filepath.Join(t.TempDir(), "b.sock")
	b := startTLS(t, sharedNode(t).Addr(), "--protected-mode", "no", "--read-from", "nearest",
		"--listen", "127.0.0.1:"+plain, "read-from=prefer-replica", "maxclients=2",
		"--listen", "127.0.0.1:"+secure, "tls=yes", "proxy-protocol=127.0.0.0/8",
		"--listen", "127.0.0.1:"+headers, "proxy-protocol=127.0.0.1",
		"--listen", "unix:"+path, "perm=640", "tls=yes", "proxy-protocol=10.0.0.0/8")

	first, second := dial(t, "127.0.0.1:"+plain), dial(t, "127.0.0.1:"+plain)
	script(t, first, "PING → PONG")
	script(t, second, "PING → PONG")
	if got := dial(t, "127.0.0.1:"+plain).ReadAll(); got != "-ERR max number of clients reached\r\n" {
		t.Errorf("a third client: %q", got)
	}
	script(t, dial(t, b.Addr()), "PING → PONG") // by another door
	if got := clientFields(t, first)["door"]; got != "127.0.0.1:"+plain {
		t.Errorf("PROXY CLIENTS: door %s", got)
	}
	if got := fmt.Sprint(first.Do("CLIENT", "INFO")); !strings.Contains(got, " laddr=127.0.0.1:"+plain+" ") {
		t.Errorf("CLIENT INFO: %s", got)
	}
	first.Close()
	eventually(t, "the client to be gone", func() bool { return b.doorway("127.0.0.1:"+plain).clients.Load() == 1 })
	script(t, dial(t, "127.0.0.1:"+plain), "PING → PONG")

	c := headed(t, "127.0.0.1:"+headers)
	script(t, c, "PING → PONG")
	if got := clientFields(t, c); got["addr"] != "192.0.2.7:4444" || got["door"] != "127.0.0.1:"+headers {
		t.Errorf("PROXY CLIENTS: %v", got)
	}
	for _, addr := range []string{"127.0.0.1:" + secure, path} {
		network := map[bool]string{true: "unix", false: "tcp"}[addr == path]
		conn, err := net.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "PROXY TCP4 192.0.2.7 192.0.2.1 4444 6379\r\n")
		c := redistest.Over(t, tls.Client(conn, b.config()))
		script(t, c, "PING → PONG")
		if got := clientFields(t, c); got["addr"] != "192.0.2.7:4444" || got["door"] != addr {
			t.Errorf("PROXY CLIENTS: %v", got)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	if got := dial(t, b.Addr()).DoRaw("PROXY", "TCP4", "192.0.2.7"); !strings.HasPrefix(got, "-") {
		t.Errorf("a header at a door that takes none: %q", got)
	}
	b.mustServe(t)
}

func TestSessionReadsFromWhereItsDoorOrElseTheConfigurationSays(t *testing.T) {
	other := "127.0.0.1:" + freePort(t)
	b := startBerth(t, sharedNode(t).Addr(), "--listen", other, "read-from=any")
	byPort, byDoor := dial(t, b.Addr()), dial(t, other)
	reads := func(c *redistest.Conn) (from router.ReadFrom) {
		t.Helper()
		id, found := c.Do("CLIENT", "ID").(int64), false
		for _, l := range b.srv.eachLoop() {
			done := make(chan struct{})
			l.Post(func() {
				for s := l.first; s != nil; s = s.next {
					if s.id == id {
						from, found = s.readFrom(), true
					}
				}
				close(done)
			})
			<-done
		}
		if !found {
			t.Fatal("no such client")
		}
		return from
	}
	if p, d := reads(byPort), reads(byDoor); p != router.FromPrimary || d != router.FromAny {
		t.Errorf("%v and %v", p, d)
	}
	b.set("read-from", "replica")
	if p, d := reads(byPort), reads(byDoor); p != router.FromReplica || d != router.FromAny {
		t.Errorf("after the option has changed: %v and %v", p, d)
	}
	b.set("listen", other+" read-from=nearest")
	if p, d := reads(byPort), reads(byDoor); p != router.FromReplica || d != router.FromNearest {
		t.Errorf("after the door has changed: %v and %v", p, d)
	}
	b.set("listen", other)
	if d := reads(byDoor); d != router.FromReplica {
		t.Errorf("after the door names none: %v", d)
	}
	b.set("listen", "")
	if d := reads(byDoor); d != router.FromReplica {
		t.Errorf("after the door is closed: %v", d)
	}
}

func TestDoorsChangeWhileRunning(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	admin := dial(t, b.Addr())
	one, two, three := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t), "127.0.0.2:"+freePort(t)
	dir := t.TempDir()
	path, file := filepath.Join(dir, "b.sock"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy, err := net.Listen("unix", filepath.Join(dir, "busy"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()

	setListen(t, admin, one+" "+two+" maxclients=1 unix:"+path, "OK")
	byTwo, byPath := dial(t, two), dial(t, path)
	script(t, byTwo, "PING → PONG")
	script(t, byPath, "PING → PONG")
	ways := fmt.Sprintf("%p %p %p", b.doorway(one), b.doorway(two), b.doorway(path))
	for doors, want := range map[string]string{
		three + " 192.0.2.1:7380":                         "listen tcp4 192.0.2.1:7380: bind: cannot assign requested address",
		three + " " + taken.Addr().String():               "listen tcp4 " + taken.Addr().String() + ": bind: address already in use",
		three + " " + three:                               "the address " + three + " is given twice",
		three + " " + b.Addr() + " tls=no":                "the address " + b.Addr() + " is given twice",
		three + " tls=yes":                                errNoTLS,
		three + " color=red":                              "unknown key; the keys are",
		three + " unix:" + file:                           "listen unix " + file + ": a file that is no socket is in the way",
		three + " unix:" + dir + "/busy":                  "listen unix " + dir + "/busy: address already in use",
		three + " unix:" + dir + "/no/b.sock":             "listen unix " + dir + "/no/b.sock: bind: no such file or directory",
		three + " unix:" + path + " perm=600 192.0.2.1:1": "listen tcp4 192.0.2.1:1: bind: cannot assign requested address",
		three + " 127.0.0.1":                              "the address " + b.Addr() + " is given twice",
	} {
		setListen(t, admin, doors, listenFailed+want)
		if reaches(three) || !reaches(one) {
			t.Errorf("%s: the doors have changed", doors)
		}
		if now := fmt.Sprintf("%p %p %p", b.doorway(one), b.doorway(two), b.doorway(path)); now != ways {
			t.Errorf("%s: the doors are others", doors)
		}
	}
	script(t, admin, "CONFIG GET listen → [listen "+one+" "+two+" maxclients=1 unix:"+path+"]")
	script(t, byTwo, "PING → PONG")
	if text, err := os.ReadFile(file); string(text) != "precious" {
		t.Errorf("the file that is no socket: %q, %v", text, err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() == 0o600 {
		t.Error("the socket has the mode of a change that was refused")
	}
	was, _ := os.Stat(path)

	setListen(t, admin, two+" maxclients=2 unix:"+path+" perm=600", "OK")
	if reaches(one) {
		t.Error("a door that is gone takes a client")
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v", info.Mode())
	}
	second := dial(t, two)
	script(t, second, "PING → PONG")
	if got := dial(t, two).ReadAll(); !strings.HasPrefix(got, "-ERR max number") {
		t.Errorf("a third client: %q", got)
	}
	setListen(t, admin, two+" unix:"+path, "OK")
	if info, _ := os.Stat(path); info.Mode() != was.Mode() {
		t.Errorf("the socket has mode %v, and had %v", info.Mode(), was.Mode())
	}
	_, port, _ := net.SplitHostPort(two)
	setListen(t, admin, "0.0.0.0:"+port, "OK") // 127.0.0.1 is in its way
	if !reaches("127.0.0.3:"+port) || reaches(path) {
		t.Error("it listens where it was, or not where it shall")
	}
	setListen(t, admin, "0.0.0.0:"+port+" 127.0.0.1:"+port, listenFailed)
	setListen(t, admin, "127.0.0.1:"+port+" 127.0.0.9:"+port+" 192.0.2.1:"+port, listenFailed) // what was closed for it is opened again
	if !reaches("127.0.0.3:" + port) {
		t.Error("it does not listen any more")
	}
	setListen(t, admin, "", "OK")
	script(t, admin, "CONFIG GET listen → [listen ]")
	for _, c := range []*redistest.Conn{byTwo, byPath, second} {
		script(t, c, "PING → PONG")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestPortMayGoWhenADoorIsThere(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	admin, other := dial(t, b.Addr()), "127.0.0.1:"+freePort(t)
	if got := text(admin.Do("CONFIG", "SET", "port", "0")); !strings.HasPrefix(got, "ERR CONFIG SET failed") {
		t.Error(got)
	}
	script(t, admin, "CONFIG SET port 0 listen "+other+" → OK", "PING → PONG")
	if reaches(b.Addr()) || !reaches(other) {
		t.Error("it does not listen on the door alone")
	}
	setListen(t, admin, "", listenFailed+errNoDoor.Error())
	// What was port's address may be a door's, and the listener stays.
	script(t, admin, "CONFIG SET listen "+b.Addr()+" → OK")
	way := b.doorway(b.Addr())
	_, port, _ := net.SplitHostPort(b.Addr())
	if got := text(admin.Do("CONFIG", "SET", "port", port)); !strings.HasPrefix(got, "ERR CONFIG SET failed (possibly related to argument 'port')") {
		t.Error(got)
	}
	if got := text(admin.Do("CONFIG", "SET", "port", port, "listen", "")); got != "OK" || b.doorway(b.Addr()) != way {
		t.Errorf("%s, or another listener", got)
	}
}

func TestClientsStayWhileDoorsComeAndGoUnderLoad(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	stays, goes := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	b.set("listen", stays+" "+goes)
	var clients sync.WaitGroup
	var stop atomic.Bool
	for i := range 8 {
		c := dial(t, []string{stays, goes}[i%2])
		script(t, c, "PING → PONG") // berth has accepted it: closing a door resets those who wait there
		clients.Go(func() {
			for n := 0; !stop.Load(); n++ {
				if got, err := c.TryDo("ECHO", fmt.Sprint(n)); err != nil || got != fmt.Sprint(n) {
					t.Errorf("client %d: %v, %v", i, got, err)
					return
				}
			}
		})
	}
	for range 4 { // newcomers, by the door that stays
		clients.Go(func() {
			for !stop.Load() {
				c, err := redistest.TryDial(t, stays)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := c.TryDo("PING"); err != nil || got != "PONG" {
					t.Errorf("a newcomer: %v, %v", got, err)
				}
				c.Close()
			}
		})
	}
	way := b.doorway(stays)
	for i := range sized(50, 500) {
		b.set("listen", stays+" maxclients="+fmt.Sprint(100+i))
		b.set("listen", stays+" read-from=any "+goes+" maxclients=50")
	}
	if b.doorway(stays) != way {
		t.Error("the door that stays is another")
	}
	stop.Store(true)
	clients.Wait()
}

func TestDoorsOwnMaxclientsIsOfThoseWhoHaveEndedTheirHandshake(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	b := startTLS(t, sharedNode(t).Addr(), "--listen", addr, "tls=yes", "maxclients=1")
	b.port = addr[len("127.0.0.1:"):]
	for range 5 {
		slow := b.raw(t)
		if _, err := slow.Write([]byte("\x16\x03\x01")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the handshakes to be under way", func() bool { return b.srv.greetings.look().Now == 5 })
	c := b.client(t)
	script(t, c, "PING → PONG")
	if conn, err := b.enter(b.config()); err == nil {
		conn.Close()
		t.Error("one too many was let in")
	}
	b.set("listen", "") // while they shake hands
	script(t, c, "PING → PONG")
	c.Close()
	b.awaitClients(t, 0)
}

func TestDoorsAreCountedByAddress(t *testing.T) {
	port := freePort(t)
	b := startBerth(t, sharedNode(t).Addr(), "--listen", "0.0.0.0:"+port, "--listen", "127.0.0.1:"+freePort(t))
	for range 3 {
		script(t, dial(t, "127.0.0.1:"+port), "PING → PONG")
	}
	var seen []string
	for _, d := range b.srv.look(0).Status().Doors {
		seen = append(seen, fmt.Sprint(d.Clients))
	}
	if got := strings.Join(seen, " "); got != "0 3 0" {
		t.Errorf("clients by door: %s", got)
	}
}

// Out of descriptors, a change is refused, and what was there stays.
func TestDoorsStayWhenThereAreNoDescriptors(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	other := "127.0.0.1:" + freePort(t)
	b.set("listen", other)
	admin := dial(t, b.Addr())
	script(t, admin, "PING → PONG")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 10 // of which all are taken
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(other)
	got := text(admin.Do("CONFIG", "SET", "listen", other+" 127.0.0.9:"+port))
	instead := text(admin.Do("CONFIG", "SET", "listen", "0.0.0.0:"+port))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{got, instead} {
		if !strings.HasPrefix(got, listenFailed) || !strings.Contains(got, "too many open files") {
			t.Error(got)
		}
	}
	if c := dial(t, other); c.Do("PING") != "PONG" {
		t.Error("the door is gone")
	}
}
