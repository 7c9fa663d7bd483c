package codec

import (
	"strings"
	"testing"
)

// A replyVector is a node's bytes, and the replies in them.
type replyVector struct {
	name  string
	input string
	want  []string // input cut into replies; nil: all of it is one
	wait  bool     // the last of want is not complete
	err   error
}

var hundredDigits = strings.Repeat("1234567890", 10)

var replyVectors = []replyVector{
	{name: "simple string", input: "+OK\r\n"},
	{name: "another simple string", input: "+PONG\r\n"},
	{name: "simple string that begins with OK", input: "+OKAY\r\n"},
	{name: "empty simple string", input: "+\r\n"},
	{name: "simple string with LF", input: "+a\nb\r\n"},
	{name: "error", input: "-ERR no\r\n"},
	{name: "integer", input: ":1234\r\n"},
	{name: "negative integer", input: ":-1\r\n"},
	{name: "large integers", input: ":9223372036854775807\r\n:-9223372036854775808\r\n", want: []string{":9223372036854775807\r\n", ":-9223372036854775808\r\n"}},
	{name: "bulk", input: "$5\r\nhel\r\n\r\n"},
	{name: "empty bulk", input: "$0\r\n\r\n"},
	{name: "long bulk", input: "$1200\r\n" + strings.Repeat("\r\n$-1", 240) + "\r\n"},
	{name: "null bulk", input: "$-1\r\n"},
	{name: "null array", input: "*-1\r\n"},
	{name: "empty array", input: "*0\r\n"},
	{name: "array", input: "*3\r\n$1\r\na\r\n:1\r\n$-1\r\n"},
	{name: "nested arrays", input: "*2\r\n*2\r\n*0\r\n*-1\r\n*1\r\n+a\r\n"},
	{name: "null", input: "_\r\n"},
	{name: "booleans", input: "#t\r\n#f\r\n", want: []string{"#t\r\n", "#f\r\n"}},
	{name: "doubles", input: "*9\r\n,1\r\n,-1.5\r\n,.5\r\n,1.\r\n,1e10\r\n,-1.5E-3\r\n,inf\r\n,-inf\r\n,nan\r\n"},
	{name: "big number", input: "(-" + hundredDigits + "\r\n"},
	{name: "blob error", input: "!5\r\nERR a\r\n"},
	{name: "verbatim string", input: "=5\r\ntxt:a\r\n"},
	{name: "map", input: "%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n"},
	{name: "set", input: "~2\r\n+a\r\n+b\r\n"},
	{name: "push, then a reply", input: ">2\r\n+message\r\n+x\r\n:1\r\n", want: []string{">2\r\n+message\r\n+x\r\n", ":1\r\n"}},
	{name: "attribute belongs to the reply after it", input: "|1\r\n+ttl\r\n:3\r\n$1\r\na\r\n"},
	{name: "attribute inside", input: "*2\r\n|1\r\n+ttl\r\n:3\r\n:1\r\n:2\r\n"},
	{name: "attributes on attributes", input: "|1\r\n|0\r\n+a\r\n+b\r\n|1\r\n+c\r\n|1\r\n+d\r\n+e\r\n+f\r\n*0\r\n"},
	{name: "attribute without a reply", input: "|1\r\n+ttl\r\n:3\r\n", wait: true},
	{name: "replies one after the other", input: "+OK\r\n$1\r\na\r\n:1\r\n", want: []string{"+OK\r\n", "$1\r\na\r\n", ":1\r\n"}},

	// What is no value of its type is a reply all the same.
	{name: "simple string with CR", input: "+a\rb\r\r\n"},
	{name: "error with CR and LF", input: "-ERR a\n\rb\r\n"},
	{name: "integer of letters", input: ":a\r\n"},
	{name: "no integer", input: ":\r\n"},
	{name: "integer 2^63", input: ":9223372036854775808\r\n"},
	{name: "long integer", input: ":" + hundredDigits + "\r\n"},
	{name: "no booleans", input: "#x\r\n#\r\n#" + hundredDigits + "\r\n", want: []string{"#x\r\n", "#\r\n", "#" + hundredDigits + "\r\n"}},
	{name: "null with a value", input: "_1\r\n"},
	{name: "no doubles", input: "*6\r\n,1e\r\n,0x1p4\r\n,.\r\n,\r\n,-nan\r\n," + hundredDigits + "e\r\n"},
	{name: "no big numbers", input: "*4\r\n(abc\r\n(1.5\r\n(-\r\n(\r\n"},
	{name: "verbatim strings without a format", input: "=0\r\n\r\n=3\r\nabc\r\n", want: []string{"=0\r\n\r\n", "=3\r\nabc\r\n"}},

	{name: "a huge count waits", input: "*4294967296\r\n", wait: true},
	{name: "a huge map waits", input: "%4294967296\r\n", wait: true},
	{name: "a huge bulk waits", input: "$1099511627776\r\n", wait: true},
	{name: "a long simple string waits", input: "+" + strings.Repeat("a", 100), wait: true},
	{name: "CR waits", input: "+OK\r", wait: true},
	{name: "two CRs wait", input: "(a\r\r", wait: true},
	{name: "a long double waits", input: "," + hundredDigits, wait: true},

	{name: "bulk too large", input: "$1099511627777\r\n", err: errReplyLength},
	{name: "too many elements", input: "*4294967297\r\n", err: errReplyLength},
	{name: "count 2^63", input: "*9223372036854775808\r\n", err: errReplyLength},
	{name: "count 2^64", input: "*18446744073709551616\r\n", err: errReplyLength},
	{name: "count -2", input: "*-2\r\n", err: errReplyLength},
	{name: "null map", input: "%-1\r\n", err: errReplyLength},
	{name: "null blob error", input: "!-1\r\n", err: errReplyLength},
	{name: "length with leading zero", input: "$01\r\na\r\n", err: errReplyLength},
	{name: "no length", input: "$\r\n", err: errReplyLength},
	{name: "endless length", input: "$" + strings.Repeat("1", maxLengthLine+1), err: errReplyLineSize},
	{name: "streamed string", input: "$?\r\n;1\r\na\r\n;0\r\n", err: errReplyStreamed},
	{name: "streamed array", input: "*?\r\n:1\r\n.\r\n", err: errReplyStreamed},
	{name: "streamed map inside", input: "*1\r\n%?\r\n.\r\n", err: errReplyStreamed},
	{name: "no type", input: "hello\r\n", err: errReplyType('h')},
	{name: "no type inside", input: "*1\r\n\r\n", err: errReplyType('\r')},
	{name: "bulk with other bytes after it", input: "$1\r\nabc", err: errReplyLineEnd},
	{name: "length with CR alone", input: "$1\rXa\r\n", err: errReplyLength},
}

func TestReplyVectors(t *testing.T) {
	for _, v := range replyVectors {
		t.Run(v.name, func(t *testing.T) {
			want := v.want
			if want == nil && v.err == nil && !v.wait {
				want = []string{v.input}
			}
			for name, piece := range map[string]func(int) int{"in one piece": wholly, "byte by byte": bytewise} {
				expect := delivery{items: want}
				if v.err != nil {
					expect.err = v.err.Error()
				}
				var s ReplyScanner
				got := deliverReplies(&s, []byte(v.input), piece)
				waits := got.rest > 0
				got.rest = 0
				if !got.equal(expect) || waits != v.wait {
					t.Errorf("%s: got %v waits %v, want %v waits %v", name, got, waits, expect, v.wait)
				}
				if v.err == nil && s.Partial() != v.wait {
					t.Errorf("%s: Partial() = %v", name, s.Partial())
				}
			}
		})
	}
}

// Each level says that four billion more elements follow: the sum must neither
// wrap around nor come to zero.
func TestNestedCountsNeverAddUpToTheEndOfAReply(t *testing.T) {
	level := []byte("%4294967296\r\n")
	buf := make([]byte, 0, 1<<20)
	var s ReplyScanner
	for {
		buf = append(buf, level...)
		n, err := s.Scan(buf)
		if n != 0 {
			t.Fatal("a reply that never ends was found whole")
		}
		if err != nil {
			if err != errReplyCount || len(buf) < 1000*len(level) {
				t.Fatalf("%v after %d levels", err, len(buf)/len(level))
			}
			return
		}
	}
}

func TestTenMillionLevelsOfNestingAreAReply(t *testing.T) {
	const levels = 10_000_000
	raw := []byte(strings.Repeat("*1\r\n", levels) + ":1\r\n")
	var s ReplyScanner
	if n, err := s.Scan(raw); n != len(raw) {
		t.Fatal(n, err)
	}
}

// A tree takes many times the bytes of the reply that it is made of.
func TestAValueHasAtMostSoManyLevels(t *testing.T) {
	nested := func(levels int) []byte { return []byte(strings.Repeat("*1\r\n", levels) + ":1\r\n") }
	if _, err := ParseValue(nested(maxDepth)); err != nil {
		t.Error(err)
	}
	for _, levels := range []int{maxDepth + 1, 10_000_000} {
		raw := nested(levels)
		used := testing.AllocsPerRun(1, func() {
			if _, err := ParseValue(raw); err != errReplyDepth {
				t.Errorf("%d levels: %v", levels, err)
			}
		})
		if used > 10 {
			t.Errorf("%d levels: %v allocations", levels, used)
		}
	}
}

func TestScannerSaysHowMuchOfAStringIsMissing(t *testing.T) {
	var s ReplyScanner
	if n, err := s.Scan([]byte("*2\r\n$100\r\nabc")); n != 0 || err != nil || s.Need() != 99 {
		t.Fatalf("n %d err %v need %d", n, err, s.Need())
	}
	if (&ReplyScanner{}).Need() != 1 {
		t.Fatal("a new scanner needs a byte")
	}
}
