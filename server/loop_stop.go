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

	patience time.Duration // with one that is about to ask something
}

// leastStopSlice is how many clients go at one tick at least.
const leastStopSlice = 100

// beginStop lets the clients go, within so long if they are idle.
func (l *loop) beginStop(within time.Duration) {
	l.stop.size = max(leastStopSlice, l.sessions/max(1, int(within/tickEvery))+1)
	l.stop.patience = within / 2
	l.tickSessions()
}
