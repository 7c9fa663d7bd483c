package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// Conversations made by chance: some clients block on, push to, watch, move and remove the same few
// keys. How a redis-server takes a line decides how the conversation goes on; then it is held with
// both sides. BERTH_DIFF_SEED is the differential tests', BERTH_DIFF_TALKS says how many
// conversations.
func TestSuiteOfChance(t *testing.T) {
	parallel(t)
	direct := redistest.Start(t, suiteServer...)
	seed, n := uint64(envInt("BERTH_DIFF_SEED", diffSeed)), envInt("BERTH_DIFF_TALKS", 15)
	var conversations []conversation
	for i := range n {
		m := &talkMaker{
			Rand: rand.New(rand.NewPCG(seed, uint64(i))), replies: map[string]chan string{}, inside: map[string]bool{}, clients: []string{"a", "b", "c", "d", "e"},
			talk: &talk{t: t, addr: direct.Addr(), servers: []*redistest.Server{direct}, resp: 2, tag: "{" + unique("chance") + "}"},
		}
		conversations = append(conversations, conversation{name: fmt.Sprintf("%d of seed %d", i, seed), lines: m.make()})
	}
	served := 0
	for _, c := range conversations {
		served += strings.Count(c.lines, "<")
	}
	if served < 2*n {
		t.Errorf("in %d conversations only %d clients blocked and were served", n, served)
	}
	// Among clients that share a lane one that waits already is told when a key has become of
	// another type. Alone it is not.
	compareTalks(t, conversations, "--blocking-share", "no")
}

// talkMaker makes a conversation while a redis-server holds it.
type talkMaker struct {
	*rand.Rand
	talk    *talk
	clients []string
	replies map[string]chan string // of the clients that block
	inside  map[string]bool        // the clients between MULTI and EXEC
	lines   []string
	entry   int // the last that was added to a stream
}

func (m *talkMaker) make() string {
	k := m.talk
	k.clients = map[string]*talker{}
	watcher := dial(k.t, k.addr)
	for _, who := range m.clients { // each has a CLIENT ID by which others may speak of it
		k.client(who)
		m.lines = append(m.lines, who+": PING")
	}
	for range 80 {
		who := m.clients[m.IntN(len(m.clients))]
		if m.replies[who] != nil {
			continue
		}
		line := m.command(who != "e")                                               // somebody must be left to serve the others
		if m.inside[who] && (m.IntN(3) == 0 || strings.HasPrefix(line, "CLIENT")) { // CLIENT UNBLOCK is not queued by berth
			line = "EXEC"
		}
		m.inside[who] = line == "MULTI" || m.inside[who] && line != "EXEC" && line != "DISCARD"
		m.say(watcher, who, line)
	}
	watcher.Close()
	for _, c := range k.clients {
		c.Close()
	}
	k.awaitBlocked(0)
	return strings.Join(m.lines, "\n")
}

// say has a client say a line, and takes note of who blocks and of who is served.
func (m *talkMaker) say(watcher *redistest.Conn, who, line string) {
	c := m.talk.client(who)
	reply := make(chan string, 1)
	c.Send(m.talk.words(line))
	go func() { // until the server answers, or the client is closed
		_, err := c.TryRecv()
		if err == nil {
			reply <- ""
		}
	}()
	answered := false
	eventually(m.talk.t, line, func() bool {
		select {
		case <-reply:
			answered = true
			return true
		default:
			return blockedAt(watcher, c.id)
		}
	})
	if !answered {
		m.replies[who] = reply
		m.lines = append(m.lines, who+"> "+line)
		return
	}
	m.lines = append(m.lines, who+": "+line)
	for _, other := range m.clients { // whom it served was served before it was answered
		if r := m.replies[other]; r != nil && !blockedAt(watcher, m.talk.client(other).id) {
			<-r
			m.replies[other] = nil
			m.lines = append(m.lines, other+"<")
		}
	}
}

// blockedAt tells whether a client blocks at the server.
func blockedAt(watcher *redistest.Conn, id any) bool {
	return strings.Contains(field(watcher.Do("CLIENT", "LIST", "ID", id).(string), "flags"), "b")
}

// command is what a client says: about lists l, m, n, sorted sets y, z and streams r, s, seldom
// about another type's.
func (m *talkMaker) command(mayBlock bool) string {
	key := func(of string) string {
		if m.IntN(60) == 0 {
			of = "lmnyzrs"
		}
		return "%t" + string(of[m.IntN(len(of))])
	}
	value := func() string { return fmt.Sprint(m.IntN(10)) }
	end := func() string { return []string{"LEFT", "RIGHT"}[m.IntN(2)] }
	l := func() string { return key("lmn") }
	z := func() string { return key("yz") }
	s := func() string { return key("rs") }
	m.entry++
	id := fmt.Sprintf("%d-1", m.entry)
	blocking := []string{
		"BLPOP " + l() + " " + l() + " 0", "BRPOP " + l() + " 0", "BLMOVE " + l() + " " + l() + " " + end() + " " + end() + " 0",
		"BRPOPLPUSH " + l() + " " + l() + " 0", "BLMPOP 0 2 " + l() + " " + l() + " " + end() + " COUNT 2",
		"BZPOPMIN " + z() + " " + z() + " 0", "BZPOPMAX " + z() + " 0", "BZMPOP 0 1 " + z() + " MAX COUNT 2",
		"XREAD BLOCK 0 STREAMS " + s() + " $", "XREAD COUNT 1 BLOCK 0 STREAMS " + s() + " " + s() + " $ 0",
		"XREADGROUP GROUP g " + value() + " COUNT 1 BLOCK 0 STREAMS " + s() + " >",
	}
	filling := []string{
		"RPUSH " + l() + " " + value(), "LPUSH " + l() + " " + value() + " " + value(), "LMOVE " + l() + " " + l() + " LEFT RIGHT",
		"RENAME " + l() + " " + l(), "COPY " + l() + " " + l() + " REPLACE", "SORT " + l() + " STORE " + l(),
		"EVAL \"return redis.call('rpush', KEYS[1], ARGV[1], ARGV[2])\" 1 " + l() + " " + value() + " " + value(),
		"ZADD " + z() + " " + value() + " " + value(), "ZADD " + z() + " 1 x 2 y", "ZUNIONSTORE " + z() + " 2 " + z() + " " + z(),
		"XADD " + s() + " " + id + " f " + value(), "XADD " + s() + " " + id + " f v", "XGROUP CREATE " + s() + " g $ MKSTREAM",
	}
	other := []string{
		"DEL " + l(), "DEL " + z(), "DEL " + s(), "LLEN " + l(), "ZCARD " + z(), "XLEN " + s(), "LPOP " + l(), "SET " + l() + " x",
		"MULTI", "DISCARD", "WATCH " + l(), "UNWATCH", "XGROUP DESTROY " + s() + " g", "PERSIST " + l(),
		"CLIENT UNBLOCK @" + m.clients[m.IntN(len(m.clients))], "CLIENT UNBLOCK @" + m.clients[m.IntN(len(m.clients))] + " ERROR",
	}
	kinds := [][]string{filling, slices.Concat(other, other[:3], other[:3]), blocking, blocking}
	if !mayBlock {
		kinds = kinds[:2]
	}
	kind := kinds[m.IntN(len(kinds))]
	return kind[m.IntN(len(kind))]
}
