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
	a.Elems = a.Elems[:len(a.Elems)&^1]
	at := make(map[string]int, len(a.Elems)/2)
	for i := 0; i < len(a.Elems); i += 2 {
		at[a.Elems[i].Text()] = i + 1
	}
	for i := 0; i+1 < len(b.Elems); i += 2 {
		name := b.Elems[i].Text()
		if had, has := at[name]; has {
			a.Elems[had] = joinFigure(name, a.Elems[had], b.Elems[i+1])
			continue
		}
		at[name] = len(a.Elems) + 1
		a.Elems = append(a.Elems, b.Elems[i], b.Elems[i+1])
	}
	return a
}

// joinFigure joins two values of one name. Counts and sizes are added. Doubles are shares, of which
// the greater stands; so it does of a mean.
func joinFigure(name string, a, b codec.Value) codec.Value {
	switch {
	case a.Type != b.Type:
	case isList(a) && isList(b) && name == "histogram_usec":
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
	one, other := histogram{of: a.Elems}, histogram{of: b.Elems}
	for _, bound := range slices.Compact(bounds) {
		whole.Elems = append(whole.Elems, integerValue(bound), integerValue(one.upTo(bound)+other.upTo(bound)))
	}
	return whole
}

// histogram is one that is read from its lowest bound on.
type histogram struct {
	of    []codec.Value // bounds and counts that are to come
	count int64
}

// upTo is how many calls took at most the bound.
func (h *histogram) upTo(bound int64) int64 {
	for len(h.of) > 1 && h.of[0].Int <= bound {
		h.count, h.of = h.of[1].Int, h.of[2:]
	}
	return h.count
}

// joinEvents joins two lists of events, each with its name, when it came last, how long it took then,
// and at most. Valkey adds the sum of all and their number.
func joinEvents(a, b codec.Value) codec.Value {
	at := make(map[string]int, len(a.Elems))
	for i, event := range a.Elems {
		if len(event.Elems) >= 4 {
			at[event.Elems[0].Text()] = i
		}
	}
	for _, event := range b.Elems {
		if len(event.Elems) < 4 {
			continue
		}
		name := event.Elems[0].Text()
		i, has := at[name]
		if !has || len(a.Elems[i].Elems) != len(event.Elems) {
			at[name] = len(a.Elems)
			a.Elems = append(a.Elems, event)
			continue
		}
		had := a.Elems[i].Elems
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
