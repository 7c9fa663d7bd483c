package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/config"
)

// slowLog is the latest requests that took long: PROXY SLOWLOG. All loops share it.
type slowLog struct {
	mu      sync.Mutex  // guards what follows; nothing blocks under it
	entries []slowEntry // oldest first
	next    int64       // the number of the next one
	most    int
}

// slowEntry is one request.
type slowEntry struct {
	id            int64
	at            int64 // when it was answered, unix nanoseconds
	held          int64 // nanoseconds in berth before it was sent
	node          int64 // nanoseconds until the node's reply
	words         []string
	from, to      string // the client's address, and the node's
	client, owner string // the client's name, and its user
}

// Redis shows so much of a request in its SLOWLOG.
const (
	slowWords    = 32
	slowWordSize = 128
)

// slowFrom is how long a request must take to be kept, in nanoseconds.
func slowFrom(cfg *config.Config) int64 {
	if cfg.SlowlogSlowerThan < 0 {
		return math.MaxInt64
	}
	return int64(cfg.SlowlogSlowerThan) * 1e3
}

// resize bounds the log.
func (g *slowLog) resize(most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most = most
	g.trim()
}

func (g *slowLog) trim() {
	if over := len(g.entries) - g.most; over > 0 {
		g.entries = append([]slowEntry(nil), g.entries[over:]...)
	}
}

// add keeps a request.
func (g *slowLog) add(e slowEntry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e.id = g.next
	g.next++
	g.entries = append(g.entries, e)
	if len(g.entries) > 2*g.most {
		g.trim()
	}
}

// latest returns at most n entries, the newest first; n < 0: all.
func (g *slowLog) latest(n int) (all []slowEntry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.entries[max(len(g.entries)-g.most, 0):]
	if n < 0 || n > len(kept) {
		n = len(kept)
	}
	for i := range n {
		all = append(all, kept[len(kept)-1-i])
	}
	return all
}

// len is how many entries are kept.
func (g *slowLog) len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return min(len(g.entries), g.most)
}

// reset forgets all entries.
func (g *slowLog) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entries = nil
}

// watch keeps a request that took long, of which sent are the bytes. A node has just answered it: that of
// its pipe if it is not named.
func (r *request) watch(node string, sent []byte) {
	s := r.s
	took := s.loop.clock - r.start
	if r.held+took < s.loop.srv.slowFrom.Load() || s.closed || r.cmd.Way == router.Blocking {
		return
	}
	if node == "" && r.pipe != nil {
		node = r.pipe.Addr()
	}
	from, _ := s.addresses()
	e := slowEntry{at: s.loop.clock, held: r.held, node: took, from: from, to: node, owner: s.user(), words: s.slowWords(r.cmd, sent)}
	if s.label != nil {
		e.client = s.label.name
	}
	s.loop.srv.slowlog.add(e)
}

// slowWords are the words of a request as Redis keeps them in its SLOWLOG.
func (s *session) slowWords(cmd *router.Command, sent []byte) (words []string) {
	p := s.loop.parser()
	defer s.loop.dropParser(p)
	n, err := p.ParseAll(sent, s.loop.srv.limits(true))
	if cmd.Is(router.Exec) || n == 0 || err != nil {
		return []string{cmd.Name}
	}
	args := p.Args()
	for i, word := range args[:min(len(args), slowWords)] {
		switch {
		case i == slowWords-1 && len(args) > slowWords:
			words = append(words, fmt.Sprintf("... (%d more arguments)", len(args)-slowWords+1))
		case isPassword(cmd, args, i):
			words = append(words, "(redacted)")
		case len(word) > slowWordSize:
			words = append(words, fmt.Sprintf("%s... (%d more bytes)", word[:slowWordSize], len(word)-slowWordSize))
		default:
			words = append(words, string(word))
		}
	}
	return words
}

// proxySlowlog runs PROXY SLOWLOG GET, LEN and RESET.
func proxySlowlog(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	log := &s.loop.srv.slowlog
	switch word := strings.ToLower(string(args[2])); {
	case word == "get" && len(args) <= 4:
		n := 10
		if len(args) == 4 {
			var err error
			if n, err = strconv.Atoi(string(args[3])); err != nil || n < -1 {
				return s.refuse(cmd, "ERR count should be greater than or equal to -1")
			}
		}
		return s.offLoop(cmd, func() []byte { return appendSlowLog(nil, log.latest(n)) })
	case word == "len" && len(args) == 3:
		s.loop.scratch = codec.AppendInt(s.loop.scratch[:0], int64(log.len()))
	case word == "reset" && len(args) == 3:
		log.reset()
		s.loop.scratch = codec.AppendSimple(s.loop.scratch[:0], "OK")
	default:
		return s.refuse(cmd, "ERR PROXY SLOWLOG is followed by GET [count], LEN or RESET")
	}
	s.answer(cmd, s.loop.scratch)
	return true
}

// appendSlowLog appends entries as SLOWLOG GET shows them: number, time, microseconds, words, address
// and name of the client. After these come the user, the node, and the microseconds in berth before the
// request was sent.
func appendSlowLog(dst []byte, entries []slowEntry) []byte {
	dst = codec.AppendArray(dst, len(entries))
	for _, e := range entries {
		dst = codec.AppendArray(dst, 9)
		dst = codec.AppendInt(dst, e.id)
		dst = codec.AppendInt(dst, e.at/int64(time.Second))
		dst = codec.AppendInt(dst, (e.held+e.node)/int64(time.Microsecond))
		dst = codec.AppendArray(dst, len(e.words))
		for _, word := range e.words {
			dst = codec.AppendBulkString(dst, word)
		}
		for _, text := range []string{e.from, e.client, e.owner, e.to} {
			dst = codec.AppendBulkString(dst, text)
		}
		dst = codec.AppendInt(dst, e.held/int64(time.Microsecond))
	}
	return dst
}
