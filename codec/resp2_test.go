package codec

import (
	"bytes"
	"testing"
)

func TestRESP3RepliesInRESP2(t *testing.T) {
	for _, tc := range []struct {
		name, reply, want string
		pairs             bool
	}{
		{"a string", "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n", false},
		{"nothing", "_\r\n", "$-1\r\n", false},
		{"an empty string", "$0\r\n\r\n", "$0\r\n\r\n", false},
		{"a null of RESP2", "$-1\r\n", "$-1\r\n", false},
		{"an integer", ":-5\r\n", ":-5\r\n", false},
		{"a line", "+string\r\n", "+string\r\n", false},
		{"a double", ",1.5\r\n", "$3\r\n1.5\r\n", false},
		{"infinity", ",-inf\r\n", "$4\r\n-inf\r\n", false},
		{"a big number", "(123\r\n", "$3\r\n123\r\n", false},
		{"booleans", "*2\r\n#t\r\n#f\r\n", "*2\r\n:1\r\n:0\r\n", false},
		{"a verbatim string", "=6\r\ntxt:ab\r\n", "$2\r\nab\r\n", false},
		{"a map", "%1\r\n$1\r\nk\r\n$1\r\nv\r\n", "*2\r\n$1\r\nk\r\n$1\r\nv\r\n", false},
		{"an empty map", "%0\r\n", "*0\r\n", false},
		{"a set", "~2\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n$1\r\na\r\n$1\r\nb\r\n", false},
		{"an array with nothing in it", "*3\r\n$1\r\na\r\n_\r\n$1\r\nb\r\n", "*3\r\n$1\r\na\r\n$-1\r\n$1\r\nb\r\n", false},
		{"pairs", "*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n",
			"*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$3\r\n2.5\r\n", true},
		{"no pairs", "*0\r\n", "*0\r\n", true},
		{"arrays in an array", "*1\r\n*2\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", "*1\r\n*2\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", false},
		{"what looks like a reply in a string", "$9\r\n%1\r\n_\r\n,1\r\n", "$9\r\n%1\r\n_\r\n,1\r\n", false},
	} {
		var s ReplyScanner
		if n, err := s.Scan([]byte(tc.reply)); n != len(tc.reply) || err != nil {
			t.Fatalf("%s: %q is no reply: %d, %v", tc.name, tc.reply, n, err)
		}
		if got := string(AppendRESP2([]byte("before"), []byte(tc.reply), tc.pairs)); got != "before"+tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if got := string(RESP2([]byte(tc.reply), tc.pairs)); got != tc.want {
			t.Errorf("%s by itself: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func FuzzRESP2(f *testing.F) {
	f.Add([]byte("*2\r\n%1\r\n,1\r\n_\r\n~1\r\n$1\r\na\r\n"), false)
	f.Add([]byte("*1\r\n*2\r\n$1\r\na\r\n,1\r\n"), true)
	f.Fuzz(func(t *testing.T, reply []byte, pairs bool) {
		var s ReplyScanner
		if n, err := s.Scan(reply); n != len(reply) || err != nil || len(reply) == 0 || bytes.IndexByte(reply, '|') >= 0 {
			return
		}
		got := AppendRESP2(nil, reply, pairs)
		if pairs {
			return // only commands with pairs ask for them
		}
		var again ReplyScanner
		if n, err := again.Scan(got); n != len(got) || err != nil {
			t.Errorf("%q becomes %q: %d, %v", reply, got, n, err)
		}
	})
}
