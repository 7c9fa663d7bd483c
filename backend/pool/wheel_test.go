package pool

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWheelRingsEveryAlarmOnceNeverEarlyAndWithinATick(t *testing.T) { rapid.Check(t, wheelModel) }

func FuzzWheel(f *testing.F) { f.Fuzz(rapid.MakeFuzz(wheelModel)) }

// wheelModel does the same to a wheel and to a map, and compares them.
func wheelModel(t *rapid.T) {
	const tick = 10 * time.Millisecond
	w := newWheel[*alarm[int]](tick)
	alarms := make([]*alarm[*alarm[int]], 12)
	due := make(map[*alarm[int]]time.Duration) // the model
	for i := range alarms {
		alarms[i] = &alarm[*alarm[int]]{value: &alarm[int]{value: i}}
	}
	now := time.Duration(0)
	pick := func(t *rapid.T) *alarm[*alarm[int]] { return rapid.SampledFrom(alarms).Draw(t, "alarm") }
	advance := func(t *rapid.T, to time.Duration) {
		now = to
		for _, v := range w.advance(now, nil) {
			at, ok := due[v]
			if !ok {
				t.Fatalf("alarm %d rings and is not set", v.value)
			}
			if at > now {
				t.Fatalf("alarm %d rings %v early", v.value, at-now)
			}
			delete(due, v)
		}
		for v, at := range due {
			if now >= at+tick {
				t.Fatalf("alarm %d is late by %v", v.value, now-at)
			}
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"set": func(t *rapid.T) {
			a := pick(t)
			// up to three rounds ahead, and sometimes in the past
			at := now + time.Duration(rapid.Int64Range(-int64(50*tick), int64(3*wheelSlots*tick)).Draw(t, "in"))
			at = max(at, 0)
			w.set(a, at)
			due[a.value] = max(at, now)
		},
		"clear": func(t *rapid.T) {
			a := pick(t)
			_, want := due[a.value]
			if w.clear(a) != want {
				t.Fatalf("clear says %v", !want)
			}
			delete(due, a.value)
		},
		"a while": func(t *rapid.T) {
			advance(t, now+time.Duration(rapid.Int64Range(0, int64(2*wheelSlots*tick)).Draw(t, "d")))
		},
		"to the next": func(t *rapid.T) {
			at, ok := w.next()
			if ok != (len(due) > 0) {
				t.Fatalf("next says %v with %d set", ok, len(due))
			}
			if !ok {
				return
			}
			if at <= now-tick {
				t.Fatalf("next is %v in the past", now-at)
			}
			for v, d := range due {
				if at >= max(d, now)+2*tick {
					t.Fatalf("next is %v behind alarm %d", at-d, v.value)
				}
			}
			advance(t, max(at, now))
		},
		"drain": func(t *rapid.T) {
			if n := len(w.drain(nil)); n != len(due) {
				t.Fatalf("%d alarms drained, want %d", n, len(due))
			}
			clear(due)
		},
		"": func(t *rapid.T) {
			if w.len != len(due) {
				t.Fatalf("len is %d, want %d", w.len, len(due))
			}
		},
	})
}

func TestWheelThatSleptForManyTurnsRingsEverythingThatIsDue(t *testing.T) {
	w := newWheel[int](time.Second)
	for i := range 2000 {
		w.set(&alarm[int]{value: i}, time.Duration(i)*time.Second)
	}
	if n := len(w.advance(1000*time.Second, nil)); n != 1001 {
		t.Fatalf("%d alarms rang, want 1001", n)
	}
	if n := len(w.advance(100*time.Hour, nil)); n != 999 {
		t.Fatalf("%d alarms rang, want 999", n)
	}
}

func BenchmarkWheelSetAndClear(b *testing.B) {
	w := newWheel[int](wheelTick)
	for i := range 100000 {
		w.set(&alarm[int]{value: i}, time.Duration(i)*time.Millisecond)
	}
	a := &alarm[int]{}
	b.ReportAllocs()
	for b.Loop() {
		w.set(a, time.Minute)
		w.clear(a)
	}
}
