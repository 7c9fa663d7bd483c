package codec

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// tell sends input to a real server on a connection of its own and returns all
// that it says until it closes the connection.
func tell(t *testing.T, server *redistest.Server, input string) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, input); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("%q: %v", input, err)
	}
	return said
}

// replies cuts what a server said.
func replies(t *testing.T, said []byte) (cut [][]byte) {
	t.Helper()
	var s ReplyScanner
	for len(said) > 0 {
		n, err := s.Scan(said)
		if n == 0 {
			t.Fatalf("a real server's %q does not scan: %v", said, err)
		}
		cut = append(cut, said[:n])
		said = said[n:]
	}
	return cut
}

// protocolError takes the protocol error off the end of replies.
func protocolError(cut [][]byte) ([][]byte, string) {
	if len(cut) > 0 {
		last := string(cut[len(cut)-1])
		if strings.HasPrefix(last, "-ERR Protocol error") {
			return cut[:len(cut)-1], last
		}
	}
	return cut, ""
}

// sentError is the bytes of the error a client gets for a parser's error.
func sentError(message string) string {
	if message == "" {
		return ""
	}
	return string(AppendError(nil, "ERR "+message))
}

func TestRedisSaysTheSameToTheVectors(t *testing.T) {
	plain := redistest.Start(t)
	locked := redistest.Start(t, "--requirepass", "secret")
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			server := plain
			if v.lim.Unauthenticated {
				server = locked
			}
			answered, refusal := protocolError(replies(t, tell(t, server, v.input)))
			if v.stricter {
				if refusal != "" {
					t.Fatalf("Redis refuses it, too: %q", refusal)
				}
				return
			}
			owed := 0
			for _, request := range v.want {
				if request != "" {
					owed++
				}
			}
			if len(answered) != owed || refusal != sentError(v.err) {
				t.Errorf("Redis: %d replies %q, then %q; berth: %d, then %q", len(answered), answered, refusal, owed, v.err)
			}
		})
	}
}

// pick builds a string of up to longest pieces.
func pick(rng *rand.Rand, pieces []string, longest int) string {
	var text strings.Builder
	for range rng.IntN(longest + 1) {
		text.WriteString(pieces[rng.IntN(len(pieces))])
	}
	return text.String()
}

func TestRandomInlineRequestsAreSplitAsRedisSplitsThem(t *testing.T) {
	server := redistest.Start(t)
	rng := rand.New(rand.NewPCG(1, 2))
	pieces := []string{" ", " ", "\t", "\v", "\f", "\r", "\"", "\"", "'", "'", "\\", "\\x", "\\x4", "\\x41", "\\n", "x", "a", "f", "0", "\xff", "\x01"}
	balanced := 0
	for range 3000 {
		line := `eval "return ARGV" 0 ` + pick(rng, pieces, 14) + "\n"
		var p RequestParser
		n, err := p.Parse([]byte(line), nil)
		if n == 0 && err == nil {
			t.Fatalf("%q is not complete", line)
		}
		cut := replies(t, tell(t, server, line))
		if len(cut) != 1 {
			t.Fatalf("%q: Redis says %q", line, cut)
		}
		if err != nil {
			if string(cut[0]) != sentError(err.Error()) {
				t.Errorf("%q: %v, and Redis says %q", line, err, cut[0])
			}
			continue
		}
		balanced++
		got := AppendArray(nil, len(p.Args())-3)
		for _, arg := range p.Args()[3:] {
			got = AppendBulk(got, arg)
		}
		if string(got) != string(cut[0]) {
			t.Errorf("%q: got %q, Redis says %q", line, got, cut[0])
		}
	}
	if balanced < 500 || balanced > 2500 {
		t.Errorf("%d of 3000 lines were balanced: the test tests one side only", balanced)
	}
}

func TestRandomLengthsAreJudgedAsRedisJudgesThem(t *testing.T) {
	server := redistest.Start(t)
	rng := rand.New(rand.NewPCG(3, 4))
	pieces := []string{"0", "1", "4", "9", "-", "+", " ", "00", "2147483647", "2147483648", "536870912", "9223372036854775807", "x", "?", "\n"}
	for range 2000 {
		input := fmt.Sprintf("*%s\r\n$4\r\nPING\r\n", pick(rng, pieces, 3))
		if rng.IntN(2) == 0 {
			input = fmt.Sprintf("*1\r\n$%s\r\nPING\r\n", pick(rng, pieces, 3))
		}
		var p RequestParser
		got := deliverRequests(&p, []byte(input), nil, wholly)
		owed := 0
		for _, request := range got.items {
			if request != "*0\r\n" {
				owed++
			}
		}
		// Redis does not check the bytes after an argument; berth does.
		if got.err == errBulkEnd.Message {
			continue
		}
		answered, refusal := protocolError(replies(t, tell(t, server, input)))
		if len(answered) != owed || refusal != sentError(got.err) {
			t.Errorf("%q: %v; Redis says %q %q", input, got, answered, refusal)
		}
	}
}

func TestRealRepliesOfEveryTypeAreScannedAndParsed(t *testing.T) {
	server := redistest.Start(t, "--enable-debug-command", "yes")
	for _, c := range []struct {
		kind string
		resp int
		want string
	}{
		{"string", 3, "$"}, {"integer", 3, ":"}, {"double", 3, ","}, {"null", 3, "_"}, {"array", 3, "*"},
		{"set", 3, "~"}, {"map", 3, "%"}, {"attrib", 3, "|"}, {"push", 3, ">"}, {"verbatim", 3, "="},
		{"true", 3, "#"}, {"false", 3, "#"}, {"bignum", 3, "("},
		{"double", 2, "$"}, {"null", 2, "$"}, {"set", 2, "*"}, {"map", 2, "*"}, {"verbatim", 2, "$"},
		{"true", 2, ":"}, {"bignum", 2, "$"},
	} {
		said := tell(t, server, fmt.Sprintf("HELLO %d\r\nDEBUG PROTOCOL %s\r\nPING\r\n", c.resp, c.kind))
		cut := replies(t, said)
		if len(cut) < 3 || string(cut[len(cut)-1]) != "+PONG\r\n" {
			t.Errorf("%s: %q", c.kind, cut)
			continue
		}
		if got := string(cut[1][:1]); got != c.want {
			t.Errorf("%s: got type %s, want %s", c.kind, got, c.want)
		}
		for _, raw := range cut {
			if _, err := ParseValue(raw); err != nil {
				t.Errorf("%s: %q: %v", c.kind, raw, err)
			}
		}
	}
}
