package main

import (
	"math"
	"math/rand/v2"

	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/topk"
)

// keyWatch is what a loop has seen of keys in the last minute: which are asked for most, by samples, and
// which have the longest values.
//
// Owned by the loop.
type keyWatch struct {
	every   int // one request in so many is looked at; 0: none
	gap     int // requests until the next one is
	long    int // bytes that a request or a reply has to exceed to be looked at
	busiest topk.Window[keyUse]
	biggest topk.Window[keyValue]
}

// keyUse is how a key was used in the requests that were looked at.
type keyUse struct {
	keyPlace
	reads, writes int64
}

// keyValue is the longest value of a key that has passed.
type keyValue struct {
	keyPlace
	bytes int64
	by    *router.Command
}

// keyPlace is where a key is.
type keyPlace struct {
	slot uint16
	db   int
}

const (
	busiestKeys = 256      // of a loop and half-minute
	biggestKeys = 64       // of a loop and half-minute
	bigValue    = 16 << 10 // bytes that a value has to exceed to be remembered
	keysLooked  = 16       // of one request, at most
	never       = math.MaxInt
)

// sample has one request in so many looked at from now on, 0: none. What was seen is forgotten.
func (k *keyWatch) sample(every int, clock int64) {
	*k = keyWatch{every: every, gap: never, long: never}
	if every > 0 {
		k.gap, k.long = every, bigValue
		k.busiest = topk.NewWindow[keyUse](busiestKeys, clock)
		k.biggest = topk.NewWindow[keyValue](biggestKeys, clock)
	}
}

// tick takes up another setting, and lets old heat fade.
func (k *keyWatch) tick(every int, clock int64) {
	switch {
	case every != k.every:
		k.sample(every, clock)
	case every > 0:
		k.busiest.Turn(clock)
		k.biggest.Turn(clock)
		k.raiseBar()
	}
}

// raiseBar has only those values looked at that would be remembered.
func (k *keyWatch) raiseBar() { k.long = max(bigValue, int(k.biggest.Bar())) }

// isDue counts a request, and reports whether it is to be looked at: for its keys, or for its length. It
// is called for every request.
func (k *keyWatch) isDue(size int) bool {
	k.gap--
	return k.gap <= 0 || k.isLong(size)
}

// isLong reports whether a request or a reply is to be looked at for its length.
func (k *keyWatch) isLong(size int) bool { return size > k.long }

// takesSample reports whether the request's keys are to be counted. How far it is to the next one is left
// to chance, since clients may send the same requests in turn.
func (k *keyWatch) takesSample() bool {
	if k.gap > 0 {
		return false
	}
	k.gap = 1 + rand.IntN(2*k.every-1)
	return true
}

// use counts one use of a key.
func (k *keyWatch) use(key []byte, db int, write bool) {
	e, isNew := k.busiest.Count(topk.Sum(key, db), key)
	if isNew {
		e.Of.keyPlace = keyPlace{router.Slot(key), db}
	}
	if write {
		e.Of.writes++
	} else {
		e.Of.reads++
	}
}

// pass enters that a key's value has passed.
func (k *keyWatch) pass(key []byte, db, bytes int, by *router.Command) {
	if !k.isLong(bytes) {
		return
	}
	if e := k.biggest.Raise(topk.Sum(key, db), key, uint64(bytes)); e != nil {
		e.Of = keyValue{keyPlace{router.Slot(key), db}, int64(bytes), by}
		k.raiseBar()
	}
}
