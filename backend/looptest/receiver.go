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

// Receiver is a backend.Receiver that notes what it is told, one line for each call.
type Receiver struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

// NewReceiver returns a receiver without lines.
func NewReceiver() *Receiver { return &Receiver{more: make(chan struct{}, 1024)} }

// Note adds a line.
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

// Wait waits until there are n lines and returns all there are.
func (r *Receiver) Wait(t testing.TB, n int) []string {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		r.mu.Lock()
		lines := append([]string(nil), r.lines...)
		r.mu.Unlock()
		if len(lines) >= n {
			return lines
		}
		select {
		case <-r.more:
		case <-deadline:
			t.Fatalf("there are only these lines: %q", lines)
		}
	}
}

// WantLines fails the test unless got is want.
func WantLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
