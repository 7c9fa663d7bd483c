package eventlog

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/berth-proxy/berth/server/config"
)

// Log goes to standard error, or to a file that can be opened again after it was moved away. Safe for
// any goroutine.
type Log struct {
	*slog.Logger
	level slog.LevelVar
	gates gates
	out   output
}

// Open opens the log at path (empty: standard error), which is created and appended to.
func Open(path string, format config.LogFormat, level slog.Level) (*Log, error) {
	l := &Log{out: output{path: path}}
	l.level.Set(level)
	if err := l.out.open(); err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: &l.level, ReplaceAttr: asText}
	var lines slog.Handler = slog.NewTextHandler(&l.out, options)
	if format == config.LogJSON {
		options.ReplaceAttr = asJSON
		lines = slog.NewJSONHandler(&l.out, options)
	}
	l.gates = gates{lines: lines, counts: format == config.LogJSON, all: map[kind]*gate{}}
	l.Logger = slog.New(&gatedHandler{Handler: lines, gates: &l.gates})
	return l, nil
}

// SetLevel changes what is logged from now on.
func (l *Log) SetLevel(level slog.Level) { l.level.Set(level) }

// Reopen opens the log file anew, for when it was moved away. If that fails the old file stays in
// use.
func (l *Log) Reopen() error { return l.out.open() }

// Settle says how many lines were left out so far, for when the process ends.
func (l *Log) Settle() { l.gates.settle() }

// Close closes the file.
func (l *Log) Close() error { return l.out.close() }

// asText calls levels what loglevel calls them, and bounds what a peer may have worded.
func asText(groups []string, a slog.Attr) slog.Attr {
	switch x := a.Value.Any().(type) {
	case slog.Level:
		if a.Key == slog.LevelKey && len(groups) == 0 {
			return slog.String(slog.LevelKey, levelName(x))
		}
	case error:
		return slog.String(a.Key, bounded(x.Error()))
	case string:
		if a.Key != slog.MessageKey {
			return slog.String(a.Key, bounded(x))
		}
	case fmt.Stringer:
		if _, isTime := x.(time.Time); !isTime {
			return slog.String(a.Key, x.String())
		}
	}
	return a
}

// asJSON has values that have words as these words, and the names of what each line has as programs
// that read JSON expect them.
func asJSON(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 {
		switch a.Key {
		case slog.MessageKey:
			return slog.Attr{Key: "message", Value: a.Value}
		case slog.TimeKey:
			return slog.String(a.Key, a.Value.Time().Format("2006-01-02T15:04:05.000Z07:00"))
		}
	}
	return asText(groups, a)
}

// levelName is what loglevel calls a level. Redis has none above warning.
func levelName(level slog.Level) string {
	i := slices.Index(config.Levels, min(level, config.LevelWarning))
	if i < 0 {
		return level.String()
	}
	return config.LevelNames[i]
}

// maxWords is how many bytes of an error or a name a line has.
const maxWords = 512

func bounded(text string) string {
	if len(text) > maxWords {
		return text[:maxWords-len("...")] + "..."
	}
	return text
}

// output is where lines go. slog makes one Write of each line.
type output struct {
	path string
	mu   sync.Mutex // guards file and keeps lines whole
	file *os.File   // nil: standard error
}

func (o *output) open() error {
	if o.path == "" {
		return nil
	}
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	return o.use(f)
}

func (o *output) close() error { return o.use(nil) }

// use puts a file in the place of another.
func (o *output) use(f *os.File) error {
	o.mu.Lock()
	old := o.file
	o.file = f
	o.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var w io.Writer = os.Stderr
	if o.file != nil {
		w = o.file
	}
	return w.Write(line)
}
