package config

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// Redis reads configuration lines and inline commands with the same function, so that an inline
// EVAL shows how it cuts a line.
func TestLinesAreCutAsRedisCutsThem(t *testing.T) {
	server := redistest.Start(t)
	conn := redistest.Dial(t, server.Addr())
	random := rand.New(rand.NewPCG(1, 2))
	const letters = `aa  xn41""'\` + "\t"
	cut, unbalanced := 0, 0
	for range 4000 {
		line := make([]byte, random.IntN(14))
		for i := range line {
			line[i] = letters[random.IntN(len(letters))]
		}
		words, err := splitWords(string(line))
		if err != nil {
			// Redis would close the connection: ask again with a fresh one.
			c := redistest.Dial(t, server.Addr())
			c.WriteString("ECHO " + string(line) + "\r\n")
			if got := c.RecvRaw(); !strings.Contains(got, "unbalanced quotes") {
				t.Errorf("%q: berth says %v, redis %q", line, err, got)
			}
			c.Close()
			unbalanced++
			continue
		}
		conn.WriteString("EVAL \"return ARGV\" 0 " + string(line) + "\r\n")
		reply, _ := conn.Recv().([]any)
		var got []string
		for _, w := range reply {
			got = append(got, w.(string))
		}
		if !slices.Equal(got, words) {
			t.Errorf("%q: redis cuts %q, berth %q", line, got, words)
		}
		cut++
	}
	if cut < 500 || unbalanced < 500 {
		t.Errorf("%d lines cut, %d unbalanced: the generator is one-sided", cut, unbalanced)
	}
}

func TestWordsAreQuotedOnlyWhenTheyNeedIt(t *testing.T) {
	for word, want := range map[string]string{"a": "a", "/run/berth.sock": "/run/berth.sock", "": `""`, "a b": `"a b"`, `a"b`: `"a\"b"`,
		`a\b`: `"a\\b"`, "#a": `"#a"`, "a#": "a#", "\n": `"\x0a"`, "ü": `"\xc3\xbc"`} {
		if got := quoteWord(word); got != want {
			t.Errorf("%q is written %s, want %s", word, got, want)
		}
	}
}

func FuzzWordsReadBackAsWritten(f *testing.F) {
	f.Add("a", "b c")
	f.Add("", "\\x41\"'")
	f.Fuzz(func(t *testing.T, a, b string) {
		got, err := splitWords(" " + quoteWords([]string{a, b}) + "\t")
		if err != nil || !slices.Equal(got, []string{a, b}) {
			t.Errorf("%q %q: read back as %q, %v", a, b, got, err)
		}
		splitWords(a + b) // must not panic
	})
}
