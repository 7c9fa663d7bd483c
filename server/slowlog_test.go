package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// rowsOf are the entries of PROXY SLOWLOG GET.
func slowRows(t *testing.T, c *redistest.Conn, words ...any) (rows [][]any) {
	t.Helper()
	reply, ok := c.Do(append([]any{"PROXY", "SLOWLOG", "GET"}, words...)...).([]any)
	if !ok {
		t.Fatalf("PROXY SLOWLOG GET: %v", reply)
	}
	for _, row := range reply {
		rows = append(rows, row.([]any))
	}
	return rows
}

func TestSlowlogSaysWhoAskedWhatWhere(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--enable-debug-command", "yes")
	b := startBerth(t, "redis://"+node.Addr(), "--enable-debug-command", "yes", "--proxy-slowlog-slower-than", "50000")
	c, admin := dial(t, b.Addr()), dial(t, b.Addr())
	long := strings.Repeat("v", 1000)
	script(t, c, "CLIENT SETNAME slowpoke → OK", "GET k → <nil>")
	if rows := slowRows(t, admin); len(rows) != 0 {
		t.Errorf("a GET is slow: %v", rows)
	}
	script(t, c, "DEBUG SLEEP 0.1 → OK")
	setSlower := func(micros string) { // the loops hear of it at their next tick
		script(t, admin, "CONFIG SET proxy-slowlog-slower-than "+micros+" → OK")
		want := b.srv.slowFrom.Load()
		eventually(t, "the loops to know", func() bool {
			answers, _ := askLoops(b.srv, func(l *loop) int64 { return l.slowFrom })
			return !slices.ContainsFunc(answers, func(n int64) bool { return n != want })
		})
	}
	setSlower("0")
	words := []any{"MSET"}
	for i := range 40 {
		words = append(words, fmt.Sprint("k", i), long)
	}
	c.Do(words...)
	setSlower("-1")
	c.Do("GET", "k")
	rows := slowRows(t, admin)
	if len(rows) != 2 {
		t.Fatalf("%d entries: %v", len(rows), rows)
	}
	mset, sleep := rows[0], rows[1]
	if sleep[2].(int64) < 100_000 || fmt.Sprint(sleep[3]) != "[DEBUG SLEEP 0.1]" || sleep[4] != c.LocalAddr() || sleep[5] != "slowpoke" ||
		sleep[6] != "default" || sleep[7] != node.Addr() || mset[0].(int64) != sleep[0].(int64)+1 {
		t.Errorf("entries %v", rows)
	}
	shown := mset[3].([]any)
	if len(shown) != 32 || shown[31] != "... (50 more arguments)" || shown[2] != strings.Repeat("v", 128)+"... (872 more bytes)" {
		t.Errorf("MSET is shown as %v", shown)
	}
	script(t, admin, "PROXY SLOWLOG LEN → 2", "PROXY SLOWLOG RESET → OK", "PROXY SLOWLOG LEN → 0")
}

// A request that had to wait for its client's own says so: the node is not to blame.
func TestSlowlogTellsWhatWaitedInBerth(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--enable-debug-command", "yes")
	b := startBerth(t, "redis://"+node.Addr(), "--enable-debug-command", "yes", "--proxy-slowlog-slower-than", "50000")
	c := dial(t, b.Addr())
	c.WriteString("BLPOP nothing 0.2\r\nGET k\r\n") // berth holds the GET until BLPOP is answered
	c.Recv()
	c.Recv()
	rows := slowRows(t, dial(t, b.Addr()))
	if len(rows) != 1 || fmt.Sprint(rows[0][3]) != "[GET k]" || rows[0][8].(int64) < 100_000 || rows[0][2].(int64)-rows[0][8].(int64) > 100_000 {
		t.Errorf("entries %v", rows)
	}
}

func TestSlowNodeIsNamed(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, "redis://"+node.Addr())
	c := dial(t, b.Addr())
	script(t, c, "GET k → <nil>")
	admin := dial(t, b.Addr())
	proxy(t, admin, "BACKENDS") // whoever was never allowed is refused while no node says so
	script(t, admin, "CONFIG GET timeout → [timeout 0]")
	node.Pause()
	c.WriteString("GET k\r\n")
	state := func() (is string) {
		for _, row := range proxy(t, admin, "BACKENDS") {
			is = row["state"].(string)
		}
		return is
	}
	eventually(t, "the node to be slow", func() bool { return state() == "slow" })
	if got := b.srv.slow.String(); !strings.HasPrefix(got, node.Addr()+" has owed a reply for ") {
		t.Errorf("slow nodes: %q", got)
	}
	script(t, admin, "CONFIG GET timeout → [timeout 0]") // no node is asked for what is berth's
	node.Resume()
	c.Recv()
	eventually(t, "the node to be up", func() bool { return state() == "up" && b.srv.slow.String() == "" })
}
