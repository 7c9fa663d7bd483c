package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Cause is an attribute of a line: why something has happened. One line a second is enough of a message
// with a cause. It is a constant: peers must not choose its words.
type Cause string

// gatedHandler lets few lines of a kind pass in a second, and says with the next one, or when no more
// come, how many it has left out. A kind is the message, and the cause if the line has one. No client
// is trusted to be quiet, and much that is logged comes of what clients do: whatever they do, the log
// grows at a bounded pace. Attributes of a line that is left out are not looked at: those that cost
// something to make are slog.LogValuers.
type gatedHandler struct {
	slog.Handler
	gates *gates
}

// gates are those of all kinds. Safe for any goroutine.
type gates struct {
	lines  slog.Handler // what is said of lines that were left out goes here
	counts bool         // as an attribute, for programs; else in words

	mu  sync.Mutex // guards what follows, and the gates; nothing blocks under it
	all map[kind]*gate
}

type kind struct {
	message string
	cause   Cause // "": none
}

// gate counts the lines of one kind.
type gate struct {
	since  time.Time // when the current second began: the latest line that passed is in it
	passed int       // lines since then
	held   int       // lines that were left out since the last that passed
	level  slog.Level
	waits  bool // a timer is to say how many, if no line passes before
}

const (
	linesPerSecond = 20              // of one kind without a cause
	maxKinds       = 256             // messages and causes are constants; those of the libraries beyond so many share a gate
	quietAfter     = 2 * time.Second // after a second that had too many lines, no line has come for another one
)

// Handle writes a line, or leaves it out.
func (h *gatedHandler) Handle(ctx context.Context, r slog.Record) error {
	k := kind{message: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		k.cause, _ = a.Value.Any().(Cause)
		return k.cause == ""
	})
	ok, held := h.gates.pass(k, r.Level, r.Time)
	if !ok {
		return nil
	}
	return h.Handler.Handle(ctx, h.gates.mention(r, held))
}

// WithAttrs returns a handler with the same gates.
func (h *gatedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &gatedHandler{h.Handler.WithAttrs(attrs), h.gates}
}

// WithGroup returns a handler with the same gates.
func (h *gatedHandler) WithGroup(name string) slog.Handler {
	return &gatedHandler{h.Handler.WithGroup(name), h.gates}
}

// mention adds to a line how many of its kind were left out.
func (g *gates) mention(r slog.Record, held int) slog.Record {
	switch {
	case held == 0:
	case g.counts:
		r = r.Clone()
		r.AddAttrs(slog.Int("suppressed", held))
	default:
		r.Message += fmt.Sprintf(", %d more like it", held)
	}
	return r
}

// pass reports whether a line of a kind may be written, and how many were left out since the last.
func (g *gates) pass(k kind, level slog.Level, now time.Time) (ok bool, held int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all[k] == nil && len(g.all) >= maxKinds {
		k = kind{message: "lines of other kinds"}
	}
	x := g.all[k]
	if x == nil {
		x = &gate{}
		g.all[k] = x
	}
	if now.Sub(x.since) >= time.Second || now.Before(x.since) {
		x.since, x.passed = now, 0
	}
	most := linesPerSecond
	if k.cause != "" {
		most = 1
	}
	if x.passed < most {
		x.passed++
		held, x.held = x.held, 0
		return true, held
	}
	x.held++
	x.level = level
	if !x.waits {
		x.waits = true
		time.AfterFunc(quietAfter, func() { g.look(k) })
	}
	return false, 0
}

// look says how many lines of a kind were left out if no more come.
func (g *gates) look(k kind) {
	g.mu.Lock()
	x := g.all[k]
	if busy := quietAfter - time.Since(x.since); busy > 0 && x.held > 0 {
		time.AfterFunc(busy, func() { g.look(k) })
		g.mu.Unlock()
		return
	}
	held, level := x.held, x.level
	x.held, x.waits = 0, false
	g.mu.Unlock()
	g.say(k, level, held)
}

// say writes how many lines of a kind were left out.
func (g *gates) say(k kind, level slog.Level, held int) {
	if held == 0 || !g.lines.Enabled(context.Background(), level) {
		return
	}
	r := slog.NewRecord(time.Now(), level, k.message, 0)
	if k.cause != "" {
		r.AddAttrs(slog.Any("why", k.cause))
	}
	_ = g.lines.Handle(context.Background(), g.mention(r, held)) // as slog, which drops the error, too
}

// settle says it of all kinds.
func (g *gates) settle() {
	type left struct {
		kind
		gate
	}
	var all []left
	g.mu.Lock()
	for k, x := range g.all {
		all = append(all, left{k, *x})
		x.held = 0
	}
	g.mu.Unlock()
	for _, x := range all {
		g.say(x.kind, x.level, x.held)
	}
}
