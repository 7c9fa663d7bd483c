package main

import (
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// revoked is how many WATCHes berth has taken back.
func revoked(t testing.TB, b *berthServer) int64 {
	t.Helper()
	c := dial(t, b.Addr())
	defer c.Close()
	return fields(t, c.Do("PROXY", "STATS"))["watches_revoked"].(int64)
}

func TestIdleWatchGivesItsConnectionToOneWhoWaits(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := oneLease(t, node.Addr())
	idle, next := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, idle, "SET k 1 → OK", "WATCH k → OK", "GET k → 1", "MULTI → OK", "INCR k → QUEUED")
	script(t, next, "WATCH other → OK", "GET other → <nil>")
	if n := revoked(t, b); n != 1 {
		t.Fatalf("%d were taken back", n)
	}
	script(t, idle, "EXEC → <nil>", "GET k → 1")
	// The next has the same connection, and nothing of the first's WATCH.
	node.Do(t, "SET", "k", "2")
	script(t, next, "MULTI → OK", "SET other 1 → QUEUED", "EXEC → [OK]")
	script(t, idle, "WATCH k → OK", "MULTI → OK", "INCR k → QUEUED", "EXEC → [3]")
	if s := b.leases(); s.Dials != 1 || s.Leased != 0 || s.Idle != 1 {
		t.Errorf("%+v at the end", s)
	}
}

// A node that refuses WATCH watches nothing: there is nothing to undo, which the user may not do
// either.
func TestARefusedWatchHoldsNoConnection(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	setUsers(t, node, "u on >pw ~* &* +@all -watch -unwatch")
	b := oneLease(t, node.Addr())
	c, other := loggedIn(t, b.Addr(), "u"), loggedIn(t, b.Addr(), "u")
	if got := c.Do("WATCH", "k"); !refusedFor(got, "NOPERM") {
		t.Fatal(got)
	}
	script(t, other, "BLPOP l 0.001 → <nil>", "BLPOP l 0.001 → <nil>")
	script(t, c, "MULTI → OK", "GET k → QUEUED", "EXEC → [<nil>]")
	if s := b.leases(); s.Leased != 0 {
		t.Errorf("%+v at the end", s)
	}
}

func TestWhatAClientDoesAfterItsWatchWasTakenBack(t *testing.T) {
	parallel(t)
	for name, lines := range map[string][]string{
		"reads on a pipe":                 {"GET k → 1", "MGET k j → [1 <nil>]", "MULTI → OK", "GET k → QUEUED", "EXEC → <nil>"},
		"writes on a pipe":                {"SET k 5 → OK", "GET k → 5", "MULTI → OK", "EXEC → <nil>"},
		"EXECABORT wins":                  {"MULTI → OK", "nonsense → ERR unknown command 'nonsense', with args beginning with: ", "EXEC → EXECABORT Transaction discarded because of previous errors."},
		"another WATCH does not mend it":  {"WATCH k → OK", "MULTI → OK", "EXEC → <nil>"},
		"EXEC without MULTI is no EXEC":   {"EXEC → ERR EXEC without MULTI", "MULTI → OK", "EXEC → <nil>"},
		"UNWATCH ends it":                 {"UNWATCH → OK", "MULTI → OK", "GET k → QUEUED", "EXEC → [1]"},
		"DISCARD ends it":                 {"MULTI → OK", "DISCARD → OK", "MULTI → OK", "GET k → QUEUED", "EXEC → [1]"},
		"RESET ends it":                   {"RESET → RESET", "MULTI → OK", "GET k → QUEUED", "EXEC → [1]"},
		"one EXEC answers nil, not more":  {"MULTI → OK", "EXEC → <nil>", "WATCH k → OK", "MULTI → OK", "GET k → QUEUED", "EXEC → [1]"},
		"a blocking command that is done": {"BLPOP l 0.001 → <nil>", "MULTI → OK", "EXEC → <nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			b := oneLease(t, redistest.Start(t, "--hz", "100").Addr(), "--watch-max-idle", "20")
			c := dial(t, b.Addr())
			script(t, c, "SET k 1 → OK", "WATCH k → OK", "GET k → 1")
			eventually(t, "the WATCH to be taken back", func() bool { return b.leases().Leased == 0 })
			b.set("watch-max-idle", "60000") // a slow client's next WATCH is not
			script(t, c, lines...)
			if n := revoked(t, b); n != 1 {
				t.Errorf("%d were taken back", n)
			}
		})
	}
}

// What was watched is lost, so any slot may be watched next: EXEC answers nil, whatever its slot.
func TestExecOfAnotherSlotAfterAWatchWasLost(t *testing.T) {
	parallel(t)
	b := startBerth(t, clusterURL(sharedCluster(t)), "--watch-max-idle", "20")
	c := dial(t, b.Addr())
	script(t, c, "WATCH {lost}k → OK")
	eventually(t, "the WATCH to be taken back", func() bool { return b.leases().Leased == 0 })
	b.set("watch-max-idle", "60000")
	script(t, c, "WATCH {another}k k → CROSSSLOT Keys in request don't hash to the same slot",
		"WATCH {another}k → OK", "MULTI → OK", "SET {another}k 1 → QUEUED", "EXEC → <nil>",
		"WATCH {another}k → OK", "MULTI → OK", "SET {another}k 1 → QUEUED", "EXEC → [OK]")
}

func TestWatchThatIsUsedIsNotTakenBack(t *testing.T) {
	parallel(t)
	b := oneLease(t, redistest.Start(t).Addr())
	busy, next := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, busy, "WATCH k → OK")
	next.Send("WATCH", "k")
	eventually(t, "the other to wait", func() bool { return b.leases().Waiting == 1 })
	var wait int64
	eventually(t, "the other to have waited for long", func() bool {
		script(t, busy, "GET k → <nil>")
		wait = b.leases().OldestWait.Milliseconds()
		return wait > 500
	})
	script(t, busy, "MULTI → OK", "SET k 1 → QUEUED", "EXEC → [OK]")
	if got := next.Recv(); got != "OK" {
		t.Errorf("the other: %v", got)
	}
}

func TestPinsTellForHowLongAWatchHasBeenIdle(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr())
	idle, c := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, idle, "WATCH k → OK")
	var row map[string]any
	eventually(t, "a second to pass", func() bool {
		row = only(t, proxy(t, c, "PINS"), "reason", "watch")
		return row["idle_seconds"].(int64) >= 1
	})
	if row["seconds"].(int64) < 1 {
		t.Errorf("got %v", row)
	}
	script(t, idle, "GET k → <nil>")
	if row = only(t, proxy(t, c, "PINS"), "reason", "watch"); row["idle_seconds"] != int64(0) {
		t.Errorf("got %v", row)
	}
}

func TestTakenBackWatchesAreCountedByReason(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startLoaded(t, node.Addr(), "--watch-max-idle", "20", "--private-conn-pool-max-total", "4", "--pool-blocking-share", "75")
	c := dial(t, b.Addr())
	script(t, c, "WATCH k → OK")
	const family = "berth_pool_revoked_total"
	var m map[string]float64
	eventually(t, "the WATCH to be taken back", func() bool {
		m = b.metrics()
		return sum(m, family, `"watch-max-idle"`) == 1
	})
	if n := sum(m, family, `"waiters"`); n != 0 {
		t.Errorf("%v for others", n)
	}
	if all, blocking := sum(m, "berth_pool_limit", node.Addr(), `"all"`), sum(m, "berth_pool_limit", node.Addr(), `"blocking"`); all != 4 || blocking != 3 {
		t.Errorf("the limits are %v and %v", all, blocking)
	}
}
