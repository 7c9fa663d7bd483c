package codec

import (
	"bytes"
	"math"
)

const (
	// firstArgs is the room made for arguments when the first one arrives.
	firstArgs = 8
	// keptArgs and keptScratch are what a parser keeps between requests: one
	// command with a million arguments must not pin their memory.
	keptArgs    = 1024
	keptScratch = 4 << 10
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
// It remembers offsets, never memory, until a request is complete: the caller may
// move the bytes between two calls. Between requests it carries no state, so many
// sessions can share one parser as long as only the one with a Partial request
// keeps it to itself.
type RequestParser struct {
	pos  int // offset of what has not been parsed yet; an argument's first byte while end is set
	end  int // offset behind the argument being read and its CR LF; 0: its length comes next
	left int // arguments still missing; 0: between requests
	seen int // up to here no line end was found
	need int // bytes missing at least; 0: not in the middle of a request

	inline  bool
	spans   []span   // the arguments so far
	args    [][]byte // and as views, once the request is complete
	scratch []byte   // arguments of an inline request, unquoted
}

// span is where an argument lies, from and to in bytes.
type span struct{ from, to int }

// Parse looks for the request that begins at buf[0].
//
// n > 0: buf[:n] is one whole request; Args, Inline tell about it. n == 0 without
// an error: more bytes are needed; call again with the same bytes and more behind
// them (they may have moved), and Parse goes on where it stopped. The error is a
// *ProtocolError; the parser is of no use behind it until Reset.
//
// lim may be nil: Redis' defaults.
func (p *RequestParser) Parse(buf []byte, lim *Limits) (n int, err error) {
	if lim == nil {
		lim = &redisLimits
	}
	pos, end, left := p.pos, p.end, p.left
	if left == 0 {
		if len(buf) == 0 {
			return 0, nil
		}
		p.spans = p.spans[:0]
		p.args = p.args[:0]
		if buf[0] != '*' {
			return p.parseInline(buf, lim)
		}
		p.inline = false
		count, width := shortLength(buf[1:])
		if width == 0 || count > unauthenticatedArgs || exceeds(count, lim.MaxArgs) {
			if count, width, err = p.multibulkLength(buf, lim); width == 0 {
				return 0, err
			}
		}
		pos, left = 1+width, count
	}
	for left > 0 {
		if end == 0 {
			length, width := 0, 0
			if pos < len(buf) && buf[pos] == '$' {
				length, width = shortLength(buf[pos+1:])
			}
			if width == 0 || length > unauthenticatedBulk || exceeds(length, lim.MaxBulk) {
				if length, width, err = p.bulkLength(buf, pos, lim); width == 0 {
					p.pos, p.end, p.left = pos, 0, left
					return 0, err
				}
			}
			pos += 1 + width
			end = pos + length + 2
		}
		if len(buf) < end {
			p.pos, p.end, p.left, p.need = pos, end, left, end-len(buf)
			return 0, nil
		}
		if buf[end-2] != '\r' || buf[end-1] != '\n' {
			return 0, errBulkEnd
		}
		p.addSpan(pos, end-2)
		pos, end = end, 0
		left--
	}
	p.finish(buf)
	return pos, nil
}

// multibulkLength reads "*<count> CR LF" at buf[0], at leisure. width counts the
// bytes behind the '*'; 0: not there yet, or err.
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
	// Redis takes every count up to zero for an empty request.
	return int(max(v, 0)), line + 1, nil
}

// bulkLength reads "$<length> CR LF" at buf[pos], at leisure. width counts the
// bytes behind the '$'; 0: not there yet, or err.
func (p *RequestParser) bulkLength(buf []byte, pos int, lim *Limits) (length, width int, err error) {
	line, err := p.line(buf, pos, lim.maxHeader(), errBulkLineSize)
	if line < 0 {
		return 0, 0, err
	}
	if buf[pos] != '$' {
		return 0, 0, errExpectedBulk(buf[pos])
	}
	// The offset behind the bulk must be an int, too, whatever MaxBulk says.
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

// line finds the CR of the line that begins at pos and waits for the byte behind
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

// exceeds reports whether v is above a limit that somebody set; 0 stands for a
// default, which only values can reach that are looked at more closely anyway.
func exceeds(v, limit int) bool { return uint(v) > uint(limit-1) }

func (p *RequestParser) addSpan(from, to int) {
	if p.spans == nil {
		p.spans = make([]span, 0, firstArgs)
	}
	p.spans = append(p.spans, span{from, to})
}

// finish turns the offsets into views of data and makes the parser ready for the
// next request; the views stay until then.
func (p *RequestParser) finish(data []byte) {
	if cap(p.args) < len(p.spans) {
		p.args = make([][]byte, len(p.spans), cap(p.spans))
	}
	p.args = p.args[:len(p.spans)]
	for i, s := range p.spans {
		p.args[i] = data[s.from:s.to:s.to]
	}
	p.pos, p.end, p.left, p.seen, p.need = 0, 0, 0, 0, 0
}

// Args is the complete request's arguments, the command's name first; empty for
// a request that asks for nothing ("*0", "*-1", a blank line). They are views:
// of the buf given to Parse, or, if Inline, of the parser's own memory. They are
// valid until buf moves, or the next Parse or Reset.
func (p *RequestParser) Args() [][]byte { return p.args }

// Inline reports whether the complete request is an inline one. Its raw bytes are
// no multibulk request then: what a node shall read is AppendCommand(dst, Args()...).
func (p *RequestParser) Inline() bool { return p.inline }

// Need is the number of bytes that are missing at least until Parse can say more.
// While an argument is being read it is all that is missing of it: what the
// client announced, not what it has sent, so it tells when to look again and is
// no reason to allocate.
func (p *RequestParser) Need() int { return max(p.need, 1) }

// Partial reports whether the parser is in the middle of a request.
func (p *RequestParser) Partial() bool { return p.need > 0 }

// Reset forgets the request, complete or not, and the memory it referred to.
func (p *RequestParser) Reset() {
	if cap(p.spans) > keptArgs {
		p.spans, p.args = nil, nil
	}
	if cap(p.scratch) > keptScratch {
		p.scratch = nil
	}
	// Stale views would keep a client's last buffer alive.
	clear(p.args)
	p.spans, p.args, p.scratch = p.spans[:0], p.args[:0], p.scratch[:0]
	p.pos, p.end, p.left, p.seen, p.need, p.inline = 0, 0, 0, 0, 0, false
}
