package telemetry

import (
	"fmt"
	"strconv"
	"strings"
)

// NodesSaid is what the nodes have said for INFO: how many keys there are and what they count, over
// all primaries, and by which policy they evict.
type NodesSaid struct {
	keyspace map[int]*keyCount // by database
	Stats    nodeFigures
	Saving   nodeFigures
	Calls    nodeCalls
	policy   string
}

// nodeCalls is what the nodes say of the calls of commands, added up.
type nodeCalls struct {
	byName map[string]nodeCall
	old    bool // the nodes do not tell rejected calls, as before Redis 6.2
}

// nodeCall is how often a command was called, and how long all the calls took.
type nodeCall struct{ calls, usec int64 }

// Add adds lines of the form
// "cmdstat_get:calls=2,usec=6,usec_per_call=3.00,rejected_calls=0,failed_calls=0".
func (n *nodeCalls) Add(text string) {
	for line := range strings.Lines(text) {
		name, fields, ok := strings.Cut(strings.TrimSpace(line), ":")
		name, isCommand := strings.CutPrefix(name, "cmdstat_")
		if !ok || !isCommand {
			continue
		}
		if n.byName == nil {
			n.byName = map[string]nodeCall{}
		}
		call := n.byName[name]
		for field := range strings.SplitSeq(fields, ",") {
			what, text, _ := strings.Cut(field, "=")
			value, _ := strconv.ParseInt(text, 10, 64)
			switch what {
			case "calls":
				call.calls += value
			case "usec":
				call.usec += value
			}
		}
		n.byName[name] = call
		n.old = n.old || !strings.Contains(fields, "rejected_calls=")
	}
}

// line returns the fields of a command that berth has answered so often, in the form of the nodes.
func (n *nodeCalls) line(name string, c commandStats) string {
	calls, perCall := c.ok+c.failed-c.rejected, 0.0
	if call := n.byName[name]; call.calls > 0 && calls > 0 {
		perCall = float64(call.usec) / float64(call.calls)
	}
	text := fmt.Sprintf("calls=%d,usec=%.0f,usec_per_call=%.2f", calls, perCall*float64(calls), perCall)
	if n.old {
		return text
	}
	return fmt.Sprintf("%s,rejected_calls=%d,failed_calls=%d", text, c.rejected, c.failed-c.rejected)
}

// policyOr returns the nodes' maxmemory_policy, or unknown if no node has said one.
func (w *NodesSaid) policyOr(unknown string) string {
	if w.policy == "" {
		return unknown
	}
	return w.policy
}

// TakePolicy finds the policy in a node's section Memory.
func (w *NodesSaid) TakePolicy(text string) {
	for line := range strings.Lines(text) {
		if policy, ok := strings.CutPrefix(line, "maxmemory_policy:"); ok {
			w.policy = strings.TrimSpace(policy)
		}
	}
}

// AddKeyspace adds lines of the form "db0:keys=2,expires=1,avg_ttl=60000".
func (w *NodesSaid) AddKeyspace(text string) {
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

// AddSize adds the number of keys in database 0. The embedded backend can say no more.
func (w *NodesSaid) AddSize(text string) {
	if text != "0" {
		w.count(0).add("keys=" + text + ",expires=0,avg_ttl=0")
	}
}

func (w *NodesSaid) count(db int) *keyCount {
	c := w.keyspace[db]
	if c == nil {
		if w.keyspace == nil {
			w.keyspace = map[int]*keyCount{}
		}
		c = &keyCount{sums: map[string]int64{}}
		w.keyspace[db] = c
	}
	return c
}

// keyCount is one database's line of INFO keyspace, summed over nodes. avg_ttl is an average over
// the keys that expire, everything else is a number of keys.
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

// String returns the line after "db0:".
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
