package router

import (
	"math/rand/v2"
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

func TestWhatIsLeftIsNeverForEver(t *testing.T) {
	for _, unit := range []time.Duration{time.Second, time.Millisecond} {
		for range 10_000 {
			asked := Timeout{Unit: unit, Asked: time.Duration(1 + rand.Int64N(int64(time.Hour)))}
			gone := time.Duration(rand.Int64N(int64(2 * time.Hour)))
			text := asked.Append(nil, asked.Left(gone))
			again := ParseTimeout([][]byte{text}, 0, unit)
			if again.Opaque || again.Asked == 0 || again.Asked > max(asked.Asked-gone, 0)+2*time.Millisecond {
				t.Fatalf("%v less %v in units of %v: %s", asked.Asked, gone, unit, text)
			}
		}
		if got := string((Timeout{Unit: unit}).Append(nil, Timeout{Unit: unit}.Left(time.Hour))); got != "0" {
			t.Errorf("for ever: %s", got)
		}
	}
}
