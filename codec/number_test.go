package codec

import (
	"bytes"
	"math"
	"strconv"
	"testing"
)

func TestIntegersHaveOneSpellingOnly(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "7": 7, "-1": -1, "10": 10, "-105": -105,
		"9223372036854775807": math.MaxInt64, "-9223372036854775808": math.MinInt64,
	} {
		if got, ok := parseInt([]byte(text)); !ok || got != want {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
	for _, text := range []string{
		"", "-", "+", "+1", "-0", "00", "01", "-01", " 1", "1 ", "1a", "--1", "0x1", "1_0", "\x00",
		"9223372036854775808", "-9223372036854775809", "9999999999999999999", "10000000000000000000", "18446744073709551617",
	} {
		if got, ok := parseInt([]byte(text)); ok {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

// Whatever shortLength accepts, parseInt accepts too, and reads the same.
func TestShortLengthsAreReadAsAllOthers(t *testing.T) {
	check := func(text []byte) {
		t.Helper()
		v, width := shortLength(text)
		line, _, whole := bytes.Cut(text, []byte("\r\n"))
		slow, ok := parseInt(line)
		short := whole && ok && slow >= 0 && len(line) <= shortDigits
		if short != (width > 0) || (short && (int64(v) != slow || width != len(line)+2)) {
			t.Fatalf("%q: %d, %d bytes; parseInt says %d %v", text, v, width, slow, ok)
		}
	}
	for v := range 20_000 {
		check(strconv.AppendInt(nil, int64(v), 10))
		check(append(strconv.AppendInt(nil, int64(v), 10), '\r'))
		check(append(strconv.AppendInt(nil, int64(v), 10), "\r\n"...))
		check(append(strconv.AppendInt(nil, int64(v*7919), 10), "\r\n$3\r\n"...))
	}
	// All texts of five letters that decide something.
	const letters = "019-\r\n:/"
	text := make([]byte, 5)
	for i := range 1 << 15 {
		for j := range text {
			text[j] = letters[i>>(3*j)&7]
		}
		for size := range len(text) + 1 {
			check(text[:size])
		}
	}
}

func TestDecimalWidth(t *testing.T) {
	for _, v := range []int{0, 1, 9, 10, 99, 100, 12345, math.MaxInt} {
		if got := decimalWidth(v); got != len(strconv.Itoa(v)) {
			t.Errorf("%d: %d", v, got)
		}
	}
}
