package secure

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// tlsPair is configurations of a server and of a client that trusts it, for one version of TLS.
func tlsPair(t testing.TB, version uint16) (server, client *tls.Config) {
	t.Helper()
	a := redistest.NewAuthority(t)
	server = &tls.Config{Certificates: []tls.Certificate{a.Issue(t, "node").Certificate}, MinVersion: version, MaxVersion: version, DynamicRecordSizingDisabled: true}
	client = &tls.Config{RootCAs: a.Pool(), ServerName: "node", DynamicRecordSizingDisabled: true}
	return server, client
}

// sockets is two ends of a TCP connection.
func sockets(t testing.TB) (here, there net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if here, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if there, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

// shaken is a server's and a client's connection after the handshake.
func shaken(t testing.TB, version uint16) (server, client *Conn) {
	t.Helper()
	serverConfig, clientConfig := tlsPair(t, version)
	here, there := sockets(t)
	server, client = Server(there, serverConfig, nil, nil), Client(here, clientConfig)
	done := make(chan error, 1)
	go func() { done <- server.Shake(patience()) }()
	if err := client.ShakeContext(t.Context()); err != nil {
		t.Fatalf("client: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatalf("server: %v", err)
	}
	if version == tls.VersionTLS13 { // the tickets that the server sent come after its handshake
		say(t, server, client, "hello")
	}
	return server, client
}

// say sends words over sockets that block.
func say(t testing.TB, from, to net.Conn, words string) {
	t.Helper()
	if _, err := io.WriteString(from, words); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(words))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != words {
		t.Fatalf("got %q, %v, want %q", got, err, words)
	}
}

// streams is both sides in memory.
func streams(t testing.TB, version uint16) (server, client *Stream) {
	t.Helper()
	s, c := shaken(t, version)
	server, _ = s.Detach()
	client, _ = c.Detach()
	return server, client
}

func patience() time.Duration { return redistest.Patience(10 * time.Second) }

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// eachVersion runs a test with each version of TLS.
func eachVersion(t *testing.T, test func(t *testing.T, version uint16)) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) { test(t, version) })
	}
}

func seal(t testing.TB, s *Stream, plain []byte) []byte {
	t.Helper()
	cipher, err := s.Seal(plain, nil)
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	return cipher
}

func open(t testing.TB, s *Stream, cipher []byte) []byte {
	t.Helper()
	plain, err := s.Open(cipher, nil)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return plain
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func TestAnySplitOfWhatIsSealedOpensToTheSame(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		server, client := streams(t, version)
		for round := range 50 {
			for _, ends := range [][2]*Stream{{server, client}, {client, server}} {
				want := noise(1 + rand.IntN(5000))
				var cipher []byte
				for rest := want; len(rest) > 0; { // several records
					n := 1 + rand.IntN(len(rest))
					cipher = append(cipher, seal(t, ends[0], rest[:n])...)
					rest = rest[n:]
				}
				var got []byte
				for rest := cipher; len(rest) > 0; {
					n := 1
					if round > 0 {
						n += rand.IntN(len(rest))
					}
					piece := bytes.Clone(rest[:n])
					got = append(got, open(t, ends[1], piece)...)
					clear(piece) // it is another's memory
					rest = rest[n:]
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("round %d: %d bytes were opened to %d others", round, len(want), len(got))
				}
			}
		}
	})
}

func TestLongWordsAreWholeAndAppendedToWhatIsThere(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		server, client := streams(t, version)
		want := noise(1 << 20)
		cipher, err := server.Seal(want, []byte("before"))
		if err != nil || string(cipher[:6]) != "before" {
			t.Fatalf("seal: %q, %v", cipher[:6], err)
		}
		plain, err := client.Open(cipher[6:], []byte("before"))
		if err != nil || string(plain[:6]) != "before" || !bytes.Equal(plain[6:], want) {
			t.Fatalf("open: %d bytes, %v", len(plain), err)
		}
	})
}

// held is a socket whose writes wait from the second one on, until they are let go as one.
type held struct {
	net.Conn
	writes int
	kept   []byte
}

func (h *held) Write(b []byte) (int, error) {
	if h.writes++; h.writes == 1 {
		return h.Conn.Write(b)
	}
	h.kept = append(h.kept, b...)
	return len(b), nil
}

func TestWordsThatComeWithTheEndOfTheHandshakeAreNotLost(t *testing.T) {
	serverConfig, clientConfig := tlsPair(t, tls.VersionTLS13)
	here, there := sockets(t)
	slow := &held{Conn: here}
	server, client := Server(there, serverConfig, nil, nil), Client(slow, clientConfig)
	done := make(chan error, 1)
	go func() { done <- server.Shake(patience()) }()
	if err := client.Shake(patience()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Write(slow.kept); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	stream, _ := server.Detach()
	if got := open(t, stream, nil); string(got) != "PING\r\n" {
		t.Errorf("opened %q: the socket has nothing more to bring", got)
	}
}

func TestLastWordIsTheEnd(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		server, client := streams(t, version)
		cipher := seal(t, client, []byte("QUIT"))
		cipher = client.SealEnd(cipher)
		plain, err := server.Open(cipher, nil)
		if !errors.Is(err, io.EOF) || string(plain) != "QUIT" {
			t.Errorf("opened %q, %v", plain, err)
		}
		if got := open(t, client, seal(t, server, []byte("+OK"))); string(got) != "+OK" {
			t.Errorf("after its last word the client hears %q", got)
		}
		if _, err := client.Seal([]byte("more"), nil); err == nil {
			t.Error("there were words after the last")
		}
	})
}

func TestGarbageIsAnErrorAndLeavesAnAlert(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		for name, spoil := range map[string]func([]byte) []byte{
			"plain text":      func([]byte) []byte { return []byte("PING\r\nPING\r\n") },
			"a changed byte":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
			"a long record":   func([]byte) []byte { return []byte{23, 3, 3, 0xff, 0xff, 0, 0} },
			"a record again":  func(b []byte) []byte { return append(b, b...) },
			"an unknown type": func([]byte) []byte { return []byte{99, 3, 3, 0, 1, 0} },
		} {
			server, client := streams(t, version)
			_, err := server.Open(spoil(seal(t, client, []byte("word"))), nil)
			if err == nil || errors.Is(err, io.EOF) || errors.Is(err, errMore) {
				t.Errorf("%s: %v", name, err)
			}
			left := server.Left()
			if len(left) == 0 {
				t.Errorf("%s: there is no alert", name)
				continue
			}
			var remote *net.OpError
			if _, err := client.Open(left, nil); !errors.As(err, &remote) || remote.Op != "remote error" {
				t.Errorf("%s: to the client the alert is %v", name, err)
			}
			if _, again := server.Open(nil, nil); again == nil || errors.Is(again, io.EOF) {
				t.Errorf("%s: afterwards %v", name, again)
			}
		}
	})
}

// One goroutine opens while another seals; the ciphers go through channels as through two sockets.
func TestOneGoroutineOpensWhileAnotherSeals(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		server, client := streams(t, version)
		const words = 2000
		var all sync.WaitGroup
		for _, ends := range [][2]*Stream{{server, client}, {client, server}} {
			socket := make(chan []byte, 16)
			all.Go(func() {
				defer close(socket)
				for i := range words {
					cipher, err := ends[0].Seal(fmt.Appendf(nil, "word %d\n", i), nil)
					if err != nil {
						t.Errorf("seal: %v", err)
						return
					}
					socket <- cipher
				}
			})
			all.Go(func() {
				var got, want []byte
				for cipher := range socket {
					plain, err := ends[1].Open(cipher, nil)
					if err != nil {
						t.Errorf("open: %v", err)
					}
					got = append(got, plain...)
				}
				for i := range words {
					want = fmt.Appendf(want, "word %d\n", i)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%d bytes came in another order, or not at all", len(want))
				}
			})
		}
		all.Wait()
	})
}

// crypto/tls makes two small objects of 24 bytes for each record that it reads. Nothing else is made.
func TestSmallWordNeedsNoMemoryOfOurs(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		server, client := streams(t, version)
		talk := talker(t, server, client)
		talk()      // which makes the buffers
		most := 4.0 // two records
		if raced() {
			most = 8 // the detector has sync.Pool drop what it is given, now and then
		}
		if got := testing.AllocsPerRun(1000, talk); got > most {
			t.Errorf("%v allocations for a word and its answer", got)
		}
	})
}

// raced reports whether the race detector runs.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// talker has each side say a small word and the other hear it, in memory that is used again.
func talker(t testing.TB, server, client *Stream) func() {
	word := []byte("*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n")
	var scratch Scratch
	pass := func(from, to *Stream) {
		var err error
		if scratch.cipher, err = from.Seal(word, scratch.cipher[:0]); err != nil {
			t.Fatal(err)
		}
		if scratch.plain, err = to.Open(scratch.cipher, scratch.plain[:0]); err != nil || len(scratch.plain) != len(word) {
			t.Fatalf("%q, %v", scratch.plain, err)
		}
		if left := to.Left(); len(left) > 0 {
			t.Fatalf("%q is left", left)
		}
	}
	return func() { pass(client, server); pass(server, client) }
}

func TestHandshakeEndsInTime(t *testing.T) {
	serverConfig, clientConfig := tlsPair(t, tls.VersionTLS13)
	for name, first := range map[string][]byte{"silent": nil, "in the midst of a record": {22, 3, 1, 2, 0, 1}} {
		here, there := sockets(t)
		if _, err := here.Write(first); err != nil {
			t.Fatal(err)
		}
		if err := Server(there, serverConfig, NewWork(1), nil).Shake(20 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, there := sockets(t)
	if err := Client(there, clientConfig).Shake(20 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a client whose server is silent: %v", err)
	}
}

// timed is a socket that remembers its deadline.
type timed struct {
	net.Conn
	deadline time.Time
}

func (c *timed) SetDeadline(t time.Time) error {
	c.deadline = t
	return c.Conn.SetDeadline(t)
}

func TestHandshakeLeavesNoDeadlineBehind(t *testing.T) {
	serverConfig, clientConfig := tlsPair(t, tls.VersionTLS13)
	here, there := sockets(t)
	sock := &timed{Conn: there, deadline: time.Now()}
	done := make(chan error, 1)
	go func() { done <- Server(sock, serverConfig, nil, nil).Shake(patience()) }()
	if err := Client(here, clientConfig).Shake(patience()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || !sock.deadline.IsZero() {
		t.Errorf("the socket has until %v, %v", sock.deadline, err)
	}
}

// What an Open has left goes out before what is said next, and after what the caller has.
func TestWhatIsLeftGoesOutFirst(t *testing.T) {
	server, client := streams(t, tls.VersionTLS13)
	first := seal(t, server, []byte("first, "))
	if _, err := server.wire.Write(first); err != nil { // as crypto/tls does for an answer
		t.Fatal(err)
	}
	cipher, err := server.Seal([]byte("then"), []byte("#"))
	if err != nil || cipher[0] != '#' {
		t.Fatalf("%q, %v", cipher, err)
	}
	if got := open(t, client, cipher[1:]); string(got) != "first, then" {
		t.Errorf("opened %q", got)
	}
	if left := server.Left(); len(left) > 0 {
		t.Errorf("%d bytes are still left", len(left))
	}
}

// As many compute as may, however many wait for their peers.
func TestWorkBoundsWhoComputesAndNotWhoWaits(t *testing.T) {
	const most, silent, busy = 2, 20, 30
	serverConfig, clientConfig := tlsPair(t, tls.VersionTLS13)
	var computing, peak atomic.Int64
	serverConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		peak.Store(max(peak.Load(), computing.Add(1)))
		defer computing.Add(-1)
		for range 1000 {
			_ = noise(10)
		}
		return nil, nil
	}
	work := NewWork(most)
	var waiting, served sync.WaitGroup
	for range silent {
		here, there := sockets(t)
		waiting.Go(func() {
			if err := Server(there, serverConfig, work, nil).Shake(0); err == nil {
				t.Error("a client that said nothing is done with its handshake")
			}
		})
		defer here.Close()
	}
	for range busy {
		here, there := sockets(t)
		served.Go(func() {
			if err := Server(there, serverConfig, work, nil).Shake(patience()); err != nil {
				t.Errorf("beside silent clients: %v", err)
			}
		})
		served.Go(func() {
			if err := Client(here, clientConfig).Shake(patience()); err != nil {
				t.Errorf("beside silent clients: %v", err)
			}
			here.Close()
		})
	}
	served.Wait()
	if got := peak.Load(); got < 1 || got > most {
		t.Errorf("%d computed at the same time", got)
	}
	for range most { // those who wait hold none of it
		select {
		case work <- struct{}{}:
		default:
			t.Fatal("a client that waits holds work")
		}
	}
	for range most {
		<-work
	}
	t.Cleanup(waiting.Wait) // after the sockets have been closed, above
}

func TestAttachedStreamGoesOnOverItsSocket(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		s, client := shaken(t, version)
		stream, sock := s.Detach()
		if _, err := sock.Write(seal(t, stream, []byte("from memory"))); err != nil {
			t.Fatal(err)
		}
		heard := make([]byte, 11)
		if _, err := io.ReadFull(client, heard); err != nil || string(heard) != "from memory" {
			t.Fatalf("%q, %v", heard, err)
		}
		server := stream.Attach(sock)
		say(t, server, client, "over the socket")
		say(t, client, server, "and back")
		if server.RemoteAddr().String() != client.LocalAddr().String() {
			t.Errorf("the peer is at %v, not %v", server.RemoteAddr(), client.LocalAddr())
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(server); err != nil || len(rest) > 0 {
			t.Errorf("at the end %q, %v", rest, err)
		}
	})
}

func TestPartOfARecordIsKeptUntilTheStreamIsAttached(t *testing.T) {
	s, c := shaken(t, tls.VersionTLS13)
	server, sock := s.Detach()
	client, peer := c.Detach()
	cipher := seal(t, client, []byte("a word in two parts"))
	if got := open(t, server, cipher[:10]); len(got) > 0 {
		t.Fatalf("a part opens to %q", got)
	}
	if _, err := peer.Write(cipher[10:]); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 19)
	if _, err := io.ReadFull(server.Attach(sock), got); err != nil || string(got) != "a word in two parts" {
		t.Errorf("%q, %v", got, err)
	}
}

func BenchmarkOpenAndSealASmallWord(b *testing.B) {
	for name, version := range versions {
		b.Run(name, func(b *testing.B) {
			server, client := streams(b, version)
			talk := talker(b, server, client)
			b.ReportAllocs()
			for b.Loop() {
				talk()
			}
		})
	}
}
