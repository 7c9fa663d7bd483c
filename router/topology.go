package router

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Shard is a primary, its replicas, and (in the topology) the slots it owns. Addresses are
// "host:port".
type Shard struct {
	Primary  string
	Replicas []string // usable ones, sorted; they are known, commands do not go there yet
}

// Topology says which shard owns which slot. It is immutable: a change makes a new one, swapped as
// one pointer.
//
// Shards are ordered by their first slot; those without slots stand last, by address. So a shard's
// number means something only together with its topology: keep addresses, not numbers.
type Topology struct {
	shards []Shard
	owner  [Slots]int16 // index into shards, -1: nobody
	single bool         // one standalone node: slots mean nothing
}

const nobody = -1

// Single is the topology of one standalone node: it owns every slot.
func Single(addr string) *Topology {
	t := Even([]string{addr})
	t.single = true
	return t
}

// Sharded reports that slots matter: keys of one command have to lie in one slot. A standalone node
// does not care; a Cluster of one primary does.
func (t *Topology) Sharded() bool { return !t.single }

// Even gives every address an even range of slots, in order. At least one address, at most 16384.
func Even(addrs []string) *Topology {
	b := newTopologyBuilder()
	for i, addr := range addrs {
		b.add(Shard{Primary: addr}, []slotRange{{i * Slots / len(addrs), (i+1)*Slots/len(addrs) - 1}})
	}
	return b.build()
}

// Shard returns the number of the shard that owns the slot, an index into Shards; -1 when nobody
// usable does.
func (t *Topology) Shard(slot uint16) int { return int(t.owner[slot&(Slots-1)]) }

// Primary returns the address of the slot's owner, "" when nobody usable owns it.
func (t *Topology) Primary(slot uint16) string { return t.primary(t.owner[slot&(Slots-1)]) }

// Serves reports whether a node is the primary of any slot.
func (t *Topology) Serves(addr string) bool {
	return slices.ContainsFunc(t.shards, func(s Shard) bool { return s.Primary == addr })
}

// Shards are all shards with a usable primary. Not to be changed.
func (t *Topology) Shards() []Shard { return t.shards }

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

// Moved returns a copy in which addr owns the slot, as a MOVED error said. A new address becomes a
// new shard.
func (t *Topology) Moved(slot uint16, addr string) *Topology {
	b := newTopologyBuilder()
	b.shards = slices.Clone(t.shards)
	b.owner = t.owner
	i := slices.IndexFunc(b.shards, func(s Shard) bool { return s.Primary == addr })
	if i < 0 {
		i = len(b.shards)
		b.shards = append(b.shards, Shard{Primary: addr})
	}
	b.owner[slot&(Slots-1)] = int16(i)
	return b.build()
}

// Equal reports whether both say the same, replicas included.
func (t *Topology) Equal(other *Topology) bool {
	return t.owner == other.owner && slices.EqualFunc(t.shards, other.shards, func(a, b Shard) bool {
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
	shards []Shard
	owner  [Slots]int16
}

func newTopologyBuilder() *topologyBuilder {
	b := &topologyBuilder{}
	for i := range b.owner {
		b.owner[i] = nobody
	}
	return b
}

// add merges shards of the same primary: CLUSTER SLOTS has one entry a range.
func (b *topologyBuilder) add(s Shard, ranges []slotRange) {
	i := slices.IndexFunc(b.shards, func(have Shard) bool { return have.Primary == s.Primary })
	if i < 0 {
		i = len(b.shards)
		b.shards = append(b.shards, Shard{Primary: s.Primary})
	}
	for _, r := range s.Replicas {
		if !slices.Contains(b.shards[i].Replicas, r) {
			b.shards[i].Replicas = append(b.shards[i].Replicas, r)
		}
	}
	for _, r := range ranges {
		for slot := r.from; slot <= r.to; slot++ {
			b.owner[slot] = int16(i)
		}
	}
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
	t := &Topology{shards: make([]Shard, len(order))}
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
