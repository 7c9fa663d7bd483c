package telemetry

import (
	"reflect"
	"testing"
	"unsafe"

	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/backend/pipe"
)

// fill sets every number in v to one and gives every map of v an entry.
func fill(v reflect.Value) {
	v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem() // unexported fields, too
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint64:
		v.SetUint(1)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	}
}

// filled is a loop of which every figure is one.
func filled() *Loop {
	l := NewLoop()
	fill(reflect.ValueOf(l).Elem())
	l.Pipes["n:1"], l.Feeds["n:1"] = pipe.Count{Up: 1}, feed.Count{Up: 1}
	l.Holders[PoolName{"n:1", "default"}] = 1
	l.Counters.commands = []commandStats{{1, 1}}
	l.Counters.errors["ERR"] = 1
	l.Counters.redirects["n:1"] = redirects{1, 1}
	l.Rates, l.Pins = make([]Rates, 1), make([]PinRow, 1)
	return l
}

// differs names the first figure of v that is not want.
func differs(v reflect.Value, name string, want int64) string {
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		if v.Int() != want {
			return name
		}
	case reflect.Uint64:
		if v.Uint() != uint64(want) {
			return name
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if at := differs(v.Field(i), name+"."+v.Type().Field(i).Name, want); at != "" {
				return at
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			if at := differs(v.Index(i), name, want); at != "" {
				return at
			}
		}
	case reflect.Map:
		if v.Len() != 1 {
			return name
		}
	case reflect.Slice:
		if v.Len() == 0 {
			return name
		}
	}
	return ""
}

// A figure that Add forgets would be missing from every report.
func TestLoopsAddUpInEveryFigure(t *testing.T) {
	sum := NewLoop()
	sum.add(filled())
	if at := differs(reflect.ValueOf(*sum), "Loop", 1); at != "" {
		t.Fatalf("%s is not taken over", at)
	}
	sum.add(filled())
	if at := differs(reflect.ValueOf(*sum), "Loop", 2); at != "" {
		t.Errorf("%s is not added", at)
	}
	if sum.Pipes["n:1"].Up != 2 || sum.Feeds["n:1"].Up != 2 || sum.Holders[PoolName{"n:1", "default"}] != 2 ||
		sum.Counters.commands[0] != (commandStats{2, 2}) || sum.Counters.errors["ERR"] != 2 ||
		sum.Counters.redirects["n:1"] != (redirects{2, 2}) || len(sum.Rates) != 2 || len(sum.Pins) != 2 {
		t.Errorf("%+v", sum)
	}
}
