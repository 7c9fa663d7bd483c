package codec

import (
	"encoding/binary"
	"math"
)

const (
	// maxInt64Digits is checked before any arithmetic: 19 digits never overflow a
	// uint64.
	maxInt64Digits = 19
	// shortDigits fit an int of 32 bits, and leave room to add an offset to it.
	shortDigits = 9
)

// parseInt reads a decimal integer as Redis' string2ll does: no space, no plus
// sign, no leading zero, no "-0", nothing after it.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 1 && b[0] == '0' {
		return 0, true
	}
	digits := b
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		digits = b[1:]
	}
	if len(digits) == 0 || len(digits) > maxInt64Digits || digits[0] == '0' {
		return 0, false
	}
	var v uint64
	for _, c := range digits {
		d := c - '0'
		if d > 9 {
			return 0, false
		}
		v = v*10 + uint64(d)
	}
	if negative {
		if v > -math.MinInt64 {
			return 0, false
		}
		return -int64(v), true
	}
	if v > math.MaxInt64 {
		return 0, false
	}
	return int64(v), true
}

// shortLength reads a length of at most nine digits and its CR LF from the front
// of b. Nearly all lengths are like this. width is 0 for any other text (longer,
// negative, wrong or incomplete): then the caller reads it by a slower function.
func shortLength(b []byte) (v, width int) {
	// Most lengths have one digit or two.
	if len(b) >= 4 {
		word := binary.LittleEndian.Uint32(b)
		tens, ones := int(byte(word)-'0'), int(byte(word>>8)-'0')
		if uint16(word>>8) == crlf && tens <= 9 {
			return tens, 3
		}
		if uint16(word>>16) == crlf && uint(tens-1) < 9 && ones <= 9 {
			return tens*10 + ones, 4
		}
	}
	for i := 0; i < len(b) && i <= shortDigits; i++ {
		d := b[i] - '0'
		if d <= 9 {
			v = v*10 + int(d)
			continue
		}
		if i == 0 || (i > 1 && b[0] == '0') || len(b) < i+2 || !isCRLF(b[i:]) {
			return 0, 0
		}
		return v, i + 2
	}
	return 0, 0
}

// decimalWidth is the number of digits of v, which is not negative.
func decimalWidth(v int) int {
	width := 1
	for ; v >= 10; v /= 10 {
		width++
	}
	return width
}

// crlf is the end of a line, read as two bytes in little endian.
const crlf = '\r' | '\n'<<8

// isCRLF reports whether b, of two bytes or more, begins with CR LF.
func isCRLF(b []byte) bool { return binary.LittleEndian.Uint16(b) == crlf }
