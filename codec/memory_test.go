package codec

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

const (
	pieceSize = 1 << 10
	largeSize = 16 << 20
)

// spoiled is what poisoned bytes look like.
var spoiled = bytes.Repeat([]byte{0xEE}, pieceSize)

// inPieces hands raw to find a kilobyte at a time. Each time it poisons the bytes
// that find has finished, up to spent(), so a find that reads bytes twice misses
// the end. It returns how many bytes find was able to read in all.
func inPieces(t *testing.T, raw []byte, find func(buf []byte) (int, error), spent func(have int) int) (readable int) {
	t.Helper()
	buf := elsewhere(raw)
	done := 0
	for have := 0; have < len(buf); {
		have = min(have+pieceSize, len(buf))
		readable += have - done
		n, err := find(buf[:have:have])
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", have, len(buf), err)
		}
		if n > 0 {
			if n != len(buf) {
				t.Fatalf("found %d bytes of %d", n, len(buf))
			}
			return readable
		}
		now := max(done, spent(have))
		for done < now {
			done += copy(buf[done:now], spoiled)
		}
	}
	t.Fatal("did not find the end")
	return 0
}

// spent is the offset up to which the parser has finished with its bytes.
func (p *RequestParser) spent(have int) int {
	if p.end > 0 {
		return min(have, p.end-2)
	}
	return p.pos
}

func (s *ReplyScanner) spent(have int) int {
	if s.end > 0 {
		return min(have, s.end-2)
	}
	return s.pos
}

func TestALargeArgumentInSmallPiecesIsReadOnce(t *testing.T) {
	costs := map[int]int{}
	for _, size := range []int{largeSize / 2, largeSize} {
		raw := AppendCommand(nil, []byte("SET"), []byte("k"), make([]byte, size), []byte("GET"))
		var p RequestParser
		costs[size] = inPieces(t, raw, func(buf []byte) (int, error) { return p.Parse(buf, nil) }, p.spent)
		if got := p.Args(); len(got) != 4 || len(got[2]) != size || cap(got[2]) != size {
			t.Fatalf("%d arguments", len(got))
		}
		if costs[size] > size+size/4 {
			t.Errorf("%d bytes were readable for a request of %d", costs[size], len(raw))
		}
	}
	if ratio := float64(costs[largeSize]) / float64(costs[largeSize/2]); ratio > 2.3 {
		t.Errorf("16 MB cost %.2f times 8 MB", ratio)
	}
}

func TestALargeReplyInSmallPiecesIsReadOnce(t *testing.T) {
	costs := map[int]int{}
	for _, size := range []int{largeSize / 2, largeSize} {
		raw := AppendArray(nil, 2)
		raw = AppendBulk(raw, make([]byte, size))
		raw = AppendInt(raw, 1)
		var s ReplyScanner
		costs[size] = inPieces(t, raw, s.Scan, s.spent)
		if costs[size] > size+size/4 {
			t.Errorf("%d bytes were readable for a reply of %d", costs[size], len(raw))
		}
	}
	if ratio := float64(costs[largeSize]) / float64(costs[largeSize/2]); ratio > 2.3 {
		t.Errorf("16 MB cost %.2f times 8 MB", ratio)
	}
}

func TestManySmallElementsInPiecesAreReadOnce(t *testing.T) {
	raw := AppendArray(nil, 200_000)
	for i := range 200_000 {
		raw = AppendBulkString(raw, fmt.Sprint(i))
	}
	var s ReplyScanner
	if cost := inPieces(t, raw, s.Scan, s.spent); cost > len(raw)+len(raw)/10 {
		t.Errorf("%d bytes were readable for a reply of %d", cost, len(raw))
	}
	var p RequestParser
	cost := inPieces(t, raw, func(buf []byte) (int, error) { return p.ParseAll(buf, nil) }, p.spent)
	if cost > len(raw)+len(raw)/10 {
		t.Errorf("%d bytes were readable for a request of %d", cost, len(raw))
	}
	if len(p.Args()) != 200_000 {
		t.Errorf("%d arguments", len(p.Args()))
	}
}

// The end of a line is searched only among the bytes that are new.
func TestLongLinesInPiecesAreSearchedOnce(t *testing.T) {
	line := "+" + strings.Repeat("a", 8<<20) + "\r\n"
	var s ReplyScanner
	buf := []byte(line)
	for have := 1; have < len(buf); have = min(have+pieceSize, len(buf)) {
		if n, err := s.Scan(buf[:have]); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		// A CR anywhere in what was searched would be an error.
		for i := max(have-pieceSize, 1); i < min(have, len(buf)-2); i++ {
			buf[i] = '\r'
		}
	}
	if n, err := s.Scan(buf); n != len(buf) {
		t.Fatal(n, err)
	}

	// A parser that searches these bytes again finds that the first line is no length.
	header := []byte("*" + strings.Repeat("1", 60<<10) + "\r\n")
	var p RequestParser
	for have := 1; have < len(header)-1; have = min(have+pieceSize, len(header)-1) {
		if n, err := p.Parse(header[:have], nil); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		if have > 1 {
			header[have-1] = '\r'
		}
	}
	if n, err := p.Parse(header, nil); n != 0 || err != errMultibulkLength {
		t.Fatal(n, err)
	}
	p.Reset()

	// And here it finds a request that ends in its middle.
	inline := []byte(strings.Repeat("a", 60<<10) + "\n")
	for have := 1; have < len(inline); have = min(have+pieceSize, len(inline)) {
		if n, err := p.Parse(inline[:have], nil); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		inline[have-1] = '\n'
	}
	if n, err := p.Parse(inline, nil); n != len(inline) {
		t.Fatal(n, err)
	}
}

func TestDeclaredSizesAllocateNothing(t *testing.T) {
	for _, input := range []string{"*2147483647\r\n", "*2147483647\r\n$536870912\r\n", "*1\r\n$536870912\r\nabc"} {
		raw := []byte(input)
		allocs := testing.AllocsPerRun(100, func() {
			var p RequestParser
			if n, err := p.Parse(raw, nil); n != 0 || err != nil {
				t.Fatal(n, err)
			}
		})
		if allocs != 0 {
			t.Errorf("%q: %v allocations", input, allocs)
		}
	}
	for _, input := range []string{"*4294967296\r\n", "%4294967296\r\n|9\r\n$1099511627776\r\nabc"} {
		raw := []byte(input)
		allocs := testing.AllocsPerRun(100, func() {
			var s ReplyScanner
			if n, err := s.Scan(raw); n != 0 || err != nil {
				t.Fatal(n, err)
			}
		})
		if allocs != 0 {
			t.Errorf("%q: %v allocations", input, allocs)
		}
		before := totalAlloc()
		if _, err := ParseValue(raw); err == nil {
			t.Fatalf("%q parsed", input)
		}
		if used := totalAlloc() - before; used > 64<<10 {
			t.Errorf("%q: ParseValue allocated %d bytes", input, used)
		}
	}
}

func totalAlloc() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestCommonRequestsAndRepliesAllocateNothing(t *testing.T) {
	var p RequestParser
	var s ReplyScanner
	for _, raw := range [][]byte{command("GET", "k"), mgetCommand(100), []byte("PING\r\n"), []byte("set \"a b\" 'c'\n")} {
		allocs := testing.AllocsPerRun(100, func() {
			for _, have := range []int{len(raw) / 2, len(raw)} {
				if _, err := p.Parse(raw[:have], nil); err != nil {
					t.Fatal(err)
				}
			}
			if len(p.Args()) == 0 {
				t.Fatalf("%q is not whole", raw)
			}
			p.Reset()
		})
		if allocs != 0 {
			t.Errorf("%.20q: %v allocations", raw, allocs)
		}
	}
	for _, raw := range [][]byte{[]byte("+OK\r\n"), []byte("_\r\n"), []byte(",1.5\r\n"), arrayReply(100), shardsReply(3)} {
		allocs := testing.AllocsPerRun(100, func() {
			for _, have := range []int{len(raw) / 2, len(raw)} {
				if _, err := s.Scan(raw[:have]); err != nil {
					t.Fatal(err)
				}
			}
		})
		if allocs != 0 {
			t.Errorf("%.20q: %v allocations", raw, allocs)
		}
	}
}

func TestAMillionArgumentsDoNotPinTheirMemory(t *testing.T) {
	raw := AppendArray(nil, 1_000_000)
	raw = append(raw, bytes.Repeat([]byte("$1\r\na\r\n"), 1_000_000)...)
	for _, piece := range []int{len(raw), len(raw) / 2} {
		var p RequestParser
		for _, have := range []int{piece, len(raw)} {
			if n, err := p.ParseAll(raw[:have], nil); err != nil {
				t.Fatal(err)
			} else if n > 0 {
				break
			}
		}
		if len(p.Args()) != 1_000_000 {
			t.Fatalf("%d arguments", len(p.Args()))
		}
		p.Reset()
		if kept := cap(p.args) + cap(p.lens); kept > 2*keptArgs {
			t.Errorf("%d arguments' memory is kept", kept)
		}
	}
	long := []byte(strings.Repeat("a", 60<<10) + "\n")
	var p RequestParser
	if n, err := p.Parse(long, nil); n != len(long) {
		t.Fatal(n, err)
	}
	p.Reset()
	if cap(p.scratch) > keptScratch {
		t.Errorf("%d bytes of scratch are kept", cap(p.scratch))
	}
}

// Not after Reset, and not while a request waits for the rest of its bytes.
func TestNoViewOfOldBytesStays(t *testing.T) {
	stale := func(p *RequestParser) bool {
		for _, arg := range p.args[:cap(p.args)] {
			if arg != nil {
				return true
			}
		}
		return false
	}
	var p RequestParser
	if n, err := p.Parse(command("MGET", "a", "b", "c"), nil); n == 0 || !stale(&p) {
		t.Fatal(n, err, "no views to begin with")
	}
	p.Reset()
	if stale(&p) {
		t.Error("a view stayed after Reset")
	}
	if n, err := p.Parse(command("MGET", "a", "b", "c")[:30], nil); n != 0 || err != nil || len(p.lens) == 0 {
		t.Fatal(n, err, p.lens)
	}
	if stale(&p) {
		t.Error("a view stayed in an interrupted request")
	}
}

func TestParsersAreSmall(t *testing.T) {
	if size := unsafe.Sizeof(ReplyScanner{}); size > 5*8 {
		t.Errorf("a ReplyScanner has %d bytes", size)
	}
	if size := unsafe.Sizeof(RequestParser{}); size > 16*8 {
		t.Errorf("a RequestParser has %d bytes", size)
	}
}
