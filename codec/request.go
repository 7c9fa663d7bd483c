package codec

import (
	"bytes"
	"math"
	"slices"
)

const (
	// firstArgs is the room made for arguments when the first one arrives.
	firstArgs = 8
	// shortestBulk is an empty argument's size: so many bytes make no more arguments than one.
	shortestBulk = len("$0\r\n\r\n")
	// keptArgs and keptScratch are what a parser keeps between requests: one
	// command with a million arguments must not pin their memory.
	keptArgs    = 1024
	keptScratch = 4 << 10
	// sliceArgs is how many arguments a call of Parse looks at: a millisecond or
	// two. One command may have a million of them.
	sliceArgs = 64 << 10
)

// RequestParser finds one request after the other in a client's bytes. The zero
// value is ready.
//
//	          first byte '*'                     arguments left
//	between ────────────────▶ length line ──▶ ┌─▶ bulk length ──▶ bulk ─┐
//	requests                                  └───────────◀─────────────┘
//	   ▲  └── anything else ──▶ inline line ─┐                │ none left
//	   └─────────────────◀───────────────────┴────────◀───────┘
//
// Most requests arrive whole, and one call finds them. While a request is
// incomplete the parser relies on lengths and offsets only: the caller may move
// the bytes between two calls. Between requests it keeps no state, so sessions can
// share a parser, unless one of them has a Partial request on it.
type RequestParser struct {
	pos  int // offset of what has not been parsed yet
	end  int // offset after the argument being read, or viewed, and its CR LF; 0: its length comes next
	left int // arguments still missing; 0: between requests, or in a first line
	seen int // up to here no line end was found
	need int // bytes missing at least; 0: not in the middle of a request

	viewed *byte // start of the buffer that args are views of, to notice when it has moved; nil: no views

	begun   bool // Parse has read a slice of the arguments, and the next call reads the next slice
	inline  bool
	aside   bool     // the argument being read was set aside; its length is the last of lens already
	lens    []int    // lengths of the arguments so far, ^length of one set aside; empty if the request arrived whole
	args    [][]byte // the arguments of a complete request
	scratch []byte   // the arguments of an inline request, without quotes and blanks
}

// Parse looks for the request that begins at buf[0].
//
// n > 0: buf[:n] is one whole request; Args and Inline describe it. n == 0
// without an error: more bytes are needed; call again with the same bytes and more
// after them (they may have moved), and Parse goes on where it stopped. The error
// is a *ProtocolError; the parser is of no use after it until Reset.
//
// If a request has very many arguments, one call reads a slice of them only: n is
// 0, and Begun reports that the next call can go on with the same bytes.
//
// lim may be nil: Redis' defaults.
func (p *RequestParser) Parse(buf []byte, lim *Limits) (n int, err error) {
	if lim == nil {
		lim = &redisLimits
	}
	if p.left > 0 || p.begun {
		p.begun = false
		return p.parseArgs(buf, lim)
	}
	if len(buf) == 0 {
		return 0, nil
	}
	p.args = p.args[:0]
	if buf[0] != '*' {
		return p.parseInline(buf, lim)
	}
	p.inline = false
	count, width := shortLength(buf[1:])
	if width == 0 || count > lim.plainArgs() {
		if count, width, err = p.multibulkLength(buf, lim); width == 0 {
			return 0, err
		}
	}
	if count > sliceArgs {
		p.interrupt(nil, 1+width, count)
	} else if n = p.parseWhole(buf, 1+width, count, lim.plainBulk()); n > 0 {
		return n, nil
	}
	return p.parseArgs(buf, lim)
}

// ParseAll is Parse without slices, for a request that is all there.
func (p *RequestParser) ParseAll(buf []byte, lim *Limits) (n int, err error) {
	for n, err = p.Parse(buf, lim); p.begun && err == nil; {
		n, err = p.Parse(buf, lim)
	}
	return n, err
}

// parseWhole finds count arguments from pos on and returns where they end, if they
// are complete and well formed. If not, it returns 0 and leaves the rest to
// parseArgs: p.pos and p.left say where to go on.
func (p *RequestParser) parseWhole(buf []byte, pos, count, maxBulk int) (n int) {
	args := p.args
	for left := count; left > 0; left-- {
		if pos >= len(buf) || buf[pos] != '$' {
			return p.interrupt(args, pos, left)
		}
		length, width := shortLength(buf[pos+1:])
		from := pos + 1 + width
		to := from + length
		if width == 0 || length > maxBulk || to+2 > len(buf) || !isCRLF(buf[to:]) {
			return p.interrupt(args, pos, left)
		}
		if args == nil {
			args = make([][]byte, 0, max(firstArgs, min(count, len(buf)/shortestBulk)))
		}
		args = append(args, buf[from:to:to])
		pos = to + 2
	}
	p.args = args
	p.seen, p.need = 0, 0
	return pos
}

// interrupt turns the views of the arguments so far into lengths. It answers 0.
func (p *RequestParser) interrupt(args [][]byte, pos, left int) int {
	for _, arg := range args {
		p.addLen(len(arg))
	}
	p.args = args
	p.dropArgs()
	p.pos, p.end, p.left = pos, 0, left
	return 0
}

// parseArgs goes on with the arguments of a request that does not arrive whole, or
// that has something in it that needs a closer look.
func (p *RequestParser) parseArgs(buf []byte, lim *Limits) (n int, err error) {
	for room := sliceArgs; p.left > 0; room-- {
		if room == 0 {
			p.begun, p.need = true, 0
			return 0, nil
		}
		if p.end == 0 {
			length, width, err := p.bulkLength(buf, p.pos, lim)
			if width == 0 {
				return 0, err
			}
			p.pos += 1 + width
			p.end = p.pos + length + 2
		}
		if len(buf) < p.end {
			p.need = p.end - len(buf)
			return 0, nil
		}
		if !isCRLF(buf[p.end-2:]) {
			return 0, errBulkEnd
		}
		if !p.aside {
			p.addLen(p.end - 2 - p.pos)
		}
		p.aside = false
		p.pos, p.end = p.end, 0
		p.left--
	}
	if p.viewBulks(buf); p.begun {
		return 0, nil
	}
	n = p.pos
	p.between()
	return n, nil
}

// multibulkLength reads any "*<count> CR LF" at buf[0]. width counts the bytes
// after the '*'; it is 0 when the line is incomplete or wrong.
func (p *RequestParser) multibulkLength(buf []byte, lim *Limits) (count, width int, err error) {
	line, err := p.line(buf, 0, lim.maxHeader(), errMultibulkLineSize)
	if line < 0 {
		return 0, 0, err
	}
	v, ok := parseInt(buf[1:line])
	switch {
	case !ok || v > int64(lim.maxArgs()):
		return 0, 0, errMultibulkLength
	case v > unauthenticatedArgs && lim.Unauthenticated:
		return 0, 0, errUnauthMultibulk
	case buf[line+1] != '\n':
		return 0, 0, errMultibulkLineEnd
	}
	// Redis reads every count of zero or less as an empty request.
	return int(max(v, 0)), line + 1, nil
}

// bulkLength reads any "$<length> CR LF" at buf[pos]. width counts the bytes
// after the '$'; it is 0 when the line is incomplete or wrong.
func (p *RequestParser) bulkLength(buf []byte, pos int, lim *Limits) (length, width int, err error) {
	line, err := p.line(buf, pos, lim.maxHeader(), errBulkLineSize)
	if line < 0 {
		return 0, 0, err
	}
	if buf[pos] != '$' {
		return 0, 0, errExpectedBulk(buf[pos])
	}
	// The offset after the bulk must be an int, too, whatever MaxBulk says.
	longest := min(int64(lim.maxBulk()), math.MaxInt-int64(line)-4)
	v, ok := parseInt(buf[pos+1 : line])
	switch {
	case !ok || v < 0 || v > longest:
		return 0, 0, errBulkLength
	case v > unauthenticatedBulk && lim.Unauthenticated:
		return 0, 0, errUnauthBulk
	case buf[line+1] != '\n':
		return 0, 0, errBulkLineEnd
	}
	return int(v), line + 1 - pos, nil
}

// line finds the CR of the line that begins at pos and waits for the byte after
// it, as Redis does before it judges a line. It answers the CR's offset, or -1
// with the error if more than longest bytes have no CR among them.
func (p *RequestParser) line(buf []byte, pos, longest int, tooLong error) (int, error) {
	window := buf[:min(len(buf), pos+longest+1)]
	from := max(p.seen, pos)
	i := bytes.IndexByte(window[from:], '\r')
	if i < 0 {
		if len(window) > pos+longest {
			return -1, tooLong
		}
		p.seen, p.need = len(window), 1
		return -1, nil
	}
	if from+i+1 >= len(buf) {
		p.seen, p.need = from+i, 1
		return -1, nil
	}
	return from + i, nil
}

func (p *RequestParser) addLen(n int) {
	if p.lens == nil {
		p.lens = make([]int, 0, firstArgs)
	}
	p.lens = append(p.lens, n)
}

// viewBulks makes the views of a multibulk request's arguments, a slice of them at
// a time. Lengths have one spelling only, so where the arguments lie follows from
// how long they are.
func (p *RequestParser) viewBulks(buf []byte) {
	if p.viewed != &buf[0] { // the first slice, or the bytes have moved
		p.args = slices.Grow(p.args[:0], len(p.lens))
		p.viewed, p.end = &buf[0], 1+decimalWidth(len(p.lens))+2
	}
	pos, last := p.end, min(len(p.args)+sliceArgs, len(p.lens))
	for _, n := range p.lens[len(p.args):last] {
		if n < 0 {
			p.args = append(p.args, nil)
			pos += 1 + decimalWidth(^n) + 2 + 2
			continue
		}
		pos += 1 + decimalWidth(n) + 2
		p.args = append(p.args, buf[pos:pos+n:pos+n])
		pos += n + 2
	}
	p.end, p.begun, p.need = pos, last < len(p.lens), 0
}

// Long describes the argument that is arriving, if it has at least so many bytes: its position
// among the arguments, its offset in the buffer of the last Parse, and its length in bytes. length
// is 0 when there is no such argument.
func (p *RequestParser) Long(atLeast int) (index, from, length int) {
	if p.left == 0 || p.end == 0 || p.end-2-p.pos < atLeast {
		return 0, 0, 0
	}
	return len(p.lens), p.pos, p.end - 2 - p.pos
}

// SetAside tells the parser that the caller keeps the argument that Long describes elsewhere. The
// buffer of the next Parse must lack the bytes of the argument, but not the CR LF after it. The
// argument is nil among Args.
func (p *RequestParser) SetAside() {
	p.addLen(^(p.end - 2 - p.pos))
	p.aside, p.end, p.need = true, p.pos+2, 2
}

// First returns the first argument of a request that has not wholly arrived, nil while the argument
// is incomplete. buf is the buffer of the last Parse.
func (p *RequestParser) First(buf []byte) []byte {
	if p.left == 0 || len(p.lens) == 0 || p.lens[0] < 0 {
		return nil
	}
	from := bytes.IndexByte(buf, '$') + 1 + decimalWidth(p.lens[0]) + 2
	return buf[from : from+p.lens[0]]
}

// between ends a request; its arguments stay.
func (p *RequestParser) between() {
	p.pos, p.end, p.left, p.seen, p.need = 0, 0, 0, 0, 0
	p.aside, p.begun, p.viewed = false, false, nil
	if cap(p.lens) > keptArgs {
		p.lens = nil
	}
	p.lens = p.lens[:0]
}

// dropArgs forgets the views: stale ones would keep a client's last buffer alive.
func (p *RequestParser) dropArgs() {
	if cap(p.args) > keptArgs {
		p.args = nil
	}
	clear(p.args)
	p.args = p.args[:0]
}

// Args is the complete request's arguments, the command's name first; empty for
// a request that asks for nothing ("*0", "*-1", a blank line). They are views:
// of the buf given to Parse, or, if Inline, of the parser's own memory. They are
// valid until buf moves, or the next Parse or Reset.
func (p *RequestParser) Args() [][]byte { return p.args }

// Inline reports whether the complete request is an inline one. Then its raw bytes
// are no multibulk request: forward AppendCommand(dst, Args()...) instead.
func (p *RequestParser) Inline() bool { return p.inline }

// Need is the number of bytes that are missing at least until Parse can say more.
// While an argument is being read it is all that is missing of it: what the
// client announced, not what it has sent. So it says when to look again, and must
// not be a reason to allocate.
func (p *RequestParser) Need() int { return max(p.need, 1) }

// Partial reports whether the parser is in the middle of a request.
func (p *RequestParser) Partial() bool { return p.need > 0 || p.begun }

// Begun reports whether the parser is in the middle of a request, and can go on
// with the bytes that are there.
func (p *RequestParser) Begun() bool { return p.begun }

// Reset forgets the request, complete or not, and the memory it referred to.
func (p *RequestParser) Reset() {
	p.dropArgs()
	if cap(p.scratch) > keptScratch {
		p.scratch = nil
	}
	p.scratch = p.scratch[:0]
	p.inline = false
	p.between()
}
