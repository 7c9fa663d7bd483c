package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/codec"
)

// nodesWord is what INFO has to ask the nodes for: how many keys there are and what they count, over all primaries, and by
// which policy they evict. It is asked on the client's own pipes, so that a user who may not run INFO gets what the node says to
// that. A node that does not answer is left out.
//
// Owned by the loop of the client until all have answered.
type nodesWord struct {
	keyspace map[int]*keyCount // by database
	stats    nodeFigures
	saving   nodeFigures
	policy   string
	refusal  []byte // an error reply that ends the matter

	left int
	then func()
}

// ask asks for what the wanted sections need, and calls then when all has come, perhaps before it returns.
func (w *nodesWord) ask(s *session, wanted infoWanted, then func()) {
	w.then = then
	w.keyspace = map[int]*keyCount{}
	w.left = 1 // until all is sent: the first answers may come at once
	t := s.loop.srv.nodes.Topology()
	embedded := s.loop.srv.nodes.Info().Kind == nodes.Embedded
	for shard := range t.Shards() {
		pipe := s.pipes.Shard(t, shard)
		switch {
		case wanted["Keyspace"] && embedded:
			w.send(pipe, askSize, w.addSize)
		case wanted["Keyspace"]:
			w.send(pipe, askKeyspace, w.addKeyspace)
		}
		if embedded {
			continue
		}
		if wanted["Memory"] && shard == 0 {
			w.send(pipe, askMemory, w.takePolicy)
		}
		if wanted["Stats"] {
			w.send(pipe, askStats, func(text string) { w.stats.add(text, added) })
		}
		if wanted["Persistence"] {
			w.send(pipe, askPersistence, func(text string) { w.saving.add(text, greater) })
		}
	}
	w.arrived()
}

var (
	askKeyspace = codec.AppendCommandString(nil, "INFO", "keyspace")
	askMemory   = codec.AppendCommandString(nil, "INFO", "memory")
	askSize     = codec.AppendCommandString(nil, "DBSIZE")

	askStats       = codec.AppendCommandString(nil, "INFO", "stats")
	askPersistence = codec.AppendCommandString(nil, "INFO", "persistence")
)

func (w *nodesWord) send(pipe *pipe.Pipe, question []byte, take func(text string)) {
	w.left++
	answer := &nodeAnswer{word: w, take: take}
	if err := pipe.Send(question, 1, answer); err != nil {
		answer.Lost(err, question)
	}
}

func (w *nodesWord) arrived() {
	if w.left--; w.left == 0 {
		w.then()
	}
}

// nodeAnswer is owed one node's answer. It is a backend.Receiver.
type nodeAnswer struct {
	word *nodesWord
	take func(text string)
}

// Reply takes the answer.
func (a *nodeAnswer) Reply(reply, _ []byte, _ int) {
	switch v, err := codec.ParseValue(reply); {
	case bytes.HasPrefix(reply, []byte("-NO")): // NOPERM, NOAUTH
		a.word.refusal = bytes.Clone(reply)
	case err == nil && !v.IsError():
		a.take(v.Text())
	}
	a.word.arrived()
}

// Lost is told that there will be none.
func (a *nodeAnswer) Lost(err *backend.LostError, _ []byte) {
	if err.Refusal != "" {
		a.word.refusal = appendLost(nil, err)
	}
	a.word.arrived()
}

// policyOr is the nodes' maxmemory_policy, if one has said it.
func (w *nodesWord) policyOr(unknown string) string {
	if w.policy == "" {
		return unknown
	}
	return w.policy
}

func (w *nodesWord) takePolicy(text string) {
	for line := range strings.Lines(text) {
		if policy, ok := strings.CutPrefix(line, "maxmemory_policy:"); ok {
			w.policy = strings.TrimSpace(policy)
		}
	}
}

// addKeyspace adds lines of the form "db0:keys=2,expires=1,avg_ttl=60000".
func (w *nodesWord) addKeyspace(text string) {
	for line := range strings.Lines(text) {
		name, fields, ok := strings.Cut(strings.TrimSpace(line), ":")
		number, isDB := strings.CutPrefix(name, "db")
		db, err := strconv.Atoi(number)
		if !ok || !isDB || err != nil {
			continue
		}
		w.count(db).add(fields)
	}
}

// addSize adds what the embedded backend can say.
func (w *nodesWord) addSize(text string) {
	if text != "0" {
		w.count(0).add("keys=" + text + ",expires=0,avg_ttl=0")
	}
}

func (w *nodesWord) count(db int) *keyCount {
	c := w.keyspace[db]
	if c == nil {
		c = &keyCount{sums: map[string]int64{}}
		w.keyspace[db] = c
	}
	return c
}

// keyCount is one database's line of INFO keyspace, summed over nodes. avg_ttl is an average over the keys that expire,
// everything else is a number of keys.
type keyCount struct {
	names []string // in the order of the line
	sums  map[string]int64
}

const averageTTL = "avg_ttl"

func (c *keyCount) add(fields string) {
	expires := int64(0)
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(field, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			continue
		}
		if name == "expires" {
			expires = n
		}
		if name == averageTTL {
			n *= expires
		}
		if _, known := c.sums[name]; !known {
			c.names = append(c.names, name)
		}
		c.sums[name] += n
	}
}

// String is the line behind "db0:".
func (c *keyCount) String() string {
	var b strings.Builder
	for i, name := range c.names {
		n := c.sums[name]
		if name == averageTTL {
			n /= max(1, c.sums["expires"])
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s=%d", name, n)
	}
	return b.String()
}
