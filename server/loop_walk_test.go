package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/server/telemetry"
)

// A list of very many numbers is read while others have their turn, and has what was asked for.
func TestListsOfVeryManyClientsKeepNobodyWaiting(t *testing.T) {
	overBackends(t, nil, listVeryManyClients)
}

func listVeryManyClients(t *testing.T, nodes backing) {
	b := startBerth(t, nodes.url(""), "--loops", "1")
	watcher := startBystander(t, b.Addr())
	asker := dial(t, b.Addr())
	own := asker.Do("CLIENT", "ID").(int64)
	words := []any{"CLIENT", "LIST", "ID"}
	for i := range sized(100_000, 1_000_000) {
		words = append(words, 1_000_000+i)
	}
	words = append(words, own, own)
	got := asker.Do(words...).(string)
	lines, refusal := 2, "ERR Invalid client ID"
	if b.srv.clientOptions() >= sharedOptions { // which lists a client once, and may read an option after the numbers
		lines, refusal = 1, errSyntax
	}
	if n := strings.Count(got, "\n"); n != lines || strings.Count("\n"+got, fmt.Sprintf("\nid=%d ", own)) != lines {
		t.Errorf("got %.200q", got)
	}
	if got := asker.Do(append(words, "x")...); fmt.Sprint(got) != refusal {
		t.Errorf("got %.80v", got)
	}
	asker.WriteString(fmt.Sprintf("client list id %d\r\n", own))
	if got := asker.Recv().(string); !strings.HasPrefix(got, fmt.Sprintf("id=%d ", own)) || strings.Count(got, "\n") != 1 {
		t.Errorf("inline: %q", got)
	}
	watcher.end()
}

// A walk visits each session once, though some leave while it is on its way.
func TestWalksVisitEachSessionThatStays(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--loops", "1")
	var ids []int64
	for range 2*sliceSessions + 10 {
		ids = append(ids, dial(t, b.Addr()).Do("CLIENT", "ID").(int64))
	}
	l := b.srv.eachLoop()[0]
	ended := make(chan map[int64]int)
	l.Post(func() {
		visits := map[int64]int{}
		l.walk(func(s *session) {
			visits[s.id]++
			if s.next != nil && len(visits) == sliceSessions { // the next that the walk would visit
				s.next.kill(telemetry.Killed)
			}
		}, func() { ended <- visits })
	})
	visits := <-ended
	missing := 0
	for _, id := range ids {
		switch visits[id] {
		case 0:
			missing++
		case 1:
		default:
			t.Errorf("client %d was visited %d times", id, visits[id])
		}
	}
	if missing != 1 {
		t.Errorf("%d clients were not visited", missing)
	}
	asker := dial(t, b.Addr())
	var listed []int64
	for line := range strings.SplitSeq(strings.TrimSpace(asker.Do("CLIENT", "LIST").(string)), "\n") {
		id, err := strconv.ParseInt(strings.TrimPrefix(strings.Fields(line)[0], "id="), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, id)
	}
	if !slices.IsSorted(listed) || len(listed) != len(ids) {
		t.Errorf("%d clients are listed, of %d", len(listed), len(ids))
	}
	if left := func() int { n := make(chan int); l.Post(func() { n <- len(l.walks) }); return <-n }(); left != 0 {
		t.Errorf("%d walks are left", left)
	}
}

// COMMAND's reply is long, and a client may ask for it very often, or for very many commands at once.
func TestAskingForManyCommandsKeepsNobodyWaiting(t *testing.T) {
	overBackends(t, nil, askForManyCommands)
}

func askForManyCommands(t *testing.T, nodes backing) {
	b := startBerth(t, nodes.url(""), "--loops", "1")
	watcher := startBystander(t, b.Addr())
	asker := dial(t, b.Addr())
	const names = 6_000
	words := []any{"COMMAND", "INFO"}
	for i := range names {
		words = append(words, []string{"nothing", "get"}[i%2])
	}
	if got := asker.Do(words...).([]any); len(got) != names || got[0] != nil || got[names-1].([]any)[0] != "get" {
		t.Errorf("%d commands", len(got))
	}
	b.feed(asker, strings.Repeat("COMMAND\r\n", 80))
	if _, most := holds(b); most > 4<<20 {
		t.Errorf("berth holds %d KB of replies that the client has not read", most>>10)
	}
	for range 80 {
		if got := asker.Recv().([]any); len(got) < 200 {
			t.Fatalf("%d commands", len(got))
		}
	}
	watcher.end()
}

// A client may ask for the same line very often: berth makes no reply that is longer than all lines are worth.
func TestRepliesMadeAsideAreBounded(t *testing.T) {
	parallel(t)
	b := startBerth(t, sharedNode(t).Addr())
	c := dial(t, b.Addr())
	id := c.Do("CLIENT", "ID")
	script(t, c, "CLIENT SETNAME "+strings.Repeat("n", 1000)+" → OK")
	for _, begin := range [][]any{{"CLIENT", "LIST", "ID", id}, {"COMMAND", "INFO", "xgroup"}} {
		words := begin
		for range 20_000 {
			words = append(words, begin[len(begin)-1])
		}
		if got := c.DoRaw(words...); got != "-"+errTooLong+"\r\n" {
			t.Errorf("%v … brings %d bytes: %.60q", begin, len(got), got)
		}
	}
}

// No report and no command visits all clients of a loop in one turn.
func TestReportsVisitClientsInSlices(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--loops", "1")
	for range 2*sliceSessions + 10 {
		dial(t, b.Addr()).Do("PING")
	}
	turns := func() int {
		all, _ := askLoops(b.srv, func(l *loop) int { return l.slicing.turns })
		return all[0]
	}
	asker := dial(t, b.Addr())
	for _, command := range []string{
		"INFO clients", "PROXY STATS", "PROXY PINS", "PROXY POOLS", "PROXY CLIENTS", "CLIENT LIST", "CLIENT UNBLOCK 1000000",
		"CLIENT KILL ADDR 192.0.2.1:1", "CLIENT KILL ID 1000000", "CLIENT KILL SKIPME yes",
	} {
		before := turns()
		asker.Do(strings.Fields(command))
		if n := turns() - before; n < 2 {
			t.Errorf("%s: %d turns for slices", command, n)
		}
	}
}
