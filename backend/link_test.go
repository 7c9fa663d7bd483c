package backend

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// logins knows no user.
var logins Logins

func TestALinkMovesAlongItsDrawingOnly(t *testing.T) {
	legal := map[[2]LinkState]bool{
		{Down, Dialing}: true, {Dialing, Shaking}: true, {Shaking, Up}: true,
		{Dialing, Down}: true, {Shaking, Down}: true, {Up, Down}: true,
	}
	for from := Down; from <= Up; from++ {
		for to := Down; to <= Up; to++ {
			moved := func() (ok bool) {
				defer func() { ok = recover() == nil }()
				k := Link{state: from}
				k.move(to)
				return k.state == to
			}()
			if moved != legal[[2]LinkState{from, to}] {
				t.Errorf("from %d to %d: moved %v", from, to, moved)
			}
		}
	}
}

func TestALinkThatFailsPausesLongerEachTimeAndOneThatWorkedNotAtAll(t *testing.T) {
	k := NewLink("pipe", "node:1")
	for pause := BackOffMin; pause < 4*BackOffMax; pause *= 2 {
		most := min(pause, BackOffMax)
		k.Begin()
		k.Lost(errors.New("refused"), false, 1000)
		if k.MayBegin(1000+int64(most)/2-1) || !k.MayBegin(1000+int64(most)) {
			t.Errorf("after a failure it may begin %v later; the pause is up to %v", time.Duration(k.backOff.until-1000), most)
		}
	}
	k.Begin()
	k.Opened(logins.Handshake("node:1", Identity{}), 2000)
	k.Lost(errors.New("reset"), true, int64(time.Hour))
	if !k.MayBegin(int64(time.Hour)) || k.Since() != int64(time.Hour) {
		t.Errorf("retryAt %d, since %d", k.backOff.until, k.Since())
	}
}

func TestALinkThatWasGivenUpWhileItWasDialledOpensNoMore(t *testing.T) {
	k := NewLink("feed", "node:1")
	k.Begin()
	k.Lost(ErrRetired, true, 1)
	if _, opened, _ := k.Opened(logins.Handshake("node:1", Identity{}), 2); opened || k.State() != Down {
		t.Errorf("opened %v, state %d", opened, k.State())
	}
}

// Which links are up is said once for a node, a user and a database. Others are for debugging, and one that
// berth ends itself is no loss.
func TestALinkLogsOnceThatItIsUpAndEachTimeThatItIsLost(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for _, kind := range []string{"pipe", "feed"} {
		log.Reset()
		var logins Logins
		k := NewLink(kind, "node:1")
		k.Begin()
		k.Lost(errors.New("refused"), false, 1)
		k.Begin()
		k.Opened(logins.Handshake("node:1", Identity{DB: 1, RESP: 2}), 2)
		for range 2 { // PING, SELECT
			if _, err := k.Shaken([]byte("+OK\r\n"), 3); err != nil {
				t.Fatal(err)
			}
		}
		k.Lost(ErrHungUp, true, 4, "unanswered", 7)
		k.Begin()
		k.Opened(logins.Handshake("node:1", Identity{}), 5)
		if k.Lost(ErrRetired, true, 6); k.Since() != 0 {
			t.Errorf("down since %d", k.Since())
		}
		if err, at := k.Err(); err == nil || !errors.Is(err, ErrHungUp) || at != 4 {
			t.Errorf("lost at %d: %v", at, err)
		}
		k.Begin()
		k.Opened(logins.Handshake("node:1", Identity{}), 7)
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		want := []string{
			`DEBUG+2 msg="` + kind + ` up" node=node:1 user=default db=1`,
			`WARN msg="` + kind + ` down" node=node:1 why="connection to node:1: closed by the node" unanswered=7`,
			`INFO msg="node back" node=node:1`,
			`DEBUG+2 msg="` + kind + ` up" node=node:1 user=default db=0`,
			`DEBUG msg="` + kind + ` up" node=node:1 user=default db=0`,
		}
		if len(lines) != len(want) {
			t.Fatalf("the log has %q", lines)
		}
		for i, line := range lines {
			if !strings.HasSuffix(line, want[i]) {
				t.Errorf("line %d is %q, want %q", i, line, want[i])
			}
		}
	}
}
