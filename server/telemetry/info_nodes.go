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
	policy   string
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
