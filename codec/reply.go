package codec

import (
	"bytes"
	"math"
	"strings"
)

const (
	// Far above what any node sends, and low enough that sums do not overflow.
	maxReplyBulk  = 1 << 40 // bytes
	maxReplyCount = 1 << 32 // elements of one aggregate
	maxPending    = 1 << 48 // elements still to come

	// maxLengthLine bounds the lines that hold a length or a count.
	maxLengthLine = 64
)

// ReplyScanner finds the end of one reply after the other in a node's bytes. The
// zero value is ready; it is a few words and allocates nothing.
//
// It judges framing and nothing else. A node decides where a reply ends: that is
// trusted. What stands in the reply may be a client's words: a script can answer
// the big number "abc". Such a reply is passed on to whoever asked for it. It must
// not end a connection that others share, as an unknown length must.
//
// A long reply need not be gathered: see Settled.
//
// What is still to come of a reply, however nested, is one number: 1 to begin
// with, one less for each element, n more for each aggregate of n. An attribute
// does not count itself, so it belongs to what follows it. A push between replies
// is reported as a reply of its own, whose first byte is '>'.
type ReplyScanner struct {
	pos     int   // offset of what has not been looked at yet
	end     int   // offset after the string being read and its CR LF; 0: a type byte comes next; inText
	pending int64 // elements still to come; 0: between replies
	seen    int   // up to here no line end was found; inText: where the line begins, negative when that was taken out of the buffer
	need    int   // bytes missing at least; 0: between replies
}

// inText is a scanner's end in the middle of an element that is one line.
const inText = -1

// Scan looks for the end of the reply that begins at buf[0].
//
// n > 0: buf[:n] is one whole reply, and the scanner is ready for the next. n == 0
// without an error: more bytes are needed; call again with the same bytes and more
// after them (they may have moved). The error is a *ProtocolError; there is no
// way to go on after it.
func (s *ReplyScanner) Scan(buf []byte) (n int, err error) {
	if len(buf) == 0 {
		return 0, nil
	}
	pos, end, pending := s.pos, s.end, max(s.pending, 1)
	if end == inText {
		whole := false
		if pos, whole = s.text(buf, pos); !whole {
			s.pos = pos
			return 0, nil
		}
		end = 0
		pending--
	}
	for pending > 0 {
		if end == 0 && pos < len(buf) {
			short, width := shortLength(buf[pos+1:])
			switch kind := buf[pos]; {
			case kind == '$' && width > 0:
				pos += 1 + width
				end = pos + short + 2
			case kind == ':' && width > 0:
				pos += 1 + width
				pending--
				continue
			case isFrequent(buf[pos:]):
				pos += frequentWidth
				pending--
				continue
			case isLine(kind):
				next, whole := s.text(buf, pos)
				if !whole {
					s.seen = pos
					s.pos, s.end, s.pending = next, inText, pending
					return 0, nil
				}
				pos = next
				pending--
				continue
			}
		}
		if end == 0 {
			next, body, more, err := s.element(buf, pos)
			if next == 0 {
				s.pos, s.end, s.pending = pos, 0, pending
				return 0, err
			}
			pos = next
			if body == 0 {
				if pending += more; pending > maxPending {
					return 0, errReplyCount
				}
				continue
			}
			end = pos + body
		}
		if len(buf) < end {
			s.pos, s.end, s.pending, s.need = pos, end, pending, end-len(buf)
			return 0, nil
		}
		if !isCRLF(buf[end-2:]) {
			return 0, errReplyLineEnd
		}
		pos, end = end, 0
		pending--
	}
	*s = ReplyScanner{}
	return pos, nil
}

const frequentWidth = 5

// isFrequent recognises "+OK" and RESP2's null without a search for their end.
func isFrequent(b []byte) bool {
	if len(b) < frequentWidth || !isCRLF(b[3:]) {
		return false
	}
	return b[0] == '+' && b[1] == 'O' && b[2] == 'K' || b[0] == '$' && b[1] == '-' && b[2] == '1'
}

// element reads the line that an element begins with. next is the offset after
// it; 0: it is not there yet, or err. If a string follows, body is its length with
// its CR LF; otherwise the element is over, and more is by how much the number of
// elements to come changes.
func (s *ReplyScanner) element(buf []byte, pos int) (next, body int, more int64, err error) {
	if pos >= len(buf) {
		s.need = 1
		return 0, 0, 0, nil
	}
	kind := buf[pos]
	switch kind {
	case '$', '!', '=':
		length, next, err := s.length(buf, pos, maxReplyBulk)
		if next == 0 || length < 0 {
			return next, 0, -1, err
		}
		return next, int(length) + 2, 0, nil
	case '*', '~', '>', '%', '|':
		count, next, err := s.length(buf, pos, maxReplyCount)
		switch {
		case next == 0:
			return 0, 0, 0, err
		case count < 0:
			count = 0
		case kind == '%':
			count *= 2
		case kind == '|':
			count = 2*count + 1
		}
		return next, 0, count - 1, nil
	}
	return 0, 0, 0, errReplyType(kind)
}

// text looks for the end of an element that is one line, of which pos is in the middle, or at the
// beginning. whole: next is the offset after it. Otherwise what is before next will not be looked at
// again, so that a line of any length need not be kept. A CR or LF alone belongs to the line.
func (s *ReplyScanner) text(buf []byte, pos int) (next int, whole bool) {
	if i := bytes.Index(buf[pos:], lineEnd); i >= 0 {
		return pos + i + len(lineEnd), true
	}
	if last := len(buf) - 1; buf[last] == '\r' {
		s.need = 1
		return last, false
	}
	s.need = 2
	return len(buf), false
}

// length reads the length or count after the type byte at buf[pos]. next is the
// offset after its CR LF; 0: not there yet, or err. It is -1 for RESP2's nulls.
func (s *ReplyScanner) length(buf []byte, pos int, largest int64) (v int64, next int, err error) {
	if short, width := shortLength(buf[pos+1:]); width > 0 {
		return int64(short), pos + 1 + width, nil
	}
	cr, err := s.lengthLine(buf, pos)
	if cr < 0 {
		return 0, 0, err
	}
	v, err = replyLength(buf[pos], buf[pos+1:cr], min(largest, math.MaxInt-int64(cr)-4))
	if err != nil {
		return 0, 0, err
	}
	return v, cr + 2, nil
}

// lengthLine finds the CR LF of the line that begins at pos and answers the offset of
// its CR; -1: it is not there yet, or err. A CR or LF alone belongs to the line.
func (s *ReplyScanner) lengthLine(buf []byte, pos int) (int, error) {
	window := buf[:min(len(buf), pos+maxLengthLine+2)]
	from := max(s.seen, pos)
	if i := bytes.Index(window[from:], lineEnd); i >= 0 {
		return from + i, nil
	}
	if len(window) > pos+maxLengthLine+1 {
		return -1, errReplyLineSize
	}
	s.seen, s.need = len(window), 2
	if window[len(window)-1] == '\r' {
		s.seen, s.need = len(window)-1, 1
	}
	return -1, nil
}

var lineEnd = []byte("\r\n")

// Need returns how many more bytes Scan needs at least to say more. While a string
// is being read, it is all the bytes that the string still lacks.
func (s *ReplyScanner) Need() int { return max(s.need, 1) }

// Partial reports whether the scanner is in the middle of a reply.
func (s *ReplyScanner) Partial() bool { return s.need > 0 }

// Settled returns how many bytes at the front of buf, the buffer of the last Scan, Scan will not
// read again. The caller may pass them on and take them out of buf, and then must call Shift. It is
// valid in the middle of a reply only.
func (s *ReplyScanner) Settled(buf []byte) int {
	if s.end > 0 {
		return min(len(buf), s.end-2) // Scan judges the CR LF after a string when both are there
	}
	return s.pos
}

// Line returns how many bytes have come of the line in whose middle buf ends, 0: it ends in no line.
// The length of such a line is not known before its end, and a script makes it as long as it likes.
func (s *ReplyScanner) Line(buf []byte) int {
	if s.end != inText {
		return 0
	}
	return len(buf) - s.seen
}

// Shift tells the scanner that n settled bytes were taken out of the buffer.
func (s *ReplyScanner) Shift(n int) {
	s.pos, s.seen = max(0, s.pos-n), s.seen-n
	if s.end > 0 {
		s.end -= n
	}
}

// replyLength judges the text of a length or count of the given type.
func replyLength(kind byte, text []byte, largest int64) (int64, error) {
	if len(text) == 1 && text[0] == '?' {
		return 0, errReplyStreamed
	}
	v, ok := parseInt(text)
	null := v == -1 && (kind == '$' || kind == '*')
	if !ok || v > largest || (v < 0 && !null) {
		return 0, errReplyLength
	}
	return v, nil
}

// isType reports whether an element can begin with b.
func isType(b byte) bool { return isLine(b) || strings.IndexByte("$*!=%~|>", b) >= 0 }

// isLine reports whether an element that begins with b is one line, whatever the line says.
func isLine(b byte) bool { return strings.IndexByte("+-:_#,(", b) >= 0 }
