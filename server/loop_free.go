package main

// freeList keeps objects for use again. They come back as they are: whoever puts one empties it.
type freeList[T any] []*T

// get returns a free object, or a new one.
func (f *freeList[T]) get() *T {
	k := len(*f)
	if k == 0 {
		return new(T)
	}
	o := (*f)[k-1]
	*f = (*f)[:k-1]
	return o
}

// put takes an object back, unless there are as many as are kept at most.
func (f *freeList[T]) put(o *T, most int) {
	if len(*f) < most {
		*f = append(*f, o)
	}
}
