package telemetry

import (
	"bytes"

	"github.com/berth-proxy/berth/router"
)

// Counters counts what one loop has done. Only the loop touches the fields, so they are plain
// numbers. A look at the server has the loop copy them.
type Counters struct {
	Opened            int64
	closedBy          [numReasons]int64
	BytesIn, BytesOut int64
	commands          []commandStats // by router.Command.ID
	unknown           commandStats
	durations         [numWays][router.NumFamilies]Histogram
	waits             [numWaits]Histogram
	errors            map[string]int64      // by first word
	ownErrors         map[string]int64      // those of berth's own
	Stopped           int64                 // how often a client was not read from any more
	LimitHits         [numLimits]int64      // how often clients ran into each limit
	revoked           [numRevocations]int64 // WATCHes that lost their lease
	redirects         map[string]redirects  // by the node they lead to
	Lag               Histogram
	Near              NearCounters
}

// commandStats is how often a command was answered. failed are all errors, rejected those of them
// that came before the command ran, refused those that berth gave itself.
type commandStats struct{ ok, failed, rejected, refused int64 }

// add adds the figures of another loop.
func (c *commandStats) add(o commandStats) {
	c.ok += o.ok
	c.failed += o.failed
	c.rejected += o.rejected
	c.refused += o.refused
}

// redirects is how often a node's MOVED and ASK were followed.
type redirects struct{ moved, asked int64 }

// numWays is one more than the last router.Way.
const numWays = int(router.Refused) + 1

// Init makes empty counters ready for use.
func (st *Counters) Init() {
	st.errors, st.ownErrors, st.redirects = map[string]int64{}, map[string]int64{}, map[string]redirects{}
	for way := range st.durations {
		for family := range st.durations[way] {
			st.durations[way][family] = NewHistogram(DurationBuckets)
		}
	}
	for i := range st.waits {
		st.waits[i] = NewHistogram(DurationBuckets)
	}
	st.Lag = NewHistogram(DurationBuckets)
}

// Wait is why a request waits in berth.
type Wait uint8

const (
	WaitHeld Wait = iota // it was not sent yet: its client had to wait for something
	WaitTurn             // its reply had come, but not that to an earlier request of the client
	numWaits
)

func (w Wait) String() string { return [numWaits]string{"held", "turn"}[w] }

// Waited counts a request that has waited in berth, for so many nanoseconds.
func (st *Counters) Waited(why Wait, took int64) { st.waits[why].Observe(uint64(max(took, 0))) }

// Closed counts a client connection that was closed.
func (st *Counters) Closed(reason Reason) { st.closedBy[reason]++ }

// Limit counts a client that ran into a limit.
func (st *Counters) Limit(which Limit) { st.LimitHits[which]++ }

// Revoked counts a WATCH that lost its lease.
func (st *Counters) Revoked(why Revocation) { st.revoked[why]++ }

// Redirected counts a redirect that was followed.
func (st *Counters) Redirected(to router.Redirect) {
	r := st.redirects[to.Addr]
	if to.Ask {
		r.asked++
	} else {
		r.moved++
	}
	st.redirects[to.Addr] = r
}

// allRedirects returns how many redirects were followed, to all nodes together.
func (st *Counters) allRedirects() (all redirects) {
	for _, r := range st.redirects {
		all.moved += r.moved
		all.asked += r.asked
	}
	return all
}

// byWay returns the durations of all commands of a way.
func (st *Counters) byWay(way router.Way) (all Histogram) {
	for family := range st.durations[way] {
		all.Add(&st.durations[way][family])
	}
	return all
}

// byFamily returns the durations of all commands of a family.
func (st *Counters) byFamily(family router.Family) (all Histogram) {
	for way := range st.durations {
		all.Add(&st.durations[way][family])
	}
	return all
}

// allCommands returns how often commands were answered, all commands together.
func (st *Counters) allCommands() commandStats {
	all := st.unknown
	for _, c := range st.commands {
		all.add(c)
	}
	return all
}

// Bounds of the first words of errors that are counted: scripts invent words of their own.
const (
	maxErrorWords = 100
	maxErrorWord  = 32 // bytes; Redis takes no more either
)

// Answered counts an answered command. took is in nanoseconds, 0 for a command that never left
// berth. cmd is nil for an unknown command.
func (st *Counters) Answered(cmd *router.Command, took int64, reply []byte) {
	c := &st.unknown
	if cmd != nil {
		for cmd.ID >= len(st.commands) {
			st.commands = append(st.commands, make([]commandStats, cmd.ID+1-len(st.commands))...)
		}
		c = &st.commands[cmd.ID]
		if took > 0 {
			st.durations[cmd.Way][cmd.Family].Observe(uint64(took))
		}
	}
	if len(reply) == 0 || reply[0] != '-' {
		c.ok++
		return
	}
	c.failed++
	if isRejection(reply) {
		c.rejected++
	}
	word, _, _ := bytes.Cut(bytes.TrimSuffix(reply[1:], []byte("\r\n")), []byte(" "))
	if _, known := st.errors[string(word)]; !known && (len(st.errors) >= maxErrorWords || len(word) > maxErrorWord) {
		word = []byte("other")
	}
	st.errors[string(word)]++
	if took == 0 || bytes.Contains(reply[:min(len(reply), maxErrorWord)], []byte(" berth: ")) {
		c.refused++
		st.ownErrors[string(word)]++
	}
}

// rejections are how errors begin that are given before a command runs.
var rejections = [...][]byte{
	[]byte("-ERR wrong number of arguments "), []byte("-ERR berth:"), []byte("-ERR Can't execute "), []byte("-ERR Command "),
	[]byte("-NOAUTH "), []byte("-NOPERM "), []byte("-OOM "), []byte("-MISCONF "), []byte("-READONLY "), []byte("-MASTERDOWN "),
	[]byte("-LOADING "), []byte("-BUSY "), []byte("-NOREPLICAS "), []byte("-CLUSTERDOWN "), []byte("-CROSSSLOT "), []byte("-TRYAGAIN "),
}

// isRejection reports whether an error was given before the command ran.
func isRejection(reply []byte) bool {
	for _, begin := range rejections {
		if bytes.HasPrefix(reply, begin) {
			return true
		}
	}
	return false
}

// Add adds another loop's counters to st.
func (st *Counters) Add(o *Counters) {
	st.Opened += o.Opened
	st.BytesIn += o.BytesIn
	st.BytesOut += o.BytesOut
	st.Stopped += o.Stopped
	st.unknown.add(o.unknown)
	for reason, n := range o.closedBy {
		st.closedBy[reason] += n
	}
	for word, n := range o.errors {
		st.errors[word] += n
	}
	for word, n := range o.ownErrors {
		st.ownErrors[word] += n
	}
	st.Near.Add(o.Near)
	for limit, n := range o.LimitHits {
		st.LimitHits[limit] += n
	}
	for why, n := range o.revoked {
		st.revoked[why] += n
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
		st.commands[i].add(c)
	}
	for way := range st.durations {
		for family := range st.durations[way] {
			st.durations[way][family].Add(&o.durations[way][family])
		}
	}
	for i := range st.waits {
		st.waits[i].Add(&o.waits[i])
	}
	st.Lag.Add(&o.Lag)
}
