package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/server/config"
)

func openLog(t *testing.T, path string, level slog.Level) *eventLog {
	t.Helper()
	l, err := openEventLog(path, level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.out.file.Close() })
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
	l.setLevel(config.LevelVerbose)
	all("second")
	l.setLevel(config.LevelWarning)
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
	if err := l.reopen(); err != nil {
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
	if l.reopen() == nil {
		t.Fatal("opened a file in a directory that is gone")
	}
	l.Info("still here")
	if got := readLog(t, filepath.Join(dir+".1", "berth.log")); !strings.Contains(got, "still here") {
		t.Errorf("got %q", got)
	}
}

func TestAFloodIsLoggedOnceAnIntervalWithACount(t *testing.T) {
	f := flood{every: time.Minute}
	now := time.Unix(1000, 0)
	if ok, held := f.pass(now); !ok || held != 0 {
		t.Errorf("the first: %v, %d", ok, held)
	}
	for i := range 5 {
		if ok, _ := f.pass(now.Add(time.Duration(i) * time.Second)); ok {
			t.Error("passes within the interval")
		}
	}
	if ok, held := f.pass(now.Add(time.Minute)); !ok || held != 5 {
		t.Errorf("the next: %v, %d", ok, held)
	}

	path := filepath.Join(t.TempDir(), "berth.log")
	l := openLog(t, path, config.LevelNotice)
	var gate flood
	gate.held.Store(7)
	before := slog.Default()
	slog.SetDefault(l.Logger)
	limited(&gate, config.LevelDebug, "not at this level")
	limited(&gate, config.LevelWarning, "client refused", "why", "maxclients")
	limited(&gate, config.LevelWarning, "client refused", "why", "maxclients")
	slog.SetDefault(before)
	got := readLog(t, path)
	if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, `msg="client refused" why=maxclients suppressed=7`+"\n") {
		t.Errorf("got %q", got)
	}
}

func TestOfManyThatRaceForAFloodGateOnePassesAndTheRestAreCounted(t *testing.T) {
	f := flood{every: time.Hour}
	var passed, told atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				if ok, held := f.pass(time.Unix(1, 0)); ok { // told of those that lost before it counted
					passed.Add(1)
					told.Add(held)
				}
			}
		})
	}
	all.Wait()
	_, held := f.pass(time.Unix(1, 0).Add(time.Hour))
	if passed.Load() != 1 || told.Load()+held != 7999 {
		t.Errorf("%d passed, told of %d then and of %d later", passed.Load(), told.Load(), held)
	}
}

// Each kind of line has its own pace, however many come, and what is left out is counted.
func TestFloodsOfLinesAreLeftOutAndCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	l := openLog(t, path, config.LevelNotice)
	k := &logKinds{gates: map[string]*kindGate{}}
	l.Logger = slog.New(&gatedHandler{Handler: l.Handler().(*gatedHandler).Handler, kinds: k})
	second := time.Now()
	write := func(msg string, at time.Time) {
		r := slog.NewRecord(at, slog.LevelWarn, msg, 0)
		if err := l.Handler().Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5001 {
		write("client refused", second.Add(time.Duration(i)*time.Millisecond/10))
		if i%1000 == 0 {
			write("node down", second)
		}
	}
	write("client refused", second.Add(2*time.Second))
	log := readLog(t, path)
	if n := strings.Count(log, "client refused"); n != linesPerSecond+1 {
		t.Errorf("%d lines of the flood", n)
	}
	if n := strings.Count(log, "node down"); n != 6 {
		t.Errorf("%d lines of another kind", n)
	}
	if want := fmt.Sprintf("suppressed=%d", 5001-linesPerSecond); !strings.Contains(log, want) {
		t.Errorf("no line says %s", want)
	}
	for i := range 2 * maxLogKinds {
		k.pass(fmt.Sprint("kind ", i), second)
	}
	if n := len(k.gates); n > maxLogKinds+1 {
		t.Errorf("%d kinds are kept", n)
	}
}
