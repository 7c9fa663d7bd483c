package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// tlsBerth is a berth with a port for clients that speak TLS.
type tlsBerth struct {
	*berthServer
	ca   *redistest.Authority
	pair *redistest.Pair // berth's
	port string
}

// startTLS is startBerth with a TLS port, whose clients need no certificate.
func startTLS(t testing.TB, backend string, args ...string) *tlsBerth {
	t.Helper()
	b := &tlsBerth{ca: redistest.NewAuthority(t), port: freePort(t)}
	b.pair = b.ca.Issue(t, "berth.example", "127.0.0.1")
	base := []string{"--tls-port", b.port, "--tls-cert-file", b.pair.CertPath, "--tls-key-file", b.pair.KeyPath,
		"--tls-ca-cert-file", b.ca.Path, "--tls-handshake-timeout", "60"}
	if !hasFlag(args, "--tls-auth-clients") {
		base = append(base, "--tls-auth-clients", "no")
	}
	b.berthServer = startBerth(t, backend, append(base, args...)...)
	return b
}

// tlsAddr is where clients go that speak TLS.
func (b *tlsBerth) tlsAddr() string { return "127.0.0.1:" + b.port }

// config is that of a client that trusts berth.
func (b *tlsBerth) config() *tls.Config {
	return &tls.Config{RootCAs: b.ca.Pool(), ServerName: "berth.example"}
}

// enter connects a client that speaks TLS.
func (b *tlsBerth) enter(config *tls.Config) (*tls.Conn, error) {
	dialer := &net.Dialer{Timeout: redistest.Patience(10 * time.Second)}
	return tls.DialWithDialer(dialer, "tcp", b.tlsAddr(), config)
}

// dialTLS is dial for a client that speaks TLS.
func (b *tlsBerth) dialTLS(t testing.TB, config *tls.Config) *redistest.Conn {
	t.Helper()
	conn, err := b.enter(config)
	if err != nil {
		t.Fatalf("enter: %v", err)
	}
	return redistest.Over(t, conn)
}

// client is dialTLS for one that has nothing special.
func (b *tlsBerth) client(t testing.TB) *redistest.Conn {
	t.Helper()
	return b.dialTLS(t, b.config())
}

// raw is a client that does not speak TLS, on the port for those who do.
func (b *tlsBerth) raw(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", b.tlsAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// mustBeClosed reads until berth has closed a connection, and returns what it said before.
func mustBeClosed(t *testing.T, what string, conn net.Conn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(redistest.Patience(10 * time.Second)))
	said, err := io.ReadAll(conn)
	if err, ok := err.(net.Error); ok && err.Timeout() {
		t.Errorf("%s: still open", what)
	}
	return string(said)
}

// mustServe has a new client served.
func (b *tlsBerth) mustServe(t *testing.T) {
	t.Helper()
	c := b.client(t)
	script(t, c, "PING → PONG")
	c.Close()
}

var tlsVersions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

func TestClientsSpeakTLS(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	for name, version := range tlsVersions {
		t.Run(name, func(t *testing.T) {
			config := b.config()
			config.MinVersion, config.MaxVersion = version, version
			converseOverTLS(t, func() *redistest.Conn { return b.dialTLS(t, config) })
		})
	}
	b.awaitClients(t, 0)
}

// converseOverTLS has clients do what there is to do: plain commands, pipelines, transactions, blocking, messages and long values.
func converseOverTLS(t *testing.T, dial func() *redistest.Conn) {
	k := unique("tls")
	c, other := dial(), dial()
	defer c.Close()
	defer other.Close()
	script(t, c, "SET "+k+" 1 → OK", "INCR "+k+" → 2", "GET "+k+" → 2", "NOSUCH → ERR unknown command 'NOSUCH', with args beginning with: ")
	script(t, c, "WATCH "+k+" → OK", "MULTI → OK", "INCR "+k+" → QUEUED", "GET "+k+" → QUEUED", "EXEC → [3 3]")
	script(t, c, "WATCH "+k+" → OK")
	script(t, other, "SET "+k+" 5 → OK")
	script(t, c, "MULTI → OK", "INCR "+k+" → QUEUED", "EXEC → <nil>", "GET "+k+" → 5")

	var commands []string
	for i := range 2000 {
		commands = append(commands, fmt.Sprintf("SET %s.%d %d", k, i%50, i), fmt.Sprintf("GET %s.%d", k, i%50))
	}
	sent := make(chan error, 1)
	go func() { sent <- c.TryWrite([]byte(pipeline(commands...))) }()
	for i := range 2000 {
		if set, get := c.Recv(), c.Recv(); set != "OK" || get != strconv.Itoa(i) {
			t.Fatalf("pair %d of a pipeline: %v, %v", i, set, get)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}

	c.Send("BLPOP", k+".list", "0")
	script(t, other, "PING → PONG")
	if got := other.Do("RPUSH", k+".list", "x"); got != int64(1) {
		t.Errorf("RPUSH: %v", got)
	}
	if got := fmt.Sprint(c.Recv()); got != "["+k+".list x]" {
		t.Errorf("BLPOP: %s", got)
	}

	if got := fmt.Sprint(c.Do("SUBSCRIBE", k)); got != "[subscribe "+k+" 1]" {
		t.Errorf("SUBSCRIBE: %s", got)
	}
	script(t, other, "PUBLISH "+k+" hello → 1")
	if got := fmt.Sprint(c.Recv()); got != "[message "+k+" hello]" {
		t.Errorf("a message: %s", got)
	}
	if got := fmt.Sprint(c.Do("UNSUBSCRIBE", k)); got != "[unsubscribe "+k+" 0]" {
		t.Errorf("UNSUBSCRIBE: %s", got)
	}

	mustCarry(t, c, k+".long", 10<<20)
	script(t, c, "DEL "+k+".long → 1", "QUIT → OK")
	if got := c.ReadAll(); got != "" {
		t.Errorf("after QUIT: %q", got)
	}
}

// mustCarry sets a long value and gets it back.
func mustCarry(t *testing.T, c *redistest.Conn, key string, size int) {
	t.Helper()
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(i*7 + i>>13)
	}
	if got := c.Do("SET", key, value); got != "OK" {
		t.Fatalf("SET of %d bytes: %v", size, got)
	}
	if got, ok := c.Do("GET", key).(string); !ok || got != string(value) {
		t.Errorf("GET of %d bytes brought %d, or others", size, len(got))
	}
}

func TestClientListShowsClientsOfTLS(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	c := b.client(t)
	list := text(c.Do("CLIENT", "LIST"))
	if !strings.Contains(list, " addr="+c.LocalAddr()+" laddr="+b.tlsAddr()+" ") {
		t.Errorf("%s at %s is not in %q", c.LocalAddr(), b.tlsAddr(), list)
	}
	killer := dial(t, b.Addr())
	script(t, killer, "CLIENT KILL ADDR "+c.LocalAddr()+" → 1")
	if got := c.ReadAll(); got != "" {
		t.Errorf("a killed client: %q", got)
	}
}

// The kernel may bring the end of a handshake and the first requests at once.
func TestWordsThatComeWithTheEndOfTheHandshakeAreAnswered(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	for name, test := range map[string]struct{ say, want string }{
		"a request":     {"PING\r\n", "+PONG\r\n"},
		"many":          {strings.Repeat("PING\r\n", 3000), strings.Repeat("+PONG\r\n", 3000)},
		"the last one":  {"PING\r\nQUIT\r\n", "+PONG\r\n+OK\r\n"},
		"no request":    {"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		"of a node":     {"GET nothing\r\n", "$-1\r\n"},
		"the end alone": {"", ""},
	} {
		for _, ends := range []bool{false, true} {
			sock := &heldSocket{Conn: b.raw(t)}
			c := tls.Client(sock, b.config())
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, test.say); err != nil {
				t.Fatal(err)
			}
			if ends || test.say == "" {
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			_ = sock.Conn.SetWriteDeadline(time.Time{}) // CloseWrite sets one
			if _, err := sock.Conn.Write(sock.kept); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(redistest.Patience(10 * time.Second)))
			got := make([]byte, len(test.want))
			if n, err := io.ReadFull(c, got); err != nil || string(got) != test.want {
				t.Fatalf("%s, and the end is %v: %d bytes, %.60q, %v", name, ends, n, got[:n], err)
			}
			if ends || test.say == "" {
				if more := mustBeClosed(t, name, c); more != "" {
					t.Errorf("%s: then %.60q", name, more)
				}
			}
			sock.Close()
		}
	}
	b.awaitClients(t, 0)
}

// heldSocket keeps what is written to it from the second write on.
type heldSocket struct {
	net.Conn
	writes int
	kept   []byte
}

func (h *heldSocket) Write(b []byte) (int, error) {
	if h.writes++; h.writes == 1 {
		return h.Conn.Write(b)
	}
	h.kept = append(h.kept, b...)
	return len(b), nil
}

func TestClientThatSpeaksNoTLSIsClosedAndOthersAreServed(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	neighbour := b.client(t)
	for name, first := range map[string]string{
		"plain PING":    "PING\r\n",
		"RESP":          "*1\r\n$4\r\nPING\r\n",
		"HTTP":          "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"zeros":         strings.Repeat("\x00", 4096),
		"half a record": "\x16\x03\x01\x02\x00\x01\x00",
		"a long record": "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70_000),
		"nothing":       "",
	} {
		conn := b.raw(t)
		_, _ = io.WriteString(conn, first) // which berth may have closed
		if strings.HasPrefix(name, "half") || first == "" {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		if got := mustBeClosed(t, name, conn); strings.Contains(got, "PONG") || strings.Contains(got, "ERR") {
			t.Errorf("%s was answered: %q", name, got)
		}
		script(t, neighbour, "PING → PONG")
	}
	if got := b.srv.greetings.look(); got.Failed != 7 || got.Now != 0 || got.Full != 1 {
		t.Errorf("counted: %+v", got)
	}
	b.awaitClients(t, 1)
}

func TestGarbageAmidTLSClosesItsClientAlone(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	neighbour := b.client(t)
	for name, version := range tlsVersions {
		for _, junk := range []string{"PING\r\nPING\r\n", "\x17\x03\x03\x00\x20" + strings.Repeat("x", 32), "\x17\x03\x03\xff\xff"} {
			config := b.config()
			config.MaxVersion = version
			conn, err := b.enter(config)
			if err != nil {
				t.Fatal(err)
			}
			c := redistest.Over(t, conn)
			script(t, c, "PING → PONG")
			if _, err := io.WriteString(conn.NetConn(), junk); err != nil {
				t.Fatal(err)
			}
			if got := mustBeClosed(t, name, conn); got != "" {
				t.Errorf("%s: %q brought %q", name, junk, got)
			}
			script(t, neighbour, "PING → PONG")
		}
	}
	b.awaitClients(t, 1)
}

// halfCloseTLS sends what a client says before it closes its sending side in one of three ways, and returns all it gets.
func (b *tlsBerth) halfCloseTLS(t *testing.T, say, how string) string {
	t.Helper()
	conn, err := b.enter(b.config())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(redistest.Patience(10 * time.Second)))
	if _, err := io.WriteString(conn, say); err != nil {
		t.Fatal(err)
	}
	if how != "FIN" {
		err = conn.CloseWrite()
	}
	if how != "close_notify" && err == nil {
		err = conn.NetConn().(*net.TCPConn).CloseWrite()
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("%s: %.60q brought %.60q, and then %v", how, say, got, err)
	}
	return string(got)
}

func TestClientThatSaysItsLastWordGetsItsReplies(t *testing.T) {
	node := redistest.Start(t)
	b := startTLS(t, node.Addr())
	big := strings.Repeat("v", 300_000)
	node.Do(t, "SET", "big", big)
	node.Do(t, "SET", "a", "1")
	for _, how := range []string{"close_notify", "FIN", "close_notify and FIN"} {
		t.Run(how, func(t *testing.T) {
			for _, say := range []string{
				"GET a\r\nGET a\r\n",
				"SET b 1\r\nINCR b\r\nPING\r\nGET b\r\n",
				"GET big\r\nGET big\r\n",
				"WATCH w\r\nMULTI\r\nSET w 1\r\nEXEC\r\nGET w\r\n",
				"SET c 1\r\nGET c\r\nQUIT\r\n",
				"GET nothing\r\n*1\r\nno\r\n",
				"PING\r\nBLPOP none 0\r\nPING\r\n",
				"SUBSCRIBE c\r\nUNSUBSCRIBE c\r\nPING\r\n",
				"SET d 1\r\nGET",
			} {
				want := halfClose(t, b.Addr(), say)
				for range 5 {
					if got := b.halfCloseTLS(t, say, how); got != want {
						t.Errorf("%.60q brought %.80q, want %.80q", say, got, want)
						break
					}
				}
			}
		})
	}
	b.awaitClients(t, 0)
}

// It takes no request while it has much to read, and goes on after it has read.
func TestClientThatSaysItsLastWordGetsMoreThanItMayBeOwed(t *testing.T) {
	node := redistest.Start(t)
	b := startTLS(t, node.Addr())
	big := strings.Repeat("v", clientWindow+1)
	node.Do(t, "SET", "big", big)
	const turns = 8
	want := strings.Repeat("$"+strconv.Itoa(len(big))+"\r\n"+big+"\r\n$1\r\ne\r\n", turns)
	for _, how := range []string{"close_notify", "FIN", "close_notify and FIN"} {
		if got := b.halfCloseTLS(t, strings.Repeat("GET big\r\nECHO e\r\n", turns), how); got != want {
			t.Errorf("%s: got %d bytes, want %d", how, len(got), len(want))
		}
	}
	b.awaitClients(t, 0)
}

// A client that is told goodbye in the words of TLS knows that nothing was cut off.
func TestBerthSaysThatItSaysNoMore(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	for _, how := range []string{"", "close_notify", "close_notify and FIN"} {
		say := "GET nothing\r\n"
		if how == "" {
			say += "QUIT\r\n"
		}
		sock := b.raw(t)
		sniff := &tap{Conn: sock}
		c := tls.Client(sniff, b.config())
		if _, err := io.WriteString(c, say); err != nil {
			t.Fatal(err)
		}
		if how != "" {
			_ = c.CloseWrite()
		}
		if strings.HasSuffix(how, "FIN") {
			_ = sock.(*net.TCPConn).CloseWrite()
		}
		_ = c.SetReadDeadline(time.Now().Add(redistest.Patience(10 * time.Second)))
		got, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(got), "$-1\r\n") {
			t.Errorf("%q: %q, %v", how, got, err)
		}
		if !sniff.ended {
			t.Errorf("%q: the socket ends without a word of TLS", how)
		}
	}
}

// tap watches whether the last bytes of a socket are a whole record as long as one that ends TLS 1.3.
type tap struct {
	net.Conn
	last  []byte
	ended bool
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	const end = 5 + 2 + 1 + 16 // header, alert, its type, seal
	t.last = append(t.last, b[:n]...)
	t.last = t.last[max(0, len(t.last)-end):]
	t.ended = len(t.last) == end && bytes.HasPrefix(t.last, []byte{23, 3, 3, 0, end - 5})
	return n, err
}

func TestCertificatesOfClientsAreAskedForAsConfigured(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr(), "--tls-auth-clients", "yes")
	stranger := redistest.NewAuthority(t)
	clients := map[string]*redistest.Authority{"one that is known": b.ca, "a stranger": stranger, "one that shows none": nil}
	for _, test := range []struct {
		asked string
		let   []string
	}{
		{"yes", []string{"one that is known"}},
		{"optional", []string{"one that is known", "one that shows none"}},
		{"no", []string{"one that is known", "one that shows none", "a stranger"}},
	} {
		b.set("tls-auth-clients", test.asked)
		for name, by := range clients {
			for _, version := range tlsVersions {
				config := b.config()
				config.MaxVersion = version
				if by != nil {
					pair := by.Issue(t, "client").Certificate
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
				}
				let := false
				if conn, err := b.enter(config); err == nil {
					reply, err := redistest.Over(t, conn).TryDo("PING") // in TLS 1.3 the client is done first
					let = err == nil && reply == "PONG"
					conn.Close()
				}
				if let != slices.Contains(test.let, name) {
					t.Errorf("tls-auth-clients %s: %s is let in: %v", test.asked, name, let)
				}
			}
		}
	}
	b.awaitClients(t, 0)
}

// serial is that of the certificate that a new client sees.
func (b *tlsBerth) serial(t testing.TB) string {
	t.Helper()
	conn, err := b.enter(b.config())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestNewClientsGetTheNewCertificateAndOldOnesStay(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	old := b.client(t)
	admin := dial(t, b.Addr())
	next := b.ca.Issue(t, "berth.example")
	if got := admin.Do("CONFIG", "SET", "tls-cert-file", next.CertPath, "tls-key-file", next.KeyPath); got != "OK" {
		t.Fatal(got)
	}
	if got := b.serial(t); got != next.Leaf.SerialNumber.String() {
		t.Errorf("after CONFIG SET a client sees certificate %s", got)
	}
	third := b.ca.Issue(t, "berth.example")
	for from, to := range map[string]string{third.CertPath: next.CertPath, third.KeyPath: next.KeyPath} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "berth to see that the files have changed", func() bool { return b.serial(t) == third.Leaf.SerialNumber.String() })
	script(t, old, "PING → PONG")
}

func TestBadCertificateIsRefusedAndTheOldOneKept(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	admin := dial(t, b.Addr())
	was := b.serial(t)
	other := b.ca.Issue(t, "berth.example")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, busyPort, _ := net.SplitHostPort(busy.Addr().String())
	for _, change := range [][]string{
		{"tls-cert-file", other.CertPath},
		{"tls-key-file", other.KeyPath},
		{"tls-cert-file", "/nowhere", "tls-key-file", other.KeyPath},
		{"tls-cert-file", ""},
		{"tls-ca-cert-file", other.KeyPath, "tls-auth-clients", "yes"},
		{"tls-ca-cert-file", "", "tls-auth-clients", "optional"},
		{"tls-ticket-key-file", other.KeyPath},
		{"tls-cert-file", other.CertPath, "tls-key-file", other.KeyPath, "tls-port", busyPort},
	} {
		got := text(admin.Do("CONFIG", "SET", change))
		if !strings.HasPrefix(got, "ERR CONFIG SET failed") || strings.Contains(got, "\n") {
			t.Errorf("CONFIG SET %v: %s", change, got)
		}
		if now := b.serial(t); now != was {
			t.Errorf("after CONFIG SET %v a client sees certificate %s, not %s", change, now, was)
		}
	}
	if got := fmt.Sprint(admin.Do("CONFIG", "GET", "tls-cert-file")); got != "[tls-cert-file "+b.pair.CertPath+"]" {
		t.Errorf("%s", got)
	}
}

func TestTLSPortOpensAndClosesWhileBerthRuns(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	admin, old := dial(t, b.Addr()), b.client(t)
	script(t, admin, "CONFIG SET tls-port 0 → OK")
	if conn, err := net.Dial("tcp", b.tlsAddr()); err == nil {
		conn.Close()
		t.Error("the port is closed, and takes a client")
	}
	script(t, old, "PING → PONG")
	was := b.port
	b.port = freePort(t)
	script(t, admin, "CONFIG SET tls-port "+b.port+" → OK")
	b.mustServe(t)
	script(t, old, "PING → PONG")
	script(t, admin, "CONFIG SET tls-port "+was+" → OK")
	b.port = was
	b.mustServe(t)
	script(t, old, "CONFIG SET port 0 → OK", "CONFIG GET port → [port 0]")
	b.mustServe(t)
	script(t, admin, "PING → PONG")
	if got := text(old.Do("CONFIG", "SET", "tls-port", "0")); !strings.HasPrefix(got, "ERR CONFIG SET failed") {
		t.Errorf("nothing is left to listen on: %s", got)
	}
	b.mustServe(t)
}

func TestPortThatIsTakenIsRefusedInTheWordsOfRedis(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	admin := dial(t, b.Addr())
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	for _, name := range []string{"port", "tls-port"} {
		want := "ERR CONFIG SET failed (possibly related to argument '" + name + "') - Unable to listen on this port. Check server logs."
		if got := text(admin.Do("CONFIG", "SET", name, port)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	b.mustServe(t)
}

func TestHandshakesThatDawdleAreClosedAndCounted(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr(), "--tls-handshake-timeout", "1")
	served := b.client(t)
	var slow []net.Conn
	for _, first := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00\x01"} {
		conn := b.raw(t)
		if _, err := io.WriteString(conn, first); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	eventually(t, "the handshakes to be seen", func() bool {
		now := b.srv.greetings.look()
		return now.Now+int(now.TimedOut) == len(slow)
	})
	for _, conn := range slow {
		mustBeClosed(t, "one that dawdles", conn)
	}
	eventually(t, "the handshakes to be counted", func() bool { return b.srv.greetings.look().TimedOut == uint64(len(slow)) })
	if got := b.srv.look(0).Handshakes; got.Full != 1 || got.Failed != 0 || got.Now != 0 {
		t.Errorf("counted: %+v", got)
	}
	script(t, served, "PING → PONG")
	b.awaitClients(t, 1)
}

func TestSessionIsTakenUpAgainAndCounted(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	config := b.config()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	for i := range 3 {
		c := b.dialTLS(t, config)
		script(t, c, "PING → PONG") // the ticket comes before it
		c.Close()
		if got := b.srv.greetings.look(); got.Full != 1 || got.Resumed != uint64(i) {
			t.Errorf("counted: %+v", got)
		}
	}
}

func TestClientTooManyTakesThePlaceOfTheSlowest(t *testing.T) {
	h := newGreetings()
	var peers []net.Conn
	begin := func() {
		here, there := net.Pipe()
		peers = append(peers, here)
		h.enter(&greeting{conn: there}, maxGreetings)
	}
	closed := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now())
		_, err := c.Read(make([]byte, 1))
		return err == io.EOF
	}
	for range maxGreetings {
		begin()
	}
	if closed(peers[0]) {
		t.Error("one was closed while there was room")
	}
	begin()
	begin()
	for i, want := range []bool{true, true, false} {
		if closed(peers[i]) != want {
			t.Errorf("client %d is closed: %v", i, !want)
		}
	}
	h.end()
	for i, c := range peers {
		if !closed(c) {
			t.Fatalf("at the end client %d is open", i)
		}
	}
	begin()
	if !closed(peers[len(peers)-1]) {
		t.Error("one that came after the end is open")
	}
}

func TestProtectedModeKeepsStrangersOutOfTLS(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	here, there := net.Pipe()
	go b.srv.welcome(stranger{there}, (*b.srv.doors.Load())[1].way)
	c := tls.Client(here, b.config())
	defer c.Close()
	if got := mustBeClosed(t, "a stranger", c); got != b.srv.deniedReply() {
		t.Errorf("a stranger was told %q", got)
	}
	b.mustServe(t)
	b.awaitClients(t, 0)
}

func TestMaxclientsIsOfThoseWhoHaveEndedTheirHandshake(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr(), "--maxclients", "2")
	slow := b.raw(t)
	eventually(t, "a handshake to be under way", func() bool { return b.srv.greetings.look().Now == 1 })
	first, second := b.client(t), b.client(t)
	b.awaitClients(t, 2)
	if conn, err := b.enter(b.config()); err == nil {
		conn.Close()
		t.Error("one too many was let in")
	}
	script(t, first, "PING → PONG")
	slow.Close()
	second.Close()
	b.awaitClients(t, 1)
	b.mustServe(t)
	first.Close()
	b.awaitClients(t, 0)
}

func TestStopDoesNotWaitForHandshakes(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr(), "--tls-handshake-timeout", "3600")
	var slow []net.Conn
	for _, first := range []string{"", "\x16\x03\x01\x02\x00\x01"} {
		conn := b.raw(t)
		if _, err := io.WriteString(conn, first); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	eventually(t, "the handshakes to begin", func() bool { return b.srv.greetings.look().Now == len(slow) })
	b.Stop()
	for _, conn := range slow {
		mustBeClosed(t, "after the stop", conn)
	}
}

// Clients talk at random, and each reply is what the client's own words make it.
func TestManyClientsOfTLSEachGetTheirOwnReplies(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	chatter(t, sized(200, 2000), func(i int) *redistest.Conn {
		config := b.config()
		config.MaxVersion = []uint16{tls.VersionTLS12, tls.VersionTLS13}[i%2]
		return b.dialTLS(t, config)
	})
	b.awaitClients(t, 0)
}

// chatter has so many clients talk at the same time, each about keys of its own.
func chatter(t *testing.T, clients int, enter func(i int) *redistest.Conn) {
	t.Helper()
	prefix := unique("chatter")
	var all sync.WaitGroup
	for i := range clients {
		c := enter(i)
		all.Go(func() {
			defer c.Close()
			talker := chatterer{c: c, key: fmt.Sprintf("%s.%d", prefix, i), has: map[string]string{}}
			for range 10 {
				if err := talker.round(); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// chatterer is a client that knows what it has said.
type chatterer struct {
	c      *redistest.Conn
	key    string
	has    map[string]string
	say    []byte
	expect []any
}

func (c *chatterer) ask(want any, command ...any) {
	c.say = append(c.say, redistest.Command(command...)...)
	c.expect = append(c.expect, want)
}

// round is a pipeline of random requests, whose writes have random lengths.
func (c *chatterer) round() error {
	c.say, c.expect = c.say[:0], c.expect[:0]
	for range 1 + rand.IntN(20) {
		key := fmt.Sprintf("%s.%d", c.key, rand.IntN(4))
		value, known := c.has[key]
		switch rand.IntN(5) {
		case 0:
			size := rand.IntN(200)
			if rand.IntN(20) == 0 {
				size = rand.IntN(100_000)
			}
			c.has[key] = strings.Repeat(string(rune('a'+rand.IntN(26))), size)
			c.ask("OK", "SET", key, c.has[key])
		case 1:
			if known {
				c.ask(value, "GET", key)
			} else {
				c.ask(nil, "GET", key)
			}
		case 2:
			c.has[key] = value + "+"
			c.ask(int64(len(value)+1), "APPEND", key, "+")
		case 3:
			n := int64(0)
			if known {
				n = 1
			}
			delete(c.has, key)
			c.ask(n, "DEL", key)
		case 4:
			c.has[key] = "x"
			c.ask("OK", "WATCH", key)
			c.ask("OK", "MULTI")
			c.ask("QUEUED", "SET", key, "x")
			c.ask("[OK]", "EXEC")
		}
	}
	sent := make(chan error, 1)
	go func() {
		for rest := c.say; len(rest) > 0; {
			n := 1 + rand.IntN(min(len(rest), 20_000))
			if err := c.c.TryWrite(rest[:n]); err != nil {
				sent <- err
				return
			}
			rest = rest[n:]
		}
		sent <- nil
	}()
	for i, want := range c.expect {
		got, err := c.c.TryRecv()
		if err != nil {
			return fmt.Errorf("reply %d of %d: %w", i, len(c.expect), err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("reply %d of %d is %.60v, want %.60v", i, len(c.expect), got, want)
		}
	}
	return <-sent
}

// A slow reader's replies wait in berth, encrypted, and none is lost.
func TestClientOfTLSThatReadsLateGetsAll(t *testing.T) {
	b := startTLS(t, sharedNode(t).Addr())
	key := unique("late")
	value := strings.Repeat("v", 1<<20)
	c := b.client(t)
	if got := c.Do("SET", key, value); got != "OK" {
		t.Fatal(got)
	}
	const times = 8
	for range times {
		c.Send("GET", key)
	}
	c.Send("ECHO", "end")
	other := b.client(t)
	script(t, other, "PING → PONG")
	for i := range times {
		if got := c.Recv(); got != value {
			t.Fatalf("reply %d is another", i)
		}
	}
	if got := c.Recv(); got != "end" {
		t.Errorf("%v", got)
	}
	script(t, c, "DEL "+key+" → 1")
}
