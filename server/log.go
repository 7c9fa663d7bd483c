package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/server/config"
)

// eventLog is berth's log: one line per life event, none per request. It goes to standard error, or
// to a file that can be opened again after it was moved away. Safe for any goroutine.
type eventLog struct {
	*slog.Logger
	level slog.LevelVar
	out   logOutput
}

// openEventLog opens the log at path (empty: standard error), which is created and appended to.
func openEventLog(path string, level slog.Level) (*eventLog, error) {
	l := &eventLog{out: logOutput{path: path}}
	l.level.Set(level)
	if err := l.out.open(); err != nil {
		return nil, err
	}
	text := slog.NewTextHandler(&l.out, &slog.HandlerOptions{Level: &l.level, ReplaceAttr: redisLevelNames})
	l.Logger = slog.New(&gatedHandler{Handler: text, kinds: &logKinds{gates: map[string]*kindGate{}}})
	return l, nil
}

// redisLevelNames calls levels what loglevel calls them.
func redisLevelNames(groups []string, a slog.Attr) slog.Attr {
	if a.Key != slog.LevelKey || len(groups) > 0 {
		return a
	}
	if level, ok := a.Value.Any().(slog.Level); ok {
		for i, known := range config.Levels {
			if level == known {
				return slog.String(slog.LevelKey, config.LevelNames[i])
			}
		}
	}
	return a
}

// setLevel changes what is logged from now on.
func (l *eventLog) setLevel(level slog.Level) { l.level.Set(level) }

// reopen opens the log file anew, for when it was moved away. If that fails the old file stays in
// use.
func (l *eventLog) reopen() error { return l.out.open() }

// gatedHandler lets so many lines of a kind pass in a second, and says with the next one how many it
// has left out. A kind is the message, without its attributes. No client is trusted to be quiet, and
// much that is logged comes of what clients do: whatever they do, the log grows at a bounded pace.
type gatedHandler struct {
	slog.Handler
	kinds *logKinds
}

// logKinds are the gates of all kinds.
type logKinds struct {
	mu    sync.Mutex // guards what follows, and the gates
	gates map[string]*kindGate
}

// kindGate counts the lines of one kind.
type kindGate struct {
	since  time.Time // when the current second began
	passed int       // lines since then
	held   int64     // lines that were left out since the last that passed
}

const (
	linesPerSecond = 20  // of one kind
	maxLogKinds    = 256 // messages are constants; those of the libraries beyond so many share a gate
)

// Handle writes a line, or leaves it out.
func (h *gatedHandler) Handle(ctx context.Context, r slog.Record) error {
	ok, held := h.kinds.pass(r.Message, r.Time)
	if !ok {
		return nil
	}
	if held > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int64("suppressed", held))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs returns a handler with the same gates.
func (h *gatedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &gatedHandler{h.Handler.WithAttrs(attrs), h.kinds}
}

// WithGroup returns a handler with the same gates.
func (h *gatedHandler) WithGroup(name string) slog.Handler {
	return &gatedHandler{h.Handler.WithGroup(name), h.kinds}
}

// pass reports whether a line of a kind may be written, and how many were left out since the last.
func (k *logKinds) pass(kind string, now time.Time) (ok bool, held int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g := k.gates[kind]
	if g == nil && len(k.gates) >= maxLogKinds {
		kind = ""
		g = k.gates[kind]
	}
	if g == nil {
		g = &kindGate{}
		k.gates[kind] = g
	}
	if now.Sub(g.since) >= time.Second || now.Before(g.since) {
		g.since, g.passed = now, 0
	}
	if g.passed >= linesPerSecond {
		g.held++
		return false, 0
	}
	g.passed++
	held, g.held = g.held, 0
	return true, held
}

// limited logs an event of which one line a second is enough, as often as the gate lets it. The attribute
// "suppressed" says how many events the gate has held back since the last one.
func limited(f *flood, level slog.Level, msg string, args ...any) {
	if !slog.Default().Enabled(context.Background(), level) {
		return
	}
	ok, held := f.pass(time.Now())
	if !ok {
		return
	}
	if held > 0 {
		args = append(args[:len(args):len(args)], "suppressed", held)
	}
	slog.Log(context.Background(), level, msg, args...)
}

// logOutput is where lines go. slog makes one Write of each line.
type logOutput struct {
	path string
	mu   sync.Mutex // guards file and keeps lines whole
	file *os.File   // nil: standard error
}

func (o *logOutput) open() error {
	if o.path == "" {
		return nil
	}
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	o.mu.Lock()
	old := o.file
	o.file = f
	o.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func (o *logOutput) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var w io.Writer = os.Stderr
	if o.file != nil {
		w = o.file
	}
	return w.Write(line)
}

// flood is a gate for one kind of event. It opens once per every and counts what it holds back
// meanwhile. The zero value opens once a second. Safe for any goroutine.
type flood struct {
	every time.Duration

	// next is the time in nanoseconds from which the gate is open. Goroutines race to move it on by
	// compare-and-swap; the losers count themselves as held.
	next atomic.Int64
	held atomic.Int64
}

// pass reports whether an event at now goes through, and how many were held back since the last
// that did.
func (f *flood) pass(now time.Time) (ok bool, held int64) {
	every := f.every
	if every <= 0 {
		every = time.Second
	}
	next := f.next.Load()
	if now.UnixNano() < next || !f.next.CompareAndSwap(next, now.Add(every).UnixNano()) {
		f.held.Add(1)
		return false, 0
	}
	return true, f.held.Swap(0)
}
