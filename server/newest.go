package main

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/berth-proxy/berth/codec"
)

// SLOWLOG GET and ACL LOG speak of what has happened, the latest first, on all primaries. Each of them numbers its entries itself.

// mostEntries is how many entries a request asks for: 10 unless it says otherwise, all for -1. A word that is no number the
// nodes refuse, or it is RESET.
func mostEntries(args [][]byte) int {
	if len(args) < 3 {
		return 10
	}
	n, ok := parseInt(args[2])
	if !ok || n < 0 || n > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(n)
}

// entry is one of a log, raw, and when it happened: seconds, larger is later.
type entry struct {
	raw  []byte
	when float64
}

// newest merges the logs of all parts. A reply that is none of these (ACL LOG RESET) stands for all.
func (j *join) newest(dst []byte) ([]byte, error) {
	if j.reply(0)[0] == '+' {
		return append(dst, j.reply(0)...), nil
	}
	var all []entry
	for i := range j.parts {
		var bad error
		err := elements(j.reply(i), func(_ int, raw []byte) {
			when, err := happened(raw)
			if err != nil {
				bad = err
			}
			all = append(all, entry{raw, when})
		})
		if err != nil || bad != nil {
			return dst, errShape
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(b.when, a.when) })
	all = all[:min(len(all), j.most)]
	dst = codec.AppendArray(dst, len(all))
	for _, e := range all {
		dst = append(dst, e.raw...)
	}
	return dst, nil
}

// happened reads an entry's time: the second element in the slow log, what age-seconds takes off now in the other one.
func happened(raw []byte) (when float64, err error) {
	v, err := codec.ParseValue(raw)
	if err != nil {
		return 0, err
	}
	if age, ok := v.Lookup("age-seconds"); ok {
		seconds, err := strconv.ParseFloat(age.Text(), 64)
		return -seconds, err
	}
	if len(v.Elems) < 2 || v.Elems[1].Type != ':' {
		return 0, errShape
	}
	return float64(v.Elems[1].Int), nil
}
