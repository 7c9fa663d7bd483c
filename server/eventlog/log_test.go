package eventlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/server/config"
)

func openLog(t *testing.T, path string, level slog.Level) *Log {
	t.Helper()
	l, err := Open(path, config.LogText, level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func readLog(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTheLogLevelDecidesWhatIsLoggedAndChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	l := openLog(t, path, config.LevelNotice)
	all := func(round string) {
		l.Debug(round)
		l.Log(t.Context(), config.LevelVerbose, round)
		l.Info(round)
		l.Warn(round)
	}
	all("first")
	l.SetLevel(config.LevelVerbose)
	all("second")
	l.SetLevel(config.LevelWarning)
	all("third")
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(readLog(t, path)), "\n") {
		_, line, _ = strings.Cut(line, "level=")
		got = append(got, line)
	}
	want := "notice msg=first|warning msg=first|verbose msg=second|notice msg=second|warning msg=second|warning msg=third"
	if strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAMovedLogFileIsOpenedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	l := openLog(t, path, config.LevelNotice)
	l.Info("one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Info("two")
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Info("three")
	if old, now := readLog(t, path+".1"), readLog(t, path); strings.Count(old, "\n") != 2 || !strings.Contains(now, "three") {
		t.Errorf("old file %q, new file %q", old, now)
	}
}

func TestALogThatCannotBeOpenedAgainStaysOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "berth.log")
	l := openLog(t, path, config.LevelNotice)
	if err := os.Rename(dir, dir+".1"); err != nil {
		t.Fatal(err)
	}
	if l.Reopen() == nil {
		t.Fatal("opened a file in a directory that is gone")
	}
	l.Info("still here")
	if got := readLog(t, filepath.Join(dir+".1", "berth.log")); !strings.Contains(got, "still here") {
		t.Errorf("got %q", got)
	}
}

// Of a message with a cause one line passes in a second, of others twenty, however many come. What is left
// out is counted, and said with the next line.
func TestFloodsOfLinesAreLeftOutAndCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	l := openLog(t, path, config.LevelNotice)
	second := time.Now()
	write := func(msg string, at time.Time, attrs ...any) {
		r := slog.NewRecord(at, slog.LevelWarn, msg, 0)
		r.Add(attrs...)
		if err := l.Handler().Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	full := []any{"addr", "1.2.3.4:5", "why", Cause("maxclients")}
	denied := []any{"why", Cause("protected-mode")}
	for i := range 5001 {
		write("client refused", second.Add(time.Duration(i)*time.Millisecond/10), full...)
		write("command refused", second, "why", "no matter")
		if i%1000 == 0 {
			write("node down", second)
			write("client refused", second, denied...)
		}
	}
	write("client refused", second.Add(time.Second), full...)
	write("command refused", second.Add(time.Second))
	log := readLog(t, path)
	for part, want := range map[string]int{
		"why=maxclients": 2, "why=protected-mode": 1, "node down": 6, "command refused": linesPerSecond + 1,
		`msg="client refused, 5000 more like it" addr=1.2.3.4:5 why=maxclients`:    1,
		fmt.Sprintf(`msg="command refused, %d more like it"`, 5001-linesPerSecond): 1,
	} {
		if n := strings.Count(log, part); n != want {
			t.Errorf("%d lines with %s, want %d", n, part, want)
		}
	}
	for i := range 2 * maxKinds {
		l.gates.pass(kind{message: fmt.Sprint("kind ", i)}, slog.LevelWarn, second)
	}
	if n := len(l.gates.all); n > maxKinds+1 {
		t.Errorf("%d kinds are kept", n)
	}
}

// Many goroutines log the same at once: one line passes, all others are counted, whoever says so.
func TestWhatManyGoroutinesLogIsCountedToTheLast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	l := openLog(t, path, config.LevelNotice)
	now := time.Now()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				r := slog.NewRecord(now, slog.LevelWarn, "client closed", 0)
				r.AddAttrs(slog.Any("why", Cause("idle timeout")))
				_ = l.Handler().Handle(t.Context(), r)
			}
		})
	}
	all.Wait()
	l.Settle()
	log := readLog(t, path)
	if strings.Count(log, "\n") != 2 || !strings.Contains(log, `msg="client closed, 7999 more like it" why="idle timeout"`) {
		t.Errorf("got %q", log)
	}
	l.Settle()
	if again := readLog(t, path); again != log {
		t.Errorf("said twice: %q", again)
	}
}

// After the last line of a flood the log says how many were left out, though nothing more comes.
func TestTheEndOfAFloodIsCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	l := openLog(t, path, config.LevelNotice)
	for range 3 {
		l.Warn("client refused", "why", Cause("maxclients"))
	}
	l.gates.mu.Lock()
	l.gates.all[kind{"client refused", "maxclients"}].since = time.Now().Add(-quietAfter)
	l.gates.mu.Unlock()
	l.gates.look(kind{"client refused", "maxclients"})
	if log := readLog(t, path); !strings.HasSuffix(log, `msg="client refused, 2 more like it" why=maxclients`+"\n") {
		t.Errorf("got %q", log)
	}
}

func TestALineOfJSONIsAnObject(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	l, err := Open(path, config.LogJSON, config.LevelVerbose)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7}
	l.Warn("client closed", "why", Cause("query buffer limit"), "addr", addr, "limit", 2*time.Second, "bytes", 12,
		"error", errors.New(strings.Repeat("x", 2*maxWords)), "name", "\n\x00\"", "user", strings.Repeat("u", 2*maxWords))
	l.Warn("client closed", "why", Cause("query buffer limit"))
	l.Log(t.Context(), config.LevelVerbose, "pipe up")
	l.Settle()
	var lines []map[string]any
	for line := range strings.Lines(readLog(t, path)) {
		var said map[string]any
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if _, err := time.Parse("2006-01-02T15:04:05.000Z07:00", fmt.Sprint(said["time"])); err != nil {
			t.Error(err)
		}
		delete(said, "time")
		lines = append(lines, said)
	}
	want := []map[string]any{
		{"level": "warning", "message": "client closed", "why": "query buffer limit", "addr": "10.0.0.1:7", "limit": "2s", "bytes": 12,
			"error": strings.Repeat("x", maxWords-3) + "...", "name": "\n\x00\"",
			"user": strings.Repeat("u", maxWords-3) + "..."},
		{"level": "verbose", "message": "pipe up"},
		{"level": "warning", "message": "client closed", "why": "query buffer limit", "suppressed": 1},
	}
	if fmt.Sprint(lines) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", lines, want)
	}
}
