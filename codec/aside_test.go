package codec

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// Setting an argument aside changes nothing for the bytes before and after it, wherever the bytes
// are cut.
func TestArgumentSetAsideLeavesTheOthers(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, words := range [][]string{
		{"SET", "k", long}, {"SET", "k", long, "EX", "10"}, {"HSET", "k", "f", long, "g", long}, {"SET", "k", long, ""},
	} {
		var whole []byte
		whole = AppendArray(whole, len(words))
		for _, w := range words {
			whole = AppendBulk(whole, []byte(w))
		}
		for first := 1; first < len(whole); first++ {
			rest, args, aside := parseAside(t, whole, first)
			if aside == 0 {
				continue // the argument came whole
			}
			want := AppendArray(nil, len(words))
			for i, w := range words {
				want = AppendBulk(want, []byte(w))
				if args[i] == "aside" {
					want = append(want[:len(want)-len(w)-2], "\r\n"...)
				}
			}
			if string(rest) != string(want) {
				t.Fatalf("%q cut at %d: rest %q", words, first, rest)
			}
			for i, w := range words {
				if args[i] != w && (w != long || args[i] != "aside") {
					t.Fatalf("%q cut at %d: argument %d is %q", words, first, i, args[i])
				}
			}
		}
	}
}

// parseAside feeds the request in two reads, then byte by byte, and sets aside every long argument
// that is interrupted.
func parseAside(t *testing.T, whole []byte, first int) (rest []byte, args []string, aside int) {
	t.Helper()
	var p RequestParser
	var buf []byte
	missing := 0
	for i := 0; i < len(whole); {
		next := whole[i : i+1]
		if i == 0 {
			next = whole[:first]
		}
		i += len(next)
		k := min(missing, len(next))
		missing -= k
		buf = append(buf, next[k:]...)
		if missing > 0 || len(next) == k {
			continue
		}
		n, err := p.Parse(buf, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			for _, a := range p.Args() {
				if a == nil {
					args = append(args, "aside")
				} else {
					args = append(args, string(a))
				}
			}
			return buf[:n], args, aside
		}
		if _, from, length := p.Long(50); length > 0 {
			if got := p.First(buf); !bytes.HasPrefix(whole[4:], []byte(fmt.Sprintf("$%d\r\n%s", len(got), got))) {
				t.Fatalf("first argument: %q", got)
			}
			here := min(length, len(buf)-from)
			buf = append(buf[:from], buf[from+here:]...)
			missing = length - here
			p.SetAside()
			aside++
		}
	}
	t.Fatalf("%q cut at %d: never complete", whole, first)
	return nil, nil, 0
}

// The settled bytes of a reply can be taken away, wherever the bytes are cut, and Scan still finds
// the end.
func TestRepliesArePassedOnInParts(t *testing.T) {
	for _, reply := range []string{
		"$10\r\n0123456789\r\n", "*2\r\n$3\r\nabc\r\n*2\r\n:1\r\n$-1\r\n", "%1\r\n+k\r\n=7\r\ntxt:abc\r\n", "~2\r\n,1.5\r\n#t\r\n", "+OK\r\n",
	} {
		for step := 1; step <= len(reply); step++ {
			var s ReplyScanner
			var buf, got []byte
			ends := 0
			for i := 0; i < len(reply); i += step {
				buf = append(buf, reply[i:min(i+step, len(reply))]...)
				n, err := s.Scan(buf)
				if err != nil {
					t.Fatalf("%q by %d: %v", reply, step, err)
				}
				if n > 0 {
					ends++
				} else if n = s.Settled(buf); n > 0 {
					s.Shift(n)
				}
				got = append(got, buf[:n]...)
				buf = buf[n:]
			}
			if string(got) != reply || ends != 1 || len(buf) > 0 {
				t.Fatalf("%q by %d: %q and %q, ends %d", reply, step, got, buf, ends)
			}
		}
	}
	var s ReplyScanner
	s.Scan([]byte("$4\r\nab"))
	s.Shift(s.Settled([]byte("$4\r\nab")))
	if _, err := s.Scan([]byte("cd!!")); err == nil {
		t.Error("a string without its line end went through")
	}
}
