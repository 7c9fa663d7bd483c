package telemetry

import (
	"bytes"

	"github.com/berth-proxy/berth/router"
)

// Counters counts what one loop has done. Plain fields: only the loop touches them; a scrape has
// the loop copy them.
type Counters struct {
	Opened            int64
	closedBy          [numReasons]int64
	BytesIn, BytesOut int64
	commands          []commandStats // by router.Command.ID
	unknown           commandStats
	durations         [numWays]Histogram
	errors            map[string]int64      // by first word
	Limits            [numLimits]int64      // how often clients ran into each
	Revoked           [numRevocations]int64 // WATCHes whose lease was taken back
	redirects         map[string]redirects  // by the node they lead to
	Lag               Histogram
}

// commandStats is how often a command was answered.
type commandStats struct{ ok, failed int64 }

// redirects is how often a node's MOVED and ASK were followed.
type redirects struct{ moved, asked int64 }

// numWays is one more than the last router.Way.
const numWays = int(router.Refused) + 1

func (st *Counters) Init() {
	st.errors, st.redirects = map[string]int64{}, map[string]redirects{}
	for i := range st.durations {
		st.durations[i] = NewHistogram(DurationBuckets)
	}
	st.Lag = NewHistogram(DurationBuckets)
}

func (st *Counters) Closed(reason Reason) { st.closedBy[reason]++ }

func (st *Counters) Redirected(to router.Redirect) {
	r := st.redirects[to.Addr]
	if to.Ask {
		r.asked++
	} else {
		r.moved++
	}
	st.redirects[to.Addr] = r
}

// allRedirects are those to any node.
func (st *Counters) allRedirects() (all redirects) {
	for _, r := range st.redirects {
		all.moved += r.moved
		all.asked += r.asked
	}
	return all
}

// allCommands is how often any command was answered.
func (st *Counters) allCommands() commandStats {
	all := st.unknown
	for _, c := range st.commands {
		all.ok += c.ok
		all.failed += c.failed
	}
	return all
}

// maxErrorWords bounds how many different first words of errors are counted: scripts make up their
// own.
const maxErrorWords = 100

// Answered enters an answered command; took is 0 for what never left berth.
func (st *Counters) Answered(cmd *router.Command, took int64, reply []byte) {
	c := &st.unknown
	if cmd != nil {
		for cmd.ID >= len(st.commands) {
			st.commands = append(st.commands, make([]commandStats, cmd.ID+1-len(st.commands))...)
		}
		c = &st.commands[cmd.ID]
		if took > 0 {
			st.durations[cmd.Way].Observe(uint64(took))
		}
	}
	if len(reply) == 0 || reply[0] != '-' {
		c.ok++
		return
	}
	c.failed++
	word, _, _ := bytes.Cut(bytes.TrimSuffix(reply[1:], []byte("\r\n")), []byte(" "))
	if _, known := st.errors[string(word)]; !known && len(st.errors) >= maxErrorWords {
		word = []byte("other")
	}
	st.errors[string(word)]++
}

// Add sums another loop's counters into st.
func (st *Counters) Add(o *Counters) {
	st.Opened += o.Opened
	st.BytesIn += o.BytesIn
	st.BytesOut += o.BytesOut
	st.unknown.ok += o.unknown.ok
	st.unknown.failed += o.unknown.failed
	for reason, n := range o.closedBy {
		st.closedBy[reason] += n
	}
	for word, n := range o.errors {
		st.errors[word] += n
	}
	for limit, n := range o.Limits {
		st.Limits[limit] += n
	}
	for why, n := range o.Revoked {
		st.Revoked[why] += n
	}
	for addr, r := range o.redirects {
		all := st.redirects[addr]
		all.moved += r.moved
		all.asked += r.asked
		st.redirects[addr] = all
	}
	if len(o.commands) > len(st.commands) {
		st.commands = append(st.commands, make([]commandStats, len(o.commands)-len(st.commands))...)
	}
	for i, c := range o.commands {
		st.commands[i].ok += c.ok
		st.commands[i].failed += c.failed
	}
	for i := range st.durations {
		st.durations[i].Add(&o.durations[i])
	}
	st.Lag.Add(&o.Lag)
}
