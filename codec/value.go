package codec

import (
	"bytes"
	"strconv"
)

// Value is a reply as a tree, for the few replies that berth reads itself: to
// HELLO, COMMAND, CLUSTER SHARDS. Its strings are views of the parsed bytes.
type Value struct {
	// Type is the first byte of the element: one of + - : $ * and, in RESP3,
	// _ # , ( ! = % ~ >.
	Type byte
	// Null is true for RESP3's null and for RESP2's null bulk and null array.
	Null bool
	// Str is the text of every type that is not an aggregate, as it was sent.
	Str []byte
	// Int is the value of an integer, and 1 or 0 for a boolean. It is 0 when the
	// text is no integer.
	Int int64
	// Float is the value of a double, 0 when the text is no double.
	Float float64
	// Elems are an aggregate's elements; a map's are key, value, key, value.
	Elems []Value
	// Attrs are the attributes before it: name, value, name, value.
	Attrs []Value
}

// IsError reports whether v is an error of either kind.
func (v Value) IsError() bool { return v.Type == '-' || v.Type == '!' }

// Text returns the text of a string, an error or a number, without the format of
// a verbatim string; "" for nulls and aggregates.
func (v Value) Text() string {
	if v.Type == '=' && len(v.Str) >= 4 && v.Str[3] == ':' {
		return string(v.Str[4:])
	}
	return string(v.Str)
}

// Lookup finds the value of a key in a map, or in the array of keys and values
// that stands for a map in RESP2.
func (v Value) Lookup(key string) (Value, bool) {
	for i := 0; i+1 < len(v.Elems); i += 2 {
		if v.Elems[i].Text() == key {
			return v.Elems[i+1], true
		}
	}
	return Value{}, false
}

// nest is an aggregate whose elements are being read.
type nest struct {
	value Value // '|' for attributes: what they belong to is still to come
	left  int64 // elements still to come
}

// maxDepth is how deep elements may lie in a Value. A reply to COMMAND has seven levels. Each level
// takes some twenty times the bytes that it has in the reply.
const maxDepth = 32

// ParseValue builds the tree of one whole reply, which must be all of raw. It
// accepts what ReplyScanner accepts, but for elements that lie too deep. Errors are *ProtocolError.
func ParseValue(raw []byte) (Value, error) {
	var open []nest // innermost last; a stack of its own, for any depth of nesting
	var attrs []Value
	for pos := 0; ; {
		v, count, next, err := parseElement(raw, pos)
		if err != nil {
			return Value{}, err
		}
		pos = next
		v.Attrs, attrs = attrs, nil
		if count > 0 {
			if len(open) == maxDepth {
				return Value{}, errReplyDepth
			}
			open = append(open, nest{v, count})
			continue
		}
		// v is complete, and perhaps the aggregates around it are too.
		for v.Type == '|' || len(open) > 0 {
			if v.Type == '|' {
				attrs = append(v.Attrs, v.Elems...)
				break
			}
			in := &open[len(open)-1]
			in.value.Elems = append(in.value.Elems, v)
			if in.left--; in.left > 0 {
				break
			}
			v = in.value
			open = open[:len(open)-1]
		}
		if len(open) == 0 && v.Type != '|' {
			if pos != len(raw) {
				return Value{}, errReplyTrailing
			}
			return v, nil
		}
	}
}

// parseElement reads the element at raw[pos] without its elements, of which it
// has count.
func parseElement(raw []byte, pos int) (v Value, count int64, next int, err error) {
	if pos >= len(raw) {
		return v, 0, 0, errReplyShort
	}
	v.Type = raw[pos]
	if !isType(v.Type) {
		return v, 0, 0, errReplyType(v.Type)
	}
	line := raw[pos+1:]
	width := bytes.Index(line, lineEnd)
	if width < 0 {
		return v, 0, 0, errReplyShort
	}
	line = line[:width]
	next = pos + 1 + width + 2
	switch v.Type {
	case '$', '!', '=':
		length, err := replyLength(v.Type, line, maxReplyBulk)
		switch {
		case err != nil:
			return v, 0, 0, err
		case length < 0:
			v.Null = true
			return v, 0, next, nil
		case length+2 > int64(len(raw)-next):
			return v, 0, 0, errReplyShort
		}
		end := next + int(length)
		v.Str = raw[next:end:end]
		if raw[end] != '\r' || raw[end+1] != '\n' {
			return v, 0, 0, errReplyLineEnd
		}
		return v, 0, end + 2, nil
	case '*', '~', '>', '%', '|':
		count, err = replyLength(v.Type, line, maxReplyCount)
		switch {
		case err != nil:
			return v, 0, 0, err
		case count < 0:
			v.Null = true
		case v.Type == '%' || v.Type == '|':
			count *= 2
		}
		return v, count, next, nil
	}
	v.setScalar(line)
	return v, 0, next, nil
}

// setScalar fills in the value of a line. What is no number has the value 0.
func (v *Value) setScalar(line []byte) {
	v.Str = line[:len(line):len(line)]
	switch v.Type {
	case ':':
		v.Int, _ = parseInt(line)
	case ',':
		// The result of an overflow is an infinity.
		v.Float, _ = strconv.ParseFloat(string(line), 64)
	case '#':
		if string(line) == "t" {
			v.Int = 1
		}
	case '_':
		v.Null = true
	}
}
