package router

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Shard is a primary, its replicas, and (in the topology) the slots it owns. Addresses are
// "host:port".
type Shard struct {
	Primary  string
	Replicas []string // usable ones, sorted
}

// Topology says which shard owns which slot. It is immutable: a change makes a new one, swapped as
// one pointer.
//
// Shards are ordered by their first slot; those without slots stand last, by address. So a shard's
// number means something only together with its topology: keep addresses, not numbers.
type Topology struct {
	shards []Shard
	owner  [Slots]int16 // index into shards, -1: nobody
	nodes  []string     // addresses of all nodes, sorted: those without slots and those that are down as well
	single bool         // one standalone node: slots mean nothing
	down   int          // shards with slots and without a usable primary
}

// Bounds of what a node may say of its Cluster. Redis' own documents recommend at most 1,000 nodes.
const (
	MaxShards = 4 << 10 // less than fits into owner
	MaxNodes  = 16 << 10
)

const nobody = -1

// Single is the topology of one standalone node: it owns every slot. Its replicas may be read, and
// nothing leads to them by a redirect.
func Single(addr string, replicas ...string) *Topology {
	t := Even([]string{addr})
	t.single = true
	t.shards[0].Replicas = sortedUnique(replicas)
	return t
}

// Sharded reports that slots matter: keys of one command have to lie in one slot. A standalone node
// does not care; a Cluster of one primary does.
func (t *Topology) Sharded() bool { return !t.single }

// Even gives every address an even range of slots, in order. At most MaxShards addresses.
func Even(addrs []string) *Topology {
	b := newTopologyBuilder()
	for i, addr := range addrs {
		// The addresses are berth's own, and few: there is no error.
		_ = b.add(Shard{Primary: addr}, []slotRange{{i * Slots / len(addrs), (i+1)*Slots/len(addrs) - 1}})
	}
	return b.build()
}

// Shard returns the number of the shard that owns the slot, an index into Shards; -1 when nobody
// usable does.
func (t *Topology) Shard(slot uint16) int { return int(t.owner[slot&(Slots-1)]) }

// Home returns the shard to which a request with this slot goes: the owner's. When no owner is
// known it is another one, whose node says who owns the slot now: a topology is older than any
// request. It is -1 without shards.
func (t *Topology) Home(slot uint16) int {
	shard := t.Shard(slot)
	if shard < 0 && len(t.shards) > 0 {
		return int(slot) % len(t.shards)
	}
	return shard
}

// ChannelHome is the shard, an index into Shards, to which all messages of plain channels are
// published, and where plain channels and patterns are subscribed to. A Cluster passes such a
// message to all its nodes, but keeps no order between those that different nodes were given, and
// counts no subscribers of other nodes. Every berth over the Cluster chooses the same shard.
const ChannelHome = 0

// Primary returns the address of the slot's owner, "" when nobody usable owns it.
func (t *Topology) Primary(slot uint16) string { return t.primary(t.owner[slot&(Slots-1)]) }

// Serves reports whether a node is the primary of any slot.
func (t *Topology) Serves(addr string) bool {
	return slices.ContainsFunc(t.shards, func(s Shard) bool { return s.Primary == addr })
}

// Replicates reports whether a node is a replica that may be read.
func (t *Topology) Replicates(addr string) bool {
	return slices.ContainsFunc(t.shards, func(s Shard) bool { return slices.Contains(s.Replicas, addr) })
}

// Shards are all shards with a usable primary. Not to be changed.
func (t *Topology) Shards() []Shard { return t.shards }

// Down is how many shards have slots and keys, but no usable primary, so that Shards lacks them.
// Slots that no shard was ever given do not count.
func (t *Topology) Down() int { return t.down }

// Served is how many slots have an owner: 16384 when all is well.
func (t *Topology) Served() int {
	n := 0
	for _, i := range t.owner {
		if i != nobody {
			n++
		}
	}
	return n
}

// Range is slots From … To, both included, of one owner.
type Range struct {
	From, To uint16
	Shard    int // an index into Shards; -1: nobody usable owns them
}

// Ranges are the longest ranges of one owner, in order. Together they are all slots.
func (t *Topology) Ranges() []Range {
	var all []Range
	t.runs(t, func(r slotRange, i, _ int16) {
		all = append(all, Range{From: uint16(r.from), To: uint16(r.to), Shard: int(i)})
	})
	return all
}

// Knows reports whether addr is a node of the Cluster by the word of the nodes themselves. It says
// which addresses berth may be sent to.
func (t *Topology) Knows(addr string) bool {
	_, known := slices.BinarySearch(t.nodes, addr)
	return known
}

// With returns a copy that knows more nodes. They own no slot.
func (t *Topology) With(addrs []string) *Topology {
	more := *t
	more.nodes = sortedUnique(slices.Concat(t.nodes, addrs))
	return &more
}

func sortedUnique(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// Equal reports whether both say the same, replicas and nodes without slots included.
func (t *Topology) Equal(other *Topology) bool {
	return t.owner == other.owner && t.down == other.down && slices.Equal(t.nodes, other.nodes) && slices.EqualFunc(t.shards, other.shards, func(a, b Shard) bool {
		return a.Primary == b.Primary && slices.Equal(a.Replicas, b.Replicas)
	})
}

// String is one line for a log: "3 primaries, 0 replicas: 127.0.0.1:7000 0-5460, …".
func (t *Topology) String() string {
	replicas := 0
	owned := make([][]slotRange, len(t.shards))
	for _, s := range t.shards {
		replicas += len(s.Replicas)
	}
	t.runs(t, func(r slotRange, i, _ int16) {
		if i != nobody {
			owned[i] = append(owned[i], r)
		}
	})
	var b strings.Builder
	fmt.Fprintf(&b, "%d primaries, %d replicas", len(t.shards), replicas)
	for i, s := range t.shards {
		fmt.Fprintf(&b, "%s %s %s", [...]string{":", ","}[min(i, 1)], s.Primary, rangesText(owned[i]))
	}
	if missing := Slots - t.Served(); missing > 0 {
		fmt.Fprintf(&b, "; %d slots not served", missing)
	}
	return b.String()
}

// Changes is one line for a log, "" when nothing changed: what t says, and what next says instead.
// "slots 0-5460 10.0.0.1:6379 → 10.0.0.4:6379; replicas of 10.0.0.4:6379: none → 10.0.0.1:6379".
func (t *Topology) Changes(next *Topology) string {
	type move struct{ from, to string }
	var order []move
	moved := map[move][]slotRange{}
	t.runs(next, func(r slotRange, i, j int16) {
		m := move{cmp.Or(t.primary(i), "nobody"), cmp.Or(next.primary(j), "nobody")}
		if m.from == m.to {
			return
		}
		if moved[m] == nil {
			order = append(order, m)
		}
		moved[m] = append(moved[m], r)
	})
	var words []string
	for _, m := range order {
		words = append(words, fmt.Sprintf("slots %s %s → %s", rangesText(moved[m]), m.from, m.to))
	}
	before, after := t.replicas(), next.replicas()
	for _, s := range next.shards {
		if old := before[s.Primary]; old != after[s.Primary] {
			words = append(words, fmt.Sprintf("replicas of %s: %s → %s",
				s.Primary, cmp.Or(old, "none"), cmp.Or(after[s.Primary], "none")))
		}
	}
	for _, addr := range t.nodes {
		if !next.Knows(addr) {
			words = append(words, addr+" has left")
		}
	}
	for _, addr := range next.nodes {
		if !t.Knows(addr) {
			words = append(words, addr+" has joined")
		}
	}
	return strings.Join(shorten(words, 8), "; ")
}

func (t *Topology) primary(i int16) string {
	if i == nobody {
		return ""
	}
	return t.shards[i].Primary
}

func (t *Topology) replicas() map[string]string {
	m := map[string]string{}
	for _, s := range t.shards {
		m[s.Primary] = strings.Join(s.Replicas, " ")
	}
	return m
}

// runs calls f for every longest range of slots in which neither topology changes its owner.
func (t *Topology) runs(other *Topology, f func(r slotRange, i, j int16)) {
	from := 0
	for slot := 1; slot <= Slots; slot++ {
		if slot == Slots || t.owner[slot] != t.owner[from] || other.owner[slot] != other.owner[from] {
			f(slotRange{from, slot - 1}, t.owner[from], other.owner[from])
			from = slot
		}
	}
}

// slotRange is from … to, both included.
type slotRange struct{ from, to int }

// rangesText joins neighbours and names the first ranges only: a cluster that was resharded by hand
// has hundreds.
func rangesText(ranges []slotRange) string {
	var joined []slotRange
	total := 0
	for _, r := range ranges {
		total += r.to - r.from + 1
		if n := len(joined); n > 0 && joined[n-1].to+1 == r.from {
			joined[n-1].to = r.to
			continue
		}
		joined = append(joined, r)
	}
	if total == 0 {
		return "no slots"
	}
	words := make([]string, len(joined))
	for i, r := range joined {
		words[i] = fmt.Sprintf("%d-%d", r.from, r.to)
		if r.from == r.to {
			words[i] = fmt.Sprint(r.from)
		}
	}
	text := strings.Join(shorten(words, 4), ",")
	if len(joined) > 1 {
		text += fmt.Sprintf(" (%d)", total)
	}
	return text
}

func shorten(words []string, most int) []string {
	if len(words) <= most {
		return words
	}
	return append(words[:most:most], fmt.Sprintf("%d more", len(words)-most))
}

// topologyBuilder collects shards in any order. What is added later wins a slot.
type topologyBuilder struct {
	shards   []Shard
	byAddr   map[string]int      // shards by their primary
	replicas map[replicaOf]bool  // that are in shards
	nodes    map[string]struct{} // addresses of all nodes
	owner    [Slots]int16
	given    int // slots that add was given, each time
	down     int // shards with slots that have no usable primary
}

// replicaOf is a node as the replica of a shard.
type replicaOf struct {
	shard int
	addr  string
}

func newTopologyBuilder() *topologyBuilder {
	b := &topologyBuilder{byAddr: map[string]int{}, replicas: map[replicaOf]bool{}, nodes: map[string]struct{}{}}
	for i := range b.owner {
		b.owner[i] = nobody
	}
	return b
}

// know adds a node that may own nothing.
func (b *topologyBuilder) know(addr string) error {
	b.nodes[addr] = struct{}{}
	if len(b.nodes) > MaxNodes {
		return fmt.Errorf("%w: more than %d nodes", ErrNotTopology, MaxNodes)
	}
	return nil
}

// add merges shards of the same primary: CLUSTER SLOTS has one entry a range. The error says that
// there is more than a Cluster can have.
func (b *topologyBuilder) add(s Shard, ranges []slotRange) error {
	i, known := b.byAddr[s.Primary]
	if !known {
		if i = len(b.shards); i == MaxShards {
			return fmt.Errorf("%w: more than %d shards", ErrNotTopology, MaxShards)
		}
		b.byAddr[s.Primary] = i
		b.shards = append(b.shards, Shard{Primary: s.Primary})
		if err := b.know(s.Primary); err != nil {
			return err
		}
	}
	for _, r := range s.Replicas {
		if at := (replicaOf{i, r}); !b.replicas[at] {
			b.replicas[at] = true
			b.shards[i].Replicas = append(b.shards[i].Replicas, r)
		}
		if err := b.know(r); err != nil {
			return err
		}
	}
	for _, r := range ranges {
		if b.given += r.to - r.from + 1; b.given > 2*Slots { // a slot has one owner
			return fmt.Errorf("%w: slots have several owners", ErrNotTopology)
		}
		for slot := r.from; slot <= r.to; slot++ {
			b.owner[slot] = int16(i)
		}
	}
	return nil
}

// build puts the shards into their order, so that equal topologies are equal in every word.
func (b *topologyBuilder) build() *Topology {
	first := make([]int, len(b.shards))
	for i := range first {
		first[i] = Slots
	}
	for slot := Slots - 1; slot >= 0; slot-- {
		if i := b.owner[slot]; i != nobody {
			first[i] = slot
		}
	}
	order := make([]int, len(b.shards))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		return cmp.Or(cmp.Compare(first[i], first[j]), strings.Compare(b.shards[i].Primary, b.shards[j].Primary))
	})
	t := &Topology{shards: make([]Shard, len(order)), nodes: slices.Sorted(maps.Keys(b.nodes)), down: b.down}
	place := make([]int16, len(order))
	for to, from := range order {
		t.shards[to] = Shard{b.shards[from].Primary, slices.Sorted(slices.Values(b.shards[from].Replicas))}
		place[from] = int16(to)
	}
	for slot, i := range b.owner {
		t.owner[slot] = nobody
		if i != nobody {
			t.owner[slot] = place[i]
		}
	}
	return t
}
