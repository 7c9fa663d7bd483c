package main

import "time"

// stopSlices is how many clients a loop lets go when berth stops. Each one leaves when that costs it
// least:
//
//	idle, subscribed         ─▶ in a slice: they come back somewhere else one after another
//	a request is under way   ─▶ after its reply
//	blocked                  ─▶ after what shutdown-blocked says
//	in MULTI, after WATCH, or in the midst of a request ─▶ when it is not any more
//
// Owned by the loop.
type stopSlices struct {
	size int // clients that go at one tick; 0: berth does not stop
	left int // of this tick

	rest     time.Duration // for how long one must have been silent to go
	patience time.Duration // with one that is about to ask something
	until    int64         // loop clock: when there is none left
}

// drainRest is for how long a client must have been silent to be let go while there is time.
const drainRest = time.Second

// beginDrain lets those clients go that are idle.
func (l *loop) beginDrain() {
	l.stop.size, l.stop.rest = max(leastStopSlice, l.sessions/100), drainRest
}

// leastStopSlice is how many clients go at one tick at least.
const leastStopSlice = 100

// beginStop lets the clients go, within so long if they are idle.
func (l *loop) beginStop(within time.Duration) {
	l.stop.size = max(leastStopSlice, l.sessions/max(1, int(within/tickEvery))+1)
	l.stop.rest, l.stop.patience = 0, within/2
	l.stop.until = l.clock + int64(within/2)
	l.tickSessions()
}
