package codec

import (
	"bytes"
	"slices"
)

// parseInline reads an inline request, which people and health checks send: one
// line of words with blanks between them. A word with blanks in it is quoted.
func (p *RequestParser) parseInline(buf []byte, lim *Limits) (n int, err error) {
	longest := lim.maxInline()
	window := buf[:min(len(buf), longest+1)]
	i := bytes.IndexByte(window[p.seen:], '\n')
	if i < 0 {
		if len(window) > longest {
			return 0, errInlineSize
		}
		p.seen, p.need = len(window), 1
		return 0, nil
	}
	i += p.seen
	// A CR before the newline is a blank like any other.
	line := buf[:i]
	p.inline = true
	p.scratch = p.scratch[:0]
	// Redis stops its search for the newline at a NUL byte, and would wait for ever.
	if bytes.IndexByte(line, 0) >= 0 {
		return 0, errInlineNUL
	}
	if !p.splitWords(line) {
		return 0, errUnbalancedQuotes
	}
	p.viewWords()
	p.between()
	return i + 1, nil
}

// splitWords cuts the line into words, one after the other in p.scratch, and
// reports whether its quotes balance. It follows Redis' sdssplitargs, odd rules
// included: a vertical tab or form feed is a blank before a word and a letter
// inside it; quotes may begin in the middle of a word, and a closing one ends it.
func (p *RequestParser) splitWords(line []byte) bool {
	for i := 0; ; {
		for i < len(line) && isBlank(line[i]) {
			i++
		}
		if i == len(line) {
			return true
		}
		from := len(p.scratch)
	word:
		for i < len(line) {
			switch c := line[i]; c {
			case ' ', '\t', '\n', '\r':
				break word
			case '"', '\'':
				var width int
				if c == '"' {
					width = p.unquoteDouble(line[i+1:])
				} else {
					width = p.unquoteSingle(line[i+1:])
				}
				i += 1 + width
				if width == 0 || (i < len(line) && !isBlank(line[i])) {
					return false
				}
				break word
			default:
				p.scratch = append(p.scratch, c)
				i++
			}
		}
		p.addLen(len(p.scratch) - from)
	}
}

// viewWords makes the views of an inline request's arguments.
func (p *RequestParser) viewWords() {
	p.args = slices.Grow(p.args, len(p.lens))
	pos := 0
	for _, n := range p.lens {
		p.args = append(p.args, p.scratch[pos:pos+n:pos+n])
		pos += n
	}
}

// unquoteDouble appends the text before the closing double quote to p.scratch. It
// returns how many bytes of b it read, the quote included; 0 when the quote is
// missing.
func (p *RequestParser) unquoteDouble(b []byte) int {
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case c == '"':
			return i + 1
		case c == '\\' && i+3 < len(b) && b[i+1] == 'x' && isHex(b[i+2]) && isHex(b[i+3]):
			c = hexValue(b[i+2])<<4 | hexValue(b[i+3])
			i += 3
		case c == '\\' && i+1 < len(b):
			i++
			c = escaped(b[i])
		}
		p.scratch = append(p.scratch, c)
	}
	return 0
}

// unquoteSingle is unquoteDouble for single quotes: \' is the only escape.
func (p *RequestParser) unquoteSingle(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '\'':
			return i + 1
		case b[i] == '\\' && i+1 < len(b) && b[i+1] == '\'':
			i++
		}
		p.scratch = append(p.scratch, b[i])
	}
	return 0
}

// escaped returns the byte that a backslash and c stand for.
func escaped(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

// isBlank does what C's isspace does.
func isBlank(c byte) bool { return c == ' ' || ('\t' <= c && c <= '\r') }

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// hexValue returns the value of the hex digit c.
func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return (c | 0x20) - 'a' + 10
}
