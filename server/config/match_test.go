package config

import (
	"io"
	"strings"
	"sync"
	"testing"
)

// defaults returns the settings of a berth without arguments.
func defaults(t testing.TB) *Settings {
	t.Helper()
	s, exit := Read(nil, nil, io.Discard, io.Discard)
	if s == nil {
		t.Fatalf("defaults: exit code %d", exit)
	}
	return s
}

func TestConfigGetStarListsTheWholeTableInItsOrder(t *testing.T) {
	found := defaults(t).Match([][]byte{[]byte("*"), []byte("port")})
	if len(found) != len(options) {
		t.Fatalf("%d of %d options", len(found), len(options))
	}
	for i, f := range found {
		if f.Name != options[i].name {
			t.Errorf("place %d: %s, want %s", i, f.Name, options[i].name)
		}
	}
}

func TestConfigSetIsAllOrNothing(t *testing.T) {
	s := defaults(t)
	called := false
	s.OnChange(func(*Config) { called = true })
	before := s.Load()
	if err := s.Set("timeout", "9", "maxclients", "10", "pool-wait-timeout", "never"); err == nil {
		t.Fatal("a wrong value is taken")
	}
	if s.Load() != before || called {
		t.Error("a refused change has left something behind")
	}
}

func TestSecretsAreMaskedInConfigGet(t *testing.T) {
	s, _ := configure(t, nil, "redis://u:hunter2@h")
	for _, f := range s.Match([][]byte{[]byte("*")}) {
		if strings.Contains(f.Value, "hunter2") {
			t.Errorf("%s shows %s", f.Name, f.Value)
		}
	}
	s, _ = configure(t, []string{"BERTH_BACKEND_PASSWORD=hunter2"})
	if got := s.Match([][]byte{[]byte("backend-password")}); got[0].Value != "***" {
		t.Errorf("backend-password is shown as %q", got[0].Value)
	}
}

func TestReadersSeeWholeSnapshotsWhileSettingsChange(t *testing.T) {
	s := defaults(t)
	if err := s.Set("timeout", "0", "maxclients", "1"); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if c := s.Load(); int(c.Timeout.Seconds())+1 != c.MaxClients {
					t.Errorf("timeout %v with maxclients %d", c.Timeout, c.MaxClients)
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 500 {
				n := string(rune('1'+w)) + strings.Repeat("0", i%3)
				minus := map[string]string{"1": "0", "10": "9", "100": "99", "2": "1", "20": "19", "200": "199",
					"3": "2", "30": "29", "300": "299", "4": "3", "40": "39", "400": "399"}[n]
				if err := s.Set("maxclients", n, "timeout", minus); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}
