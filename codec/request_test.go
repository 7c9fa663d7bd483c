package codec

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParserSaysHowMuchIsMissing(t *testing.T) {
	var p RequestParser
	if p.Need() != 1 || p.Partial() {
		t.Fatalf("a new parser: need %d, partial %v", p.Need(), p.Partial())
	}
	input := "*2\r\n$4\r\nECHO\r\n$100\r\n" + strings.Repeat("a", 100) + "\r\n"
	for _, c := range []struct{ have, need int }{
		{1, 1}, {4, 1}, {6, 1}, {8, 6}, {12, 2}, {13, 1}, {14, 1}, {20, 102}, {21, 101}, {121, 1},
	} {
		n, err := p.Parse([]byte(input[:c.have]), nil)
		if n != 0 || err != nil || p.Need() != c.need || !p.Partial() {
			t.Errorf("%q: n %d err %v need %d partial %v, want need %d", input[:c.have], n, err, p.Need(), p.Partial(), c.need)
		}
	}
	if n, err := p.Parse([]byte(input), nil); n != len(input) || p.Partial() || p.Need() != 1 {
		t.Errorf("n %d err %v need %d partial %v", n, err, p.Need(), p.Partial())
	}
}

func TestEveryRequestBeginsAnewWithoutReset(t *testing.T) {
	requests := []string{
		"set 'a b' c\r\n", "*1\r\n$4\r\nPING\r\n", "PING\r\n", "*0\r\n", "\r\n", "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", "*-1\r\n", "x y\n",
	}
	want := []string{"[set a b c]", "[PING]", "[PING]", "[]", "[]", "[ECHO ]", "[]", "[x y]"}
	var p RequestParser
	for round := range 40 {
		for i, request := range requests {
			// Each round cuts the requests at another place, or not at all.
			for _, have := range []int{round % len(request), len(request)} {
				n, err := p.Parse([]byte(request[:have]), nil)
				if err != nil || (n > 0) != (have == len(request)) {
					t.Fatalf("%q: %d %v", request[:have], n, err)
				}
			}
			if got := fmt.Sprintf("%s", p.Args()); got != want[i] || p.Partial() {
				t.Fatalf("%q: got %s, partial %v", request, got, p.Partial())
			}
			if p.Inline() != (request[0] != '*') {
				t.Fatalf("%q: inline %v", request, p.Inline())
			}
		}
	}
}

func TestResetForgetsAnInterruptedRequest(t *testing.T) {
	for _, cut := range []string{"*", "*2\r", "*2\r\n$4\r\nECHO\r\n$1", "*2\r\n$4\r\nECHO\r\n$10\r\nab", "inline", "*3\r\n$1\r\na\r\n"} {
		var p RequestParser
		if n, err := p.Parse([]byte(cut), nil); n != 0 || err != nil || !p.Partial() {
			t.Fatalf("%q: %d %v", cut, n, err)
		}
		p.Reset()
		if p.Partial() {
			t.Errorf("%q: still partial after Reset", cut)
		}
		if n, err := p.Parse([]byte("*1\r\n$4\r\nPING\r\n"), nil); n != 14 || len(p.Args()) != 1 {
			t.Errorf("after %q: %d %v %q", cut, n, err, p.Args())
		}
	}
}

func TestLimitsAreHeldToTheByte(t *testing.T) {
	for _, c := range []struct {
		name  string
		lim   Limits
		input string
		err   error
	}{
		{"bulk", Limits{MaxBulk: 5}, "*1\r\n$5\r\nabcde\r\n", nil},
		{"bulk and one", Limits{MaxBulk: 5}, "*1\r\n$6\r\nabcdef\r\n", errBulkLength},
		{"arguments", Limits{MaxArgs: 2}, "*2\r\n$1\r\na\r\n$1\r\nb\r\n", nil},
		{"arguments and one", Limits{MaxArgs: 2}, "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", errMultibulkLength},
		{"inline", Limits{MaxInline: 5}, "abcd\r\n", nil},
		{"inline and one", Limits{MaxInline: 5}, "abcde\r\n", errInlineSize},
		{"a header is not an inline request", Limits{MaxInline: 5}, "*1\r\n$10\r\nabcdefghij\r\n", nil},
		{"any bulk, but not beyond the largest offset", Limits{MaxBulk: math.MaxInt}, "*1\r\n$9223372036854775807\r\n", errBulkLength},
		{"unauthenticated, and a smaller limit", Limits{MaxBulk: 5, Unauthenticated: true}, "*1\r\n$6\r\nabcdef\r\n", errBulkLength},
		{"unauthenticated bulk", Limits{Unauthenticated: true}, "*1\r\n$16384\r\n" + strings.Repeat("a", 16384) + "\r\n", nil},
		{"unauthenticated bulk and one", Limits{Unauthenticated: true}, "*1\r\n$16385\r\n" + strings.Repeat("a", 16385) + "\r\n", errUnauthBulk},
	} {
		input := []byte(c.input)
		for _, piece := range []int{1, 7, len(input)} {
			var p RequestParser
			n, err := 0, error(nil)
			for have := piece; n == 0 && err == nil && have < len(input)+piece; have += piece {
				n, err = p.Parse(input[:min(have, len(input))], &c.lim)
			}
			if err != c.err || (err == nil && n != len(c.input)) {
				t.Errorf("%s, %d bytes at a time: %d %v, want %v", c.name, piece, n, err, c.err)
			}
		}
	}
}

func TestALimitThatChangesCountsFromTheNextLength(t *testing.T) {
	var p RequestParser
	input := []byte("*2\r\n$5\r\nabcde\r\n$5\r\nabcde\r\n")
	if n, err := p.Parse(input[:10], &Limits{MaxBulk: 5}); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := p.Parse(input, &Limits{MaxBulk: 4}); n != 0 || err != errBulkLength {
		t.Fatal(n, err)
	}
}

func TestManyArgumentsAreTakenInSlicesWhileTheirBytesMove(t *testing.T) {
	const count = 3*sliceArgs + 7
	raw := AppendArray(nil, count)
	for i := range count {
		raw = AppendBulkString(raw, strconv.Itoa(i))
	}
	whole := len(raw)
	raw = append(raw, command("PING")...)
	for moves := range 10 { // the bytes move before that call
		var p RequestParser
		buf := slices.Clone(raw)
		have, n := len(raw)/2, 0
		for call := 0; n == 0; call++ {
			if call == moves {
				moved := slices.Clone(buf)
				clear(buf)
				buf = moved
			}
			var err error
			if n, err = p.Parse(buf[:have], nil); err != nil {
				t.Fatal(err)
			}
			switch {
			case n > 0 && call < 2*count/sliceArgs:
				t.Fatalf("all was done in %d calls", call+1)
			case n == 0 && !p.Partial():
				t.Fatal("nothing is found and nothing begun")
			case n == 0 && !p.Begun():
				have = len(raw)
			}
		}
		if n != whole || len(p.Args()) != count {
			t.Fatalf("%d arguments in %d bytes", len(p.Args()), n)
		}
		for i, arg := range p.Args() {
			if string(arg) != strconv.Itoa(i) {
				t.Fatalf("bytes moved before call %d: argument %d is %q", moves, i, arg)
			}
		}
	}
}
