package pool

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFifoBehavesLikeASliceThatCanLoseFromTheMiddle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q fifo[int]
		var model, gone []*fifoNode[int]
		id := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				id++
				model = append(model, q.push(id))
			},
			"pop": func(t *rapid.T) {
				if q.head == nil {
					return
				}
				oldest := q.head
				if !q.remove(oldest) || oldest != model[0] {
					t.Fatalf("the oldest of %d is %d, want %d", len(model), oldest.value, model[0].value)
				}
				gone, model = append(gone, oldest), model[1:]
			},
			"remove": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "which")
				if !q.remove(model[i]) {
					t.Fatal("an element that is inside cannot leave")
				}
				gone, model = append(gone, model[i]), slices.Delete(model, i, i+1)
			},
			"remove again": func(t *rapid.T) {
				if len(gone) > 0 && q.remove(rapid.SampledFrom(gone).Draw(t, "which")) {
					t.Fatal("an element left twice")
				}
			},
			"": func(t *rapid.T) {
				if q.len != len(model) {
					t.Fatalf("len is %d, want %d", q.len, len(model))
				}
				if v, ok := q.front(); ok != (len(model) > 0) || ok && v != model[0].value {
					t.Fatalf("front is %d, %v", v, ok)
				}
			},
		})
	})
}
