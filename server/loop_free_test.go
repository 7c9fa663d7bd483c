package main

import (
	"runtime"
	"testing"
	"weak"
)

// collected reports whether the garbage collector took what the pointer was about.
func collected[T any](p weak.Pointer[T]) bool {
	runtime.GC()
	return p.Value() == nil
}

func TestAFreeListForgetsWhatWasTaken(t *testing.T) {
	var list freeList[*join]
	list.put(new(join), 2)
	j, _ := list.get()
	p := weak.Make(j)
	if !collected(p) {
		t.Error("a free list keeps an object that did not come back")
	}
	runtime.KeepAlive(&list)
}

func TestAFreeListGivesUpWhatNobodyNeeds(t *testing.T) {
	var list freeList[*join]
	lists := func(want int) {
		t.Helper()
		if len(list.free) != want {
			t.Fatalf("%d objects are free, want %d", len(list.free), want)
		}
	}
	for range 5 {
		list.put(new(join), 4)
	}
	lists(4)
	oldest := weak.Make(list.free[0])
	list.trim() // the burst was just now
	lists(4)
	for range 3 { // two are in use at a time
		a, b := take(&list), take(&list)
		list.put(a, 4)
		list.put(b, 4)
	}
	list.trim()
	lists(2)
	if !collected(oldest) {
		t.Error("a trimmed object is still referenced")
	}
	list.trim()
	lists(0)
	if _, ok := list.get(); ok || take(&list) == nil {
		t.Error("an empty list has an object, or makes none")
	}
}

func TestALoopGivesUpSpareMemory(t *testing.T) {
	l := &loop{clock: 1}
	l.splitter.dropJoin(l.splitter.join(&request{s: &session{loop: l}}, 1))
	l.drop(make([]byte, 0, maxKeptBuf))
	l.dropParser(l.parser())
	l.dropTransaction(l.transaction())
	l.scratch, l.keys = make([]byte, 0, maxKeptBuf+1), make([]int, 0, maxKeptBuf/8+1)
	for range 2 {
		l.clock += int64(trimEvery)
		l.trim()
	}
	if n := len(l.bufs.free) + len(l.parsers.free) + len(l.txns.free) + len(l.splitter.joins.free); n > 0 || l.scratch != nil || l.keys != nil {
		t.Errorf("%d spare objects, %d bytes and %d keys of scratch memory stay", n, cap(l.scratch), cap(l.keys))
	}
}
