package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/codec"
)

// report joins what the primaries say of themselves: MEMORY STATS, LATENCY LATEST and LATENCY
// HISTOGRAM.
func (j *join) report(dst []byte) ([]byte, error) {
	var whole codec.Value
	joined := joinMaps
	if j.r.cmd.Name == "latency|latest" {
		joined = joinEvents
	}
	for i := range j.parts {
		v, err := codec.ParseValue(j.reply(i))
		switch {
		case err != nil || !isList(v):
			return dst, errShape
		case i == 0:
			whole = v
		default:
			whole = joined(whole, v)
		}
	}
	return appendValue(dst, whole), nil
}

func isList(v codec.Value) bool { return !v.Null && (v.Type == '*' || v.Type == '%') }

// joinMaps joins two maps, which are arrays of names and values in RESP2. A name that only one of
// them has keeps its value.
func joinMaps(a, b codec.Value) codec.Value {
	for i := 0; i+1 < len(b.Elems); i += 2 {
		name := b.Elems[i].Text()
		at := slices.IndexFunc(a.Elems, func(v codec.Value) bool { return v.Text() == name })
		if at%2 != 0 || at+1 >= len(a.Elems) {
			a.Elems = append(a.Elems, b.Elems[i], b.Elems[i+1])
			continue
		}
		a.Elems[at+1] = joinFigure(name, a.Elems[at+1], b.Elems[i+1])
	}
	return a
}

// joinFigure joins two values of one name. Counts and sizes are added. Doubles are shares, of which
// the greater stands; so it does of a mean.
func joinFigure(name string, a, b codec.Value) codec.Value {
	switch {
	case a.Type != b.Type:
	case name == "histogram_usec":
		return joinCumulative(a, b)
	case isList(a) && isList(b):
		return joinMaps(a, b)
	case a.Type == ':' && strings.HasSuffix(name, "per-key"):
		return integerValue(max(a.Int, b.Int))
	case a.Type == ':':
		return integerValue(a.Int + b.Int)
	case double(b) > double(a):
		return b
	}
	return a
}

// double reads a double, which is a string in RESP2; 0: it is none.
func double(v codec.Value) float64 {
	n, _ := strconv.ParseFloat(v.Text(), 64)
	return n
}

func integerValue(n int64) codec.Value {
	return codec.Value{Type: ':', Int: n, Str: strconv.AppendInt(nil, n, 10)}
}

// joinCumulative adds two histograms: bounds, and how many calls took at most so long. A bound at
// which nothing is counted is left out by the node, so there the latest one before it holds.
func joinCumulative(a, b codec.Value) codec.Value {
	var bounds []int64
	for _, v := range []codec.Value{a, b} {
		for i := 0; i+1 < len(v.Elems); i += 2 {
			bounds = append(bounds, v.Elems[i].Int)
		}
	}
	slices.Sort(bounds)
	whole := codec.Value{Type: a.Type}
	for _, bound := range slices.Compact(bounds) {
		whole.Elems = append(whole.Elems, integerValue(bound), integerValue(upTo(a, bound)+upTo(b, bound)))
	}
	return whole
}

// upTo is how many calls of a histogram took at most the bound.
func upTo(histogram codec.Value, bound int64) (count int64) {
	for i := 0; i+1 < len(histogram.Elems) && histogram.Elems[i].Int <= bound; i += 2 {
		count = histogram.Elems[i+1].Int
	}
	return count
}

// joinEvents joins two lists of events, each with its name, when it came last, how long it took then,
// and at most. Valkey adds the sum of all and their number.
func joinEvents(a, b codec.Value) codec.Value {
	for _, event := range b.Elems {
		at := slices.IndexFunc(a.Elems, func(e codec.Value) bool {
			return len(e.Elems) >= 4 && len(e.Elems) == len(event.Elems) && e.Elems[0].Text() == event.Elems[0].Text()
		})
		if at < 0 {
			a.Elems = append(a.Elems, event)
			continue
		}
		had := a.Elems[at].Elems
		if later := cmp.Compare(event.Elems[1].Int, had[1].Int); later > 0 || later == 0 && event.Elems[2].Int > had[2].Int {
			had[1], had[2] = event.Elems[1], event.Elems[2]
		}
		had[3] = integerValue(max(had[3].Int, event.Elems[3].Int))
		for i := 4; i < len(had); i++ {
			had[i] = integerValue(had[i].Int + event.Elems[i].Int)
		}
	}
	return a
}

// appendValue writes a reply that was read, without its attributes.
func appendValue(dst []byte, v codec.Value) []byte {
	dst = append(dst, v.Type)
	switch {
	case v.Null && v.Type != '_':
		return append(dst, "-1\r\n"...)
	case strings.IndexByte("*~>%", v.Type) >= 0:
		n := len(v.Elems)
		if v.Type == '%' {
			n /= 2
		}
		dst = append(strconv.AppendInt(dst, int64(n), 10), '\r', '\n')
		for _, e := range v.Elems {
			dst = appendValue(dst, e)
		}
		return dst
	case strings.IndexByte("$=!", v.Type) >= 0:
		dst = append(strconv.AppendInt(dst, int64(len(v.Str)), 10), '\r', '\n')
	}
	dst = append(dst, v.Str...)
	return append(dst, '\r', '\n')
}
