package replicas

import (
	"maps"
	"strings"
)

// A client may read at a replica what its user may read there. Nodes keep the rules of users each for
// itself, so a rule that was changed at the primary may still be the old one at a replica: its clients
// must not read there. berth compares what ACL LIST says of each user at both.

// rules are those of all users of a node: what ACL LIST says of each. A node before Redis 6.0 has none.
type rules struct{ of map[string]string }

// rulesEvery is how many questions to a node there are for one about its rules.
const rulesEvery = 5

// askRules asks a node for its rules, if it is time.
func (q *questions) askRules() error {
	changed := q.watch.distrusted.Load()
	if q.asked++; q.asked%rulesEvery != 1 && changed == q.changed {
		return nil
	}
	v, err := q.conn.Do("ACL", "LIST") // no more than a megabyte: berth keeps it for each node
	if isUnknown(err) {
		q.rules, q.changed = &rules{}, changed
		return nil
	}
	if err != nil {
		return err
	}
	r := &rules{of: map[string]string{}}
	for _, line := range v.Elems {
		words := strings.SplitN(line.Text(), " ", 3)
		if len(words) == 3 && words[0] == "user" {
			r.of[words[1]] = words[2]
		}
	}
	if q.rules == nil || !maps.Equal(r.of, q.rules.of) {
		q.rules = r
	}
	q.changed = changed
	return nil
}

// compareRules enters whose rules differ between the replica and its primary. What was said before
// rules were changed through berth does not count.
func (q *questions) compareRules() {
	primary := q.shard.rules.Load()
	if primary == nil || q.rules == nil || primary.changed != q.changed {
		q.node.differs.Store(nil)
		return
	}
	if q.node.differs.Load() != nil && q.compared == [2]*rules{primary.rules, q.rules} {
		return
	}
	differs := map[string]bool{}
	for user, rule := range primary.rules.of {
		if q.rules.of[user] != rule {
			differs[user] = true
		}
	}
	for user := range q.rules.of {
		if _, has := primary.rules.of[user]; !has {
			differs[user] = true
		}
	}
	q.compared = [2]*rules{primary.rules, q.rules}
	q.node.differs.Store(&differs)
	if q.watch.distrusted.Load() != q.changed { // they were changed just now
		q.node.differs.Store(nil)
	}
}

// primaryRules are a primary's rules, and how often rules had been changed before they were asked for.
type primaryRules struct {
	*rules
	changed int64
}

// Trusts reports whether a user's rule at the replica is that of its primary.
func (n *Node) Trusts(user string) bool {
	differs := n.differs.Load()
	return differs != nil && !(*differs)[user]
}

// Distrust has all rules compared anew, because some were changed: until then nobody reads from a
// replica.
func (w *Watch) Distrust() {
	w.distrusted.Add(1)
	if v := w.view.Load(); v != nil {
		for _, s := range v.Shards {
			for _, n := range s.Replicas {
				n.differs.Store(nil)
			}
		}
	}
}
