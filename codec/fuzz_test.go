package codec

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// fuzzSize keeps single executions fast: nothing new happens in longer inputs when
// the limits are small as well.
const fuzzSize = 512

// fuzzLimits makes limits of a byte, among them such as short inputs reach.
func fuzzLimits(flags byte) *Limits {
	lim := &Limits{Unauthenticated: flags&1 != 0}
	if flags&2 != 0 {
		lim.MaxInline = 70
	}
	if flags&4 != 0 {
		lim.MaxBulk = 20
	}
	if flags&8 != 0 {
		lim.MaxArgs = 3
	}
	return lim
}

// cutBy makes piece lengths of bytes, over and over.
func cutBy(cuts []byte) func(int) int {
	if len(cuts) == 0 {
		return bytewise
	}
	return func(i int) int { return int(cuts[i%len(cuts)]) }
}

func seedRequests(f *testing.F, add func(input []byte, flags byte)) {
	f.Helper()
	for _, v := range vectors {
		flags := byte(0)
		if v.lim.Unauthenticated {
			flags = 1
		}
		input := []byte(v.input)
		if len(input) > 100 {
			input, flags = input[:100], 2
		}
		add(input, flags)
	}
	add(command("SET", "k", "a value beyond the limit"), 4)
	add(command("MGET", "a", "b", "c", "d"), 8)
}

func FuzzRequestSplit(f *testing.F) {
	seedRequests(f, func(input []byte, flags byte) { f.Add(input, []byte{3, 1, 7}, flags) })
	f.Fuzz(func(t *testing.T, input, cuts []byte, flags byte) {
		input = input[:min(len(input), fuzzSize)]
		lim := fuzzLimits(flags)
		var p RequestParser
		whole := deliverRequests(&p, input, lim, wholly)
		for _, piece := range []func(int) int{bytewise, cutBy(cuts)} {
			var p RequestParser
			if split := deliverRequests(&p, input, lim, piece); !split.equal(whole) {
				t.Fatalf("%q: whole %v, split %v", input, whole, split)
			}
		}
	})
}

func FuzzReplySplit(f *testing.F) {
	for _, v := range replyVectors {
		f.Add([]byte(v.input), []byte{3, 1, 7})
	}
	f.Fuzz(func(t *testing.T, input, cuts []byte) {
		input = input[:min(len(input), fuzzSize)]
		var s ReplyScanner
		whole := deliverReplies(&s, input, wholly)
		for _, piece := range []func(int) int{bytewise, cutBy(cuts)} {
			var s ReplyScanner
			if split := deliverReplies(&s, input, piece); !split.equal(whole) {
				t.Fatalf("%q: whole %v, split %v", input, whole, split)
			}
		}
		agree(t, input)
	})
}

// cutArgs cuts data into arguments of the lengths in sizes.
func cutArgs(data, sizes []byte) (args [][]byte) {
	for _, size := range sizes {
		n := min(int(size), len(data))
		args = append(args, data[:n])
		data = data[n:]
	}
	return append(args, data)
}

// quoteInline writes arguments as a person would type them.
func quoteInline(args [][]byte) (line []byte) {
	const hex = "0123456789aBcDeF"
	for _, arg := range args {
		line = append(line, '"')
		for _, c := range arg {
			if c < ' ' || c > '~' || c == '"' || c == '\\' {
				line = append(line, '\\', 'x', hex[c>>4], hex[c&15])
				continue
			}
			line = append(line, c)
		}
		line = append(line, '"', ' ')
	}
	return append(line, '\r', '\n')
}

func FuzzRequestRoundTrip(f *testing.F) {
	f.Add([]byte("SETkvalue"), []byte{3, 1})
	f.Add([]byte("GET\r\n\x00\xff"), []byte{3, 0, 1})
	f.Add(bytes.Repeat([]byte{'a'}, 1200), []byte{9, 10, 99, 100, 0})
	f.Fuzz(func(t *testing.T, data, sizes []byte) {
		data = data[:min(len(data), fuzzSize)]
		args := cutArgs(data, sizes[:min(len(sizes), 32)])
		texts := make([]string, len(args))
		for i, arg := range args {
			texts[i] = string(arg)
		}
		raw := AppendCommand(nil, args...)
		if text := AppendCommandString(nil, texts...); !bytes.Equal(raw, text) {
			t.Fatalf("AppendCommand %q, AppendCommandString %q", raw, text)
		}
		want := delivery{items: []string{string(raw)}}
		for _, raw := range [][]byte{raw, quoteInline(args)} {
			var p RequestParser
			if got := deliverRequests(&p, raw, nil, wholly); !got.equal(want) {
				t.Fatalf("%q: got %v, want %v", raw, got, want)
			}
		}
	})
}

// A grower makes a reply of fuzz input, and beside it what ParseValue must make of it.
type grower struct{ input []byte }

func (g *grower) next() byte {
	if len(g.input) == 0 {
		return 0
	}
	b := g.input[0]
	g.input = g.input[1:]
	return b
}

func (g *grower) text(n int) []byte {
	n = min(n, len(g.input))
	text := g.input[:n]
	g.input = g.input[n:]
	return text
}

// value appends one reply to raw, and answers its tree.
func (g *grower) value(raw []byte, depth int) ([]byte, Value) {
	const resp = 3
	kinds := 17
	if depth >= maxDepth-1 || len(g.input) == 0 {
		kinds = 11
	}
	switch kind := int(g.next()) % kinds; kind {
	case 0:
		return AppendNull(raw, resp), Value{Type: '_', Str: []byte{}, Null: true}
	case 1:
		return AppendNull(raw, 2), Value{Type: '$', Null: true}
	case 2:
		return AppendNullArray(raw, 2), Value{Type: '*', Null: true}
	case 3:
		v := int64(g.next())<<56 | int64(g.next())<<31 | int64(g.next())
		return AppendInt(raw, v), Value{Type: ':', Str: fmt.Append(nil, v), Int: v}
	case 4:
		v := Value{Type: '#', Str: []byte{'f'}}
		if g.next()&1 != 0 {
			v = Value{Type: '#', Str: []byte{'t'}, Int: 1}
		}
		return AppendBool(raw, v.Int == 1, resp), v
	case 5:
		v := float64(int8(g.next())) * 1e10 / float64(1+int(g.next()))
		return AppendDouble(raw, v, resp), Value{Type: ',', Str: formatDouble(nil, v), Float: v}
	case 6:
		text := g.text(int(g.next()))
		return AppendBulk(raw, text), Value{Type: '$', Str: text}
	case 7:
		text := g.text(int(g.next()))
		return AppendVerbatim(raw, "txt", string(text), resp), Value{Type: '=', Str: append([]byte("txt:"), text...)}
	case 8, 9:
		text := bytes.ToValidUTF8(g.text(int(g.next())), nil)
		if kind == 9 { // the line end of an error's words is left out
			text = bytes.TrimRight(text, "\r\n")
		}
		clean := bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' {
				return ' '
			}
			return r
		}, text)
		if kind == 8 {
			return AppendSimple(raw, string(text)), Value{Type: '+', Str: clean}
		}
		return AppendError(raw, string(text)), Value{Type: '-', Str: clean}
	case 10:
		return append(raw, "(123456789012345678901234567890\r\n"...), Value{Type: '(', Str: []byte("123456789012345678901234567890")}
	case 11:
		n := int(g.next()) % 8
		return g.elements(AppendArray(raw, n), Value{Type: '*'}, n, depth)
	case 12:
		n := int(g.next()) % 8
		return g.elements(AppendMap(raw, n, resp), Value{Type: '%'}, 2*n, depth)
	case 13:
		n := int(g.next()) % 8
		return g.elements(AppendSet(raw, n, resp), Value{Type: '~'}, n, depth)
	case 14:
		n := int(g.next()) % 8
		return g.elements(AppendPush(raw, n, resp), Value{Type: '>'}, n, depth)
	case 15:
		text := g.text(int(g.next()))
		raw = appendHeader(raw, '!', len(text))
		raw = append(append(raw, text...), '\r', '\n')
		return raw, Value{Type: '!', Str: text}
	default:
		n := int(g.next()) % 4
		raw, attrs := g.elements(appendHeader(raw, '|', n), Value{}, 2*n, depth)
		raw, v := g.value(raw, depth+1)
		v.Attrs = append(attrs.Elems, v.Attrs...)
		return raw, v
	}
}

func (g *grower) elements(raw []byte, v Value, n, depth int) ([]byte, Value) {
	for range n {
		var elem Value
		raw, elem = g.value(raw, depth+1)
		v.Elems = append(v.Elems, elem)
	}
	return raw, v
}

func sameTree(a, b Value) bool {
	return a.Type == b.Type && a.Null == b.Null && bytes.Equal(a.Str, b.Str) && a.Int == b.Int && a.Float == b.Float &&
		slices.EqualFunc(a.Elems, b.Elems, sameTree) && slices.EqualFunc(a.Attrs, b.Attrs, sameTree)
}

func FuzzReplyRoundTrip(f *testing.F) {
	for kind := range byte(17) {
		f.Add([]byte{kind, 3, 6, 2, 'a', 'b', kind, 1, 8, 1, '\r'})
		f.Add([]byte{11, 2, kind, 2, 'a', 'b', 'c'})
		f.Add([]byte{16, 1, kind, 2, 6, 1, 'x', 16, 1, 0, 0, kind, 3, 1, 1, 1})
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		g := &grower{input[:min(len(input), fuzzSize)]}
		raw, want := g.value(nil, 0)
		got, err := ParseValue(raw)
		if err != nil || !sameTree(got, want) {
			t.Fatalf("%q: %v\ngot  %+v\nwant %+v", raw, err, got, want)
		}
		var s ReplyScanner
		if n, err := s.Scan(append(raw, "+OK\r\n"...)); n != len(raw) {
			t.Fatalf("%q: scanned %d of %d bytes: %v", raw, n, len(raw), err)
		}
		agree(t, raw)
	})
}

// The bytes after the input in memory must not matter.
func FuzzNoOverRead(f *testing.F) {
	seedRequests(f, func(input []byte, flags byte) { f.Add(input, flags) })
	for _, v := range replyVectors {
		f.Add([]byte(v.input), byte(0))
	}
	tails := [][]byte{
		bytes.Repeat([]byte{0xEE}, 64),
		[]byte("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"),
		[]byte("\n1\r\n$1\r\na\r\n:1\r\n+OK\r\n\"'\n"),
		[]byte("0000000000000000000000\r\n"),
	}
	f.Fuzz(func(t *testing.T, input []byte, flags byte) {
		input = input[:min(len(input), fuzzSize)]
		lim := fuzzLimits(flags)
		wantRequest, wantReply := firstOf(elsewhere(input), lim)
		for _, tail := range tails {
			memory := append(elsewhere(input), tail...)
			request, reply := firstOf(memory[:len(input)], lim)
			if request != wantRequest || reply != wantReply {
				t.Fatalf("%q with %q after it: got %s %s, want %s %s", input, tail, request, reply, wantRequest, wantReply)
			}
			if !bytes.Equal(memory[:len(input)], input) || !bytes.Equal(memory[len(input):], tail) {
				t.Fatalf("%q with %q after it was written to", input, tail)
			}
		}
	})
}

// firstOf tells what buf begins with as a request and as a reply, and how much is
// missing.
func firstOf(buf []byte, lim *Limits) (request, reply string) {
	var p RequestParser
	n, err := p.Parse(buf, lim)
	request = fmt.Sprint(n, err, p.Need(), p.Partial())
	if n > 0 {
		request += describe(&p, buf[:n])
	}
	var s ReplyScanner
	n, err = s.Scan(buf)
	return request, fmt.Sprint(n, err, s)
}
