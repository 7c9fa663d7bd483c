package codec

import (
	"math"
	"reflect"
	"testing"
)

func parse(t *testing.T, raw string) Value {
	t.Helper()
	v, err := ParseValue([]byte(raw))
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return v
}

func TestValuesOfEveryType(t *testing.T) {
	for raw, want := range map[string]Value{
		"+OK\r\n":            {Type: '+', Str: []byte("OK")},
		"-ERR a b\r\n":       {Type: '-', Str: []byte("ERR a b")},
		":-12\r\n":           {Type: ':', Str: []byte("-12"), Int: -12},
		"$3\r\na\r\n\r\n":    {Type: '$', Str: []byte("a\r\n")},
		"$-1\r\n":            {Type: '$', Null: true},
		"*-1\r\n":            {Type: '*', Null: true},
		"*0\r\n":             {Type: '*'},
		"_\r\n":              {Type: '_', Str: []byte{}, Null: true},
		"#t\r\n":             {Type: '#', Str: []byte("t"), Int: 1},
		"#f\r\n":             {Type: '#', Str: []byte("f")},
		",-1.5e3\r\n":        {Type: ',', Str: []byte("-1.5e3"), Float: -1500},
		",inf\r\n":           {Type: ',', Str: []byte("inf"), Float: math.Inf(1)},
		",1e999\r\n":         {Type: ',', Str: []byte("1e999"), Float: math.Inf(1)},
		":a\r\n":             {Type: ':', Str: []byte("a")},
		"#\r\n":              {Type: '#', Str: []byte{}},
		",x\r\n":             {Type: ',', Str: []byte("x")},
		"(a\rb\r\n":          {Type: '(', Str: []byte("a\rb")},
		"(12345\r\n":         {Type: '(', Str: []byte("12345")},
		"!5\r\nERR a\r\n":    {Type: '!', Str: []byte("ERR a")},
		"=5\r\ntxt:a\r\n":    {Type: '=', Str: []byte("txt:a")},
		"~1\r\n:1\r\n":       {Type: '~', Elems: []Value{{Type: ':', Str: []byte("1"), Int: 1}}},
		">1\r\n+a\r\n":       {Type: '>', Elems: []Value{{Type: '+', Str: []byte("a")}}},
		"%1\r\n+a\r\n*0\r\n": {Type: '%', Elems: []Value{{Type: '+', Str: []byte("a")}, {Type: '*'}}},
	} {
		if got := parse(t, raw); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", raw, got, want)
		}
	}
}

func TestStringsOfAValueCannotBeAppendedToInPlace(t *testing.T) {
	for _, raw := range []string{"$1\r\na\r\n", "+a\r\n"} {
		if v := parse(t, raw); cap(v.Str) != len(v.Str) {
			t.Errorf("%q: %d bytes of room after the text", raw, cap(v.Str)-len(v.Str))
		}
	}
}

func TestAttributesGoToTheValueAfterThem(t *testing.T) {
	v := parse(t, "|1\r\n+a\r\n+b\r\n|1\r\n+c\r\n|1\r\n+in\r\n+ner\r\n+d\r\n*2\r\n|1\r\n+e\r\n+f\r\n:1\r\n:2\r\n")
	texts := func(values []Value) (all string) {
		for _, v := range values {
			all += v.Text() + " "
		}
		return all
	}
	if got := texts(v.Attrs); got != "a b c d " {
		t.Errorf("attributes of the array: %s", got)
	}
	if got := texts(v.Attrs[3].Attrs); got != "in ner " {
		t.Errorf("attributes of an attribute's value: %s", got)
	}
	if len(v.Elems) != 2 || texts(v.Elems[0].Attrs) != "e f " || v.Elems[1].Attrs != nil {
		t.Errorf("elements: %+v", v.Elems)
	}
}

func TestLookupReadsMapsOfBothProtocols(t *testing.T) {
	for _, resp := range []int{2, 3} {
		raw := AppendMap(nil, 2, resp)
		raw = AppendBulkString(raw, "port")
		raw = AppendInt(raw, 7000)
		raw = AppendBulkString(raw, "role")
		raw = AppendVerbatim(raw, "txt", "master", resp)
		v := parse(t, string(raw))
		if port, ok := v.Lookup("port"); !ok || port.Int != 7000 {
			t.Errorf("RESP%d: port %+v %v", resp, port, ok)
		}
		if role, ok := v.Lookup("role"); !ok || role.Text() != "master" {
			t.Errorf("RESP%d: role %+v %v", resp, role, ok)
		}
		if _, ok := v.Lookup("master"); ok {
			t.Errorf("RESP%d: a value was taken for a key", resp)
		}
	}
}

func TestErrorsOfBothKindsAreErrors(t *testing.T) {
	if !parse(t, "-ERR a\r\n").IsError() || !parse(t, "!5\r\nERR a\r\n").IsError() || parse(t, "+ERR\r\n").IsError() {
		t.Fatal("IsError")
	}
}

func TestParseValueWantsExactlyOneReply(t *testing.T) {
	for raw, want := range map[string]error{
		"":             errReplyShort,
		"+OK":          errReplyShort,
		"+OK\r":        errReplyShort,
		"$2\r\na\r\n":  errReplyShort,
		"*2\r\n:1\r\n": errReplyShort,
		"|0\r\n":       errReplyShort,
		"+OK\r\n+":     errReplyTrailing,
		"*0\r\n\r\n":   errReplyTrailing,
	} {
		if _, err := ParseValue([]byte(raw)); err != want {
			t.Errorf("%q: %v, want %v", raw, err, want)
		}
	}
}

func TestParseValueAgreesWithTheScanner(t *testing.T) {
	for _, v := range replyVectors {
		agree(t, []byte(v.input))
	}
}

// agree checks that the scanner and ParseValue find the same end, or both none, unless elements lie too deep for ParseValue.
func agree(t *testing.T, input []byte) {
	t.Helper()
	var s ReplyScanner
	n, err := s.Scan(input)
	switch {
	case n > 0:
		if _, err := ParseValue(input[:n]); err != nil && err != errReplyDepth {
			t.Errorf("%q: scanned, but %v", input[:n], err)
		}
		if _, err := ParseValue(input[:n-1]); err == nil {
			t.Errorf("%q: parsed without its last byte", input[:n])
		}
	case err != nil:
		if _, parseErr := ParseValue(input); parseErr == nil {
			t.Errorf("%q: parsed, but the scanner says %v", input, err)
		}
	default:
		if _, err := ParseValue(input); err == nil {
			t.Errorf("%q: parsed, but the scanner waits", input)
		}
	}
}
