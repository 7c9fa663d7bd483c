package router

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTimeoutsAreReadWhereTheCommandHasThem(t *testing.T) {
	for _, c := range []struct {
		words  []string
		arg    int
		asked  time.Duration
		opaque bool
	}{
		{[]string{"blpop", "k", "0"}, 2, 0, false},
		{[]string{"blpop", "k", "1.5"}, 2, 1500 * time.Millisecond, false},
		{[]string{"blpop", "k", "0.0001"}, 2, time.Millisecond, false},
		{[]string{"blmpop", "2", "1", "k", "LEFT"}, 1, 2 * time.Second, false},
		{[]string{"xread", "BLOCK", "250", "STREAMS", "s", "$"}, 2, 250 * time.Millisecond, false},
		{[]string{"xread", "BLOCK", "2.5", "STREAMS", "s", "$"}, 2, 0, true},
		{[]string{"blpop", "k", "abc"}, 2, 0, true},
		{[]string{"blpop", "k", "-1"}, 2, 0, true},
		{[]string{"blpop", "k", "nan"}, 2, 0, true},
		{[]string{"blpop", "k", "inf"}, 2, 0, true},
		{[]string{"blpop", "k", "1e400"}, 2, 0, true},
		{[]string{"blpop", "k", "99999999999"}, 2, 0, true},
		{[]string{"blpop", "k", ""}, 2, 0, true},
		{[]string{"blpop", "k", "."}, 2, 0, true},
		{[]string{"blpop", "k", "0." + strings.Repeat("0", 400) + "1"}, 2, 0, true}, // a time, but 0 as a float64
		{[]string{"xread", "BLOCK", "0250", "STREAMS", "s", "$"}, 2, 0, true},       // an error to Redis
	} {
		args := words(c.words...)
		cmd, err := Builtin().Lookup(args)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := cmd.Timeout(args)
		if !ok || got.Arg != c.arg || got.Asked != c.asked || got.Opaque != c.opaque {
			t.Errorf("%q: %+v, %v", c.words, got, ok)
		}
	}
	args := words("xread", "STREAMS", "s", "0")
	cmd, _ := Builtin().Lookup(args)
	if got, ok := cmd.Timeout(args); ok || got.Arg != -1 {
		t.Errorf("XREAD without BLOCK: %+v", got)
	}
}

// redisTimeout is the time that Redis 7.0 reads, in whole milliseconds. ok is false when Redis
// refuses the text.
func redisTimeout(text string, unit time.Duration) (millis int64, ok bool) {
	if unit == time.Millisecond { // string2ll
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == text
	}
	v, ok := new(big.Rat).SetString(text) // strtold, then rounded up
	if !ok {
		return 0, false
	}
	v.Mul(v, big.NewRat(1000, 1))
	up := new(big.Int).Sub(v.Denom(), big.NewInt(1))
	return up.Quo(up.Add(up, v.Num()), v.Denom()).Int64(), true
}

func FuzzTimeoutIsTheTimeThatRedisReads(f *testing.F) {
	for _, text := range []string{
		"0", "1", "7", "007", "00", "0.0", "1.5", "0.1", "0.001", "0.0009", "1.2.3", "1.", ".5", "-1", "1e3", "0x10", "nan", "",
		"250", "0250", "99999999999", "1576800000", "1576800000.001", "1576800000000", "0." + strings.Repeat("0", 400) + "1",
		strings.Repeat("9", 400), "0.99999999999999999999",
	} {
		for _, gone := range []time.Duration{0, 1, 999_999, time.Second, 1500 * time.Millisecond, time.Hour, 1 << 62} {
			f.Add(text, true, int64(gone))
			f.Add(text, false, int64(gone))
		}
	}
	f.Fuzz(func(t *testing.T, text string, seconds bool, gone int64) {
		unit := time.Millisecond
		if seconds {
			unit = time.Second
		}
		read := ParseTimeout([][]byte{[]byte(text)}, 0, unit)
		if read.Opaque {
			return
		}
		millis, ok := redisTimeout(text, unit)
		early := time.Duration(millis)*time.Millisecond - read.Asked // Redis rounds up; a float64 of years is exact to 256 ns
		if !ok || (millis == 0) != (read.Asked == 0) || early >= time.Millisecond+256 || early < -256 {
			t.Fatalf("%q in units of %v: read as %v, by Redis as %d ms, %v", text, unit, read.Asked, millis, ok)
		}
		left := read.Asked - time.Duration(gone&math.MaxInt64)
		written := read.AppendLeft(nil, left)
		again := ParseTimeout([][]byte{written}, 0, unit)
		millis, ok = redisTimeout(string(written), unit)
		most := max(left, minTimeLeft) + time.Millisecond
		if !ok || millis < 2 || time.Duration(millis)*time.Millisecond >= most+256 || again.Opaque || again.Asked == 0 {
			t.Fatalf("%v left in units of %v: written as %s, read as %v", left, unit, written, again.Asked)
		}
	})
}
