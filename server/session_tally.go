package main

// tally is what a client has sent and was sent. The figures run over: what counts is by how much they
// grow in a second.
type tally struct{ in, out, errors uint32 }

// countError counts a reply that is an error.
func (t *tally) countError(reply []byte) {
	if len(reply) > 0 && reply[0] == '-' {
		t.errors++
	}
}
