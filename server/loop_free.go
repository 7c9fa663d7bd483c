package main

// freeList keeps objects for use again. They come back as they are: whoever puts one empties it.
// What nobody needs for a while goes to the garbage collector, so that a burst's memory does not
// stay.
type freeList[T any] struct {
	free   []T
	unused int // how many of the first objects nobody has taken since the last trim
}

// get returns the object that came back last, if there is one. The list forgets it, for it may grow
// too large to come back.
func (f *freeList[T]) get() (o T, ok bool) {
	k := len(f.free) - 1
	if k < 0 {
		return o, false
	}
	f.free[k], o = o, f.free[k]
	f.free = f.free[:k]
	f.unused = min(f.unused, k)
	return o, true
}

// put takes an object back, unless there are as many as are kept at most.
func (f *freeList[T]) put(o T, most int) {
	if len(f.free) < most {
		f.free = append(f.free, o)
	}
}

// trim gives up the objects that nobody has taken since the last trim.
func (f *freeList[T]) trim() {
	rest := copy(f.free, f.free[f.unused:])
	clear(f.free[rest:])
	f.free, f.unused = f.free[:rest], rest
}

// take returns a free object, or a new one.
func take[T any](f *freeList[*T]) *T {
	if o, ok := f.get(); ok {
		return o
	}
	return new(T)
}
