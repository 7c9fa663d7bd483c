package codec

import (
	"strings"
	"testing"
)

// A vector is an input and its outcome: the requests in it, and then nothing (the
// input is used up), a wait for more, or an error.
type vector struct {
	name  string
	input string
	lim   Limits
	want  []string // requests, words separated by '|'
	wait  bool
	err   string
	// stricter marks what Redis reads, or waits for, and berth refuses.
	stricter bool
}

var longest = strings.Repeat("1", DefaultMaxInline)

var vectors = []vector{
	{name: "a request", input: "*2\r\n$4\r\nECHO\r\n$1\r\na\r\n", want: []string{"ECHO|a"}},
	{name: "an empty array is swallowed", input: "*0\r\n", want: []string{""}},
	{name: "a null array is swallowed", input: "*-1\r\n", want: []string{""}},
	{name: "any negative count is swallowed", input: "*-9223372036854775808\r\n*1\r\n$4\r\nPING\r\n", want: []string{"", "PING"}},
	{name: "a blank line is swallowed", input: "\r\n", want: []string{""}},
	{name: "a bare newline is swallowed", input: "\n\n", want: []string{"", ""}},
	{name: "a line of blanks is swallowed", input: " \t\v\f\r \n", want: []string{""}},
	{name: "an empty argument", input: "*1\r\n$0\r\n\r\n", want: []string{"<one empty argument>"}},
	{name: "binary argument", input: "*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\x00$\r\n", want: []string{"ECHO|\r\n\x00$"}},
	{name: "requests one after the other", input: "*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n", want: []string{"PING", "PING", "PING"}},

	{name: "CR without LF after the count", input: "*1\rX$4\rYPING\r\n", err: "Protocol error: expected CR LF after multibulk length", stricter: true},
	{name: "CR without LF after a length", input: "*1\r\n$4\rYPING\r\n", err: "Protocol error: expected CR LF after bulk length", stricter: true},
	{name: "other bytes after an argument", input: "*1\r\n$4\r\nPINGXX", err: "Protocol error: expected CR LF after bulk", stricter: true},
	{name: "LF CR after an argument", input: "*1\r\n$4\r\nPING\n\r", err: "Protocol error: expected CR LF after bulk", stricter: true},

	{name: "count with leading zero", input: "*01\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count 00", input: "*00\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count -0", input: "*-0\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count -01", input: "*-01\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count with plus", input: "*+1\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count with blank", input: "* 1\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count with a blank after it", input: "*1 \r\n", err: "Protocol error: invalid multibulk length"},
	{name: "no count", input: "*\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count -", input: "*-\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count of letters", input: "*a\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count is a question mark", input: "*?\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count 2^31", input: "*2147483648\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count 2^63-1", input: "*9223372036854775807\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count 2^63", input: "*9223372036854775808\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count -2^63-1", input: "*-9223372036854775809\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count 2^64+1", input: "*18446744073709551617\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "count of forty digits", input: "*1000000000000000000000000000000000000001\r\n", err: "Protocol error: invalid multibulk length"},
	{name: "the largest count waits", input: "*2147483647\r\n$4\r\nPING\r\n", wait: true},
	{name: "bad count, bad line end", input: "*01\rX", err: "Protocol error: invalid multibulk length"},

	{name: "length with leading zero", input: "*1\r\n$04\r\nPING\r\n", err: "Protocol error: invalid bulk length"},
	{name: "length 00", input: "*1\r\n$00\r\n\r\n", err: "Protocol error: invalid bulk length"},
	{name: "length -0", input: "*1\r\n$-0\r\n\r\n", err: "Protocol error: invalid bulk length"},
	{name: "length -1", input: "*1\r\n$-1\r\n", err: "Protocol error: invalid bulk length"},
	{name: "length with plus", input: "*1\r\n$+4\r\nPING\r\n", err: "Protocol error: invalid bulk length"},
	{name: "no length", input: "*1\r\n$\r\n", err: "Protocol error: invalid bulk length"},
	{name: "length is a question mark", input: "*1\r\n$?\r\n", err: "Protocol error: invalid bulk length"},
	{name: "length 512 MB and one", input: "*1\r\n$536870913\r\n", err: "Protocol error: invalid bulk length"},
	{name: "length 512 MB waits", input: "*1\r\n$536870912\r\n", wait: true},
	{name: "length 2^63", input: "*1\r\n$9223372036854775808\r\n", err: "Protocol error: invalid bulk length"},
	{name: "length 2^64+4", input: "*1\r\n$18446744073709551620\r\nPING\r\n", err: "Protocol error: invalid bulk length"},

	{name: "no dollar", input: "*1\r\nfoo\r\n", err: "Protocol error: expected '$', got 'f'"},
	{name: "count for length", input: "*1\r\n*1\r\n", err: "Protocol error: expected '$', got '*'"},
	{name: "empty line for length", input: "*1\r\n\r\n", err: "Protocol error: expected '$', got '\r'"},
	{name: "second argument is no bulk", input: "*2\r\n$4\r\nECHO\r\n:1\r\n", err: "Protocol error: expected '$', got ':'"},
	{name: "no dollar and no line end waits", input: "*1\r\nfoo", wait: true},
	{name: "no number and no line end waits", input: "*x", wait: true},
	{name: "CR alone waits", input: "*1\r", wait: true},

	{name: "endless count", input: "*" + longest, err: "Protocol error: too big mbulk count string"},
	{name: "long count waits", input: "*" + longest[1:], wait: true},
	{name: "endless length", input: "*1\r\n$" + longest, err: "Protocol error: too big bulk count string"},
	{name: "long length waits", input: "*1\r\n$" + longest[1:], wait: true},
	{name: "endless something for a length", input: "*1\r\n" + longest + "1", err: "Protocol error: too big bulk count string"},
	{name: "endless inline request", input: longest + "1", err: "Protocol error: too big inline request"},
	{name: "long inline request waits", input: longest, wait: true},

	{name: "unauthenticated, ten arguments", input: "*10\r\n" + strings.Repeat("$1\r\na\r\n", 10), lim: Limits{Unauthenticated: true}, want: []string{"a|a|a|a|a|a|a|a|a|a"}},
	{name: "unauthenticated, eleven arguments", input: "*11\r\n", lim: Limits{Unauthenticated: true}, err: "Protocol error: unauthenticated multibulk length"},
	{name: "unauthenticated, 2^31 arguments", input: "*2147483648\r\n", lim: Limits{Unauthenticated: true}, err: "Protocol error: invalid multibulk length"},
	{name: "unauthenticated, 16 KB", input: "*2\r\n$16384\r\n", lim: Limits{Unauthenticated: true}, wait: true},
	{name: "unauthenticated, 16 KB and one", input: "*2\r\n$16385\r\n", lim: Limits{Unauthenticated: true}, err: "Protocol error: unauthenticated bulk length"},
	{name: "unauthenticated, 512 MB and one", input: "*2\r\n$536870913\r\n", lim: Limits{Unauthenticated: true}, err: "Protocol error: invalid bulk length"},

	{name: "inline", input: "PING\n", want: []string{"PING"}},
	{name: "inline with CR", input: "PING\r\n", want: []string{"PING"}},
	{name: "inline, two CR", input: "PING\r\r\n", want: []string{"PING"}},
	{name: "inline, blanks", input: " \t echo\v \f x\v \r\n", want: []string{"echo\v|x\v"}},
	{name: "inline, escapes", input: `set "a\x00b\xfF\n\r\t\b\a\\\"\q" 'c\'\n' ` + "\n", want: []string{"set|a\x00b\xff\n\r\t\b\a\\\"q|c'\\n"}},
	{name: "inline, cut escapes", input: `echo "\x4" "\x" "\xg0"` + "\n", want: []string{"echo|x4|x|xg0"}},
	{name: "inline, empty words", input: `echo "" ''` + "\n", want: []string{"echo||"}},
	{name: "inline, quotes in a word", input: `echo foo"b a r" a'b'` + "\n", want: []string{"echo|foob a r|ab"}},
	{name: "inline, form feed after a quote", input: "echo \"a\"\f'b'\v\n", want: []string{"echo|a|b"}},
	{name: "inline, no double quote", input: "echo \"a\n", err: "Protocol error: unbalanced quotes in request"},
	{name: "inline, no single quote", input: "echo 'a\r\n", err: "Protocol error: unbalanced quotes in request"},
	{name: "inline, escaped quote at the end", input: `echo "a\"` + "\n", err: "Protocol error: unbalanced quotes in request"},
	{name: "inline, backslash at the end", input: `echo "a\` + "\n", err: "Protocol error: unbalanced quotes in request"},
	{name: "inline, letter after a quote", input: `echo "a"b` + "\n", err: "Protocol error: unbalanced quotes in request"},
	{name: "inline, quote after a quote", input: `echo 'a''b'` + "\n", err: "Protocol error: unbalanced quotes in request"},
	{name: "inline, NUL", input: "PING\x00\n", err: "Protocol error: NUL byte in inline request", stricter: true},
	{name: "a dollar is inline", input: "$4\r\nPING\r\n", want: []string{"$4", "PING"}},
}

// said is the vector's outcome in the form of a delivery, without the rest.
func (v vector) said() delivery {
	d := delivery{err: v.err}
	for _, want := range v.want {
		d.items = append(d.items, asCommand(want))
	}
	return d
}

// asCommand writes words separated by '|' as a multibulk request.
func asCommand(request string) string {
	switch request {
	case "":
		return "*0\r\n"
	case "<one empty argument>":
		return string(AppendCommandString(nil, ""))
	}
	return string(AppendCommandString(nil, strings.Split(request, "|")...))
}

func TestRequestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			for name, piece := range map[string]func(int) int{"in one piece": wholly, "byte by byte": bytewise} {
				if len(v.input) > 1000 && name == "byte by byte" {
					piece = func(int) int { return 1009 }
				}
				var p RequestParser
				got := deliverRequests(&p, []byte(v.input), &v.lim, piece)
				waits := got.rest > 0
				got.rest = 0
				if !got.equal(v.said()) || waits != v.wait {
					t.Errorf("%s: got %v waits %v, want %v waits %v", name, got, waits, v.said(), v.wait)
				}
				if v.err == "" && p.Partial() != v.wait {
					t.Errorf("%s: Partial() = %v", name, p.Partial())
				}
			}
		})
	}
}
