package codec

import (
	"math"
	"strconv"
	"strings"
)

// All writers append to dst and return it, as append does. resp is the protocol
// version the reader speaks, 2 or 3: where RESP2 lacks a type, its readers get
// what Redis would give them.

// AppendArray begins an array; its n elements follow.
func AppendArray(dst []byte, n int) []byte { return appendHeader(dst, '*', n) }

// AppendMap begins a map of n pairs; key, value, key, value follow. In RESP2 it
// is an array of 2n elements.
func AppendMap(dst []byte, n, resp int) []byte {
	if resp < 3 {
		return appendHeader(dst, '*', 2*n)
	}
	return appendHeader(dst, '%', n)
}

// AppendSet begins a set; its n elements follow. In RESP2 it is an array.
func AppendSet(dst []byte, n, resp int) []byte {
	if resp < 3 {
		return appendHeader(dst, '*', n)
	}
	return appendHeader(dst, '~', n)
}

// AppendPush begins a push; its n elements follow. In RESP2 it is an array.
func AppendPush(dst []byte, n, resp int) []byte {
	if resp < 3 {
		return appendHeader(dst, '*', n)
	}
	return appendHeader(dst, '>', n)
}

// AppendBulk writes a bulk string.
func AppendBulk(dst, b []byte) []byte {
	dst = appendHeader(dst, '$', len(b))
	dst = append(dst, b...)
	return append(dst, '\r', '\n')
}

// AppendBulkString writes a bulk string.
func AppendBulkString(dst []byte, s string) []byte {
	dst = appendHeader(dst, '$', len(s))
	dst = append(dst, s...)
	return append(dst, '\r', '\n')
}

// AppendInt writes an integer.
func AppendInt(dst []byte, v int64) []byte {
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, v, 10)
	return append(dst, '\r', '\n')
}

// AppendSimple writes a simple string such as OK. CR and LF in s become spaces.
func AppendSimple(dst []byte, s string) []byte { return appendLine(dst, '+', s) }

// AppendError writes an error: its prefix and words, "ERR no such key", without
// '-'. CR and LF in s become spaces; at its end they are left out, as Redis does.
func AppendError(dst []byte, s string) []byte {
	return appendLine(dst, '-', strings.TrimRight(s, "\r\n"))
}

// AppendNull writes the answer for a string that is not there.
func AppendNull(dst []byte, resp int) []byte {
	if resp < 3 {
		return append(dst, "$-1\r\n"...)
	}
	return append(dst, "_\r\n"...)
}

// AppendNullArray writes the answer for an array that is not there, such as
// BLPOP's after its timeout.
func AppendNullArray(dst []byte, resp int) []byte {
	if resp < 3 {
		return append(dst, "*-1\r\n"...)
	}
	return append(dst, "_\r\n"...)
}

// AppendBool writes a boolean; in RESP2 1 or 0.
func AppendBool(dst []byte, v bool, resp int) []byte {
	switch {
	case resp < 3 && v:
		return append(dst, ":1\r\n"...)
	case resp < 3:
		return append(dst, ":0\r\n"...)
	case v:
		return append(dst, "#t\r\n"...)
	}
	return append(dst, "#f\r\n"...)
}

// AppendDouble writes a double in as few digits as give it back exactly; in RESP2
// as a bulk string.
func AppendDouble(dst []byte, v float64, resp int) []byte {
	var room [32]byte
	text := formatDouble(room[:0], v)
	if resp < 3 {
		return AppendBulk(dst, text)
	}
	dst = append(dst, ',')
	dst = append(dst, text...)
	return append(dst, '\r', '\n')
}

func formatDouble(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, "nan"...)
	case math.IsInf(v, 1):
		return append(dst, "inf"...)
	case math.IsInf(v, -1):
		return append(dst, "-inf"...)
	case v == math.Trunc(v) && math.Abs(v) < 1<<53 && !(v == 0 && math.Signbit(v)):
		return strconv.AppendInt(dst, int64(v), 10)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// AppendVerbatim writes text with its format, three letters such as "txt"; in
// RESP2 as a bulk string without the format.
func AppendVerbatim(dst []byte, format, s string, resp int) []byte {
	if resp < 3 {
		return AppendBulkString(dst, s)
	}
	if len(format) != 3 {
		panic("codec: the format of a verbatim string has three letters, not " + strconv.Quote(format))
	}
	dst = appendHeader(dst, '=', len(s)+4)
	dst = append(dst, format...)
	dst = append(dst, ':')
	dst = append(dst, s...)
	return append(dst, '\r', '\n')
}

// AppendCommand writes a request.
func AppendCommand(dst []byte, args ...[]byte) []byte {
	dst = appendHeader(dst, '*', len(args))
	for _, arg := range args {
		dst = AppendBulk(dst, arg)
	}
	return dst
}

// AppendCommandString writes a request.
func AppendCommandString(dst []byte, args ...string) []byte {
	dst = appendHeader(dst, '*', len(args))
	for _, arg := range args {
		dst = AppendBulkString(dst, arg)
	}
	return dst
}

func appendHeader(dst []byte, kind byte, n int) []byte {
	dst = append(dst, kind)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

func appendLine(dst []byte, kind byte, s string) []byte {
	dst = append(dst, kind)
	from := len(dst)
	dst = append(dst, s...)
	for i, c := range dst[from:] {
		if c == '\r' || c == '\n' {
			dst[from+i] = ' '
		}
	}
	return append(dst, '\r', '\n')
}
