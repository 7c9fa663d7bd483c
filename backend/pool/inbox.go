package pool

import "sync"

// Inbox carries what happens to leases from netpoll's goroutines to one event loop. Each loop has
// one.
type Inbox struct {
	wake func()

	mu    sync.Mutex // guards mail; nothing blocks under it
	mail  []mail     // not delivered, oldest first
	spare []mail     // owned by the loop: memory of the latest batch, for the next but one
}

// mail is something that happened off the loop and must be told to a Holder on it.
type mail interface{ deliver() }

// maxSpareMail bounds the memory an Inbox keeps after a burst.
const maxSpareMail = 4096

// NewInbox returns an Inbox that calls wake, from any goroutine, each time it turns from empty to
// non-empty. wake must not block and must see to it that the loop calls Drain.
func NewInbox(wake func()) *Inbox { return &Inbox{wake: wake} }

// post adds mail, from any goroutine.
func (in *Inbox) post(m mail) {
	in.mu.Lock()
	first := len(in.mail) == 0
	in.mail = append(in.mail, m)
	in.mu.Unlock()
	if first {
		in.wake()
	}
}

// Drain delivers what was posted since the last Drain. It runs on the loop. What is posted meanwhile
// wakes the loop again, so one Drain is one batch and cannot starve the loop's clients.
func (in *Inbox) Drain() {
	in.mu.Lock()
	batch := in.mail
	in.mail = in.spare[:0]
	in.spare = nil
	in.mu.Unlock()
	for i, m := range batch {
		batch[i] = nil
		m.deliver()
	}
	if cap(batch) <= maxSpareMail {
		in.spare = batch[:0]
	}
}
