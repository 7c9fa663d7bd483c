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
	l.Logger = slog.New(slog.NewTextHandler(&l.out, &slog.HandlerOptions{Level: &l.level, ReplaceAttr: redisLevelNames}))
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

// limited logs an event that may come in floods, as often as the gate lets it. The attribute
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
