package pool

import (
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

type mortal struct {
	id   int
	dead atomic.Bool
	seen atomic.Int32 // how often it was popped
}

func isDead(m *mortal) bool { return m.dead.Load() }

func TestStackBehavesLikeASliceWithTheDeadSweptOut(t *testing.T) { rapid.Check(t, stackModel) }

func FuzzStack(f *testing.F) { f.Fuzz(rapid.MakeFuzz(stackModel)) }

// stackModel does the same to a stack and to a slice, and compares them.
func stackModel(t *rapid.T) {
	var s stack[*mortal]
	var model []*mortal
	id := 0
	t.Repeat(map[string]func(*rapid.T){
		"push": func(t *rapid.T) {
			id++
			m := &mortal{id: id}
			s.push(m)
			model = append(model, m)
		},
		"pop": func(t *rapid.T) {
			m, ok := s.pop()
			if ok != (len(model) > 0) {
				t.Fatalf("pop says %v with %d inside", ok, len(model))
			}
			if ok {
				if want := model[len(model)-1]; m != want {
					t.Fatalf("popped %d, want %d", m.id, want.id)
				}
				model = model[:len(model)-1]
			}
		},
		"kill": func(t *rapid.T) {
			if len(model) > 0 {
				model[rapid.IntRange(0, len(model)-1).Draw(t, "which")].dead.Store(true)
			}
		},
		"sweep": func(t *rapid.T) {
			s.sweep(isDead)
			alive := model[:0:0]
			for _, m := range model {
				if !m.dead.Load() {
					alive = append(alive, m)
				}
			}
			model = alive
			n := 0
			for node := s.head.Load(); node != nil; node = node.next.Load() {
				n++
			}
			if n != len(model) {
				t.Fatalf("%d nodes are left by the sweep, want %d", n, len(model))
			}
		},
	})
}

func TestStackGivesEveryLivingValueToExactlyOnePopUnderSweeps(t *testing.T) {
	const workers, each = 8, 20000
	var s stack[*mortal]
	all := make([]*mortal, workers*each)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				m := &mortal{id: w*each + i}
				all[m.id] = m
				s.push(m)
				switch i % 5 {
				case 0:
					m.dead.Store(true)
				case 1, 2, 3:
					if got, ok := s.pop(); ok {
						got.seen.Add(1)
					}
				}
				if i%512 == 0 {
					s.sweep(isDead)
				}
			}
		})
	}
	wg.Wait()
	for m, ok := s.pop(); ok; m, ok = s.pop() {
		m.seen.Add(1)
	}
	for _, m := range all {
		n := m.seen.Load()
		if n > 1 || n == 0 && !m.dead.Load() {
			t.Fatalf("value %d (dead %v) was popped %d times", m.id, m.dead.Load(), n)
		}
	}
}
