package looptest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// Receiver notes what it is told, one line each.
type Receiver struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

func NewReceiver() *Receiver { return &Receiver{more: make(chan struct{}, 1024)} }

func (r *Receiver) Note(s string) {
	r.mu.Lock()
	r.lines = append(r.lines, s)
	r.mu.Unlock()
	r.more <- struct{}{}
}

func (r *Receiver) Reply(reply, sent []byte, more int) {
	r.Note(fmt.Sprintf("%s for %s, %d more", strings.TrimSpace(string(reply)), strings.TrimSpace(string(sent)), more))
}

func (r *Receiver) Lost(err *backend.LostError, sent []byte) {
	why := "lost"
	switch {
	case err.Refusal != "":
		why = "refused " + err.Refusal
	case errors.Is(err, backend.ErrTimeout):
		why = "timeout"
	}
	r.Note(fmt.Sprintf("%s sent=%v for %s", why, err.Sent, strings.TrimSpace(string(sent))))
}

// Wait waits until n lines have been said and returns them.
func (r *Receiver) Wait(t testing.TB, n int) []string {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		said := append([]string(nil), r.lines...)
		r.mu.Unlock()
		if len(said) >= n {
			return said
		}
		select {
		case <-r.more:
		case <-deadline:
			t.Fatalf("only this was said: %q", said)
		}
	}
}

func WantLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("said\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
