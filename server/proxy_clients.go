package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend/pool"
)

// clientRow is a client as PROXY CLIENTS shows it. CLIENT LIST has what Redis says of a client; this is what berth
// knows beyond that.
type clientRow struct {
	ID      int64  `json:"id"`
	Addr    string `json:"addr"`
	Name    string `json:"name"`
	User    string `json:"user"`
	DB      int64  `json:"db"`
	RESP    int64  `json:"resp"`
	State   string `json:"state"`
	Node    string `json:"node"` // to which it holds a lease, or waits for one, or where it blocks
	Age     int64  `json:"age_seconds"`
	Idle    int64  `json:"idle_seconds"`
	Queued  int64  `json:"requests"`        // unanswered ones
	Owed    int64  `json:"owed"`            // of them, those a node has yet to answer
	Input   int64  `json:"input_bytes"`     // not taken yet
	Output  int64  `json:"output_bytes"`    // that it has yet to read
	Command string `json:"command"`         // the latest
	Library string `json:"library"`         // as it called itself: name and version
	Multi   int64  `json:"multi"`           // commands queued since MULTI
	Watch   int64  `json:"watching"`        // 1 between WATCH and EXEC
	Lost    int64  `json:"watch_is_broken"` // 1: EXEC will answer nil
}

// clientRow makes the session's row. On its loop.
func (s *session) clientRow() clientRow {
	remote, _ := s.addresses()
	id := s.pipes.Identity()
	unread := s.conn.OutboundBuffered()
	r := clientRow{
		ID: s.id, Addr: remote, User: s.user(), DB: int64(id.DB), RESP: int64(id.RESP), State: s.stateWord(),
		Age: (s.loop.clock - s.born) / int64(time.Second), Idle: (s.loop.clock - s.seen) / int64(time.Second),
		Queued: int64(s.queued), Owed: int64(s.waiting), Input: int64(len(s.in) - s.inPos), Output: int64(len(s.out) + unread),
		Command: s.lastCommand(),
	}
	if s.label != nil {
		r.Name, r.Library = s.label.name, s.label.libName
		if s.label.libVer != "" {
			r.Library += " " + s.label.libVer
		}
	}
	if s.txn != nil {
		r.Multi = int64(s.txn.n)
	}
	if s.sub != nil && s.sub.pin != nil {
		r.Node = s.sub.pin.addr
	}
	if st := s.stay; st != nil {
		r.Node, r.Watch, r.Lost = st.addr, flagged(st.watching), flagged(st.broken)
	}
	if s.blocked != nil {
		t := s.loop.srv.nodes.Topology()
		if shard, text := shardOf(t, s.blocked.slot, s.id); text == "" {
			r.Node = t.Shards()[shard].Primary
		}
	}
	return r
}

func flagged(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// stateWord is what the client is doing, in a word.
func (s *session) stateWord() string {
	switch {
	case s.closing:
		return "closing"
	case s.pause == pauseBlocked:
		return "blocked"
	case s.pause == pauseLeasing:
		return "waiting"
	case s.pause == pauseGated:
		return "paused"
	case s.sub != nil && s.sub.monitor:
		return "monitor"
	case s.subscribed():
		return "subscribed"
	case s.txn != nil:
		return "multi"
	case s.waiting > 0:
		return "active"
	}
	return "idle"
}

// lastCommand is the name of the latest command, "" before the first.
func (s *session) lastCommand() string {
	if s.lastCmd == nil {
		return ""
	}
	return s.lastCmd.Name
}

// pinRow is a connection that one client holds for itself, or on which several are blocked together: the client is the one
// that has waited longest then. A subscriber on a shared feed holds none.
type pinRow struct {
	ID      int64  `json:"id"`
	Addr    string `json:"addr"`
	Name    string `json:"name"`
	User    string `json:"user"`
	Node    string `json:"node"`
	Reason  string `json:"reason"` // watch, block, subscribe, monitor, tracking; kept: private_conn_pool_enabled is 0
	Held    int64  `json:"seconds"`
	Idle    int64  `json:"idle_seconds"` // for how long a WATCH has had nothing under way
	Waiters int64  `json:"waiters"`      // clients that are blocked together, on this connection and others; else 0
	Command string `json:"command"`      // the client's latest
}

// holding is a lease and who holds it: a session, or a lane.
type holding struct {
	s      *session
	ln     *lane
	lease  *pool.Lease
	reason string
	held   time.Duration
}

// eachHolding visits the leases that the loop's clients hold.
func (l *loop) eachHolding(visit func(h holding)) {
	for s := l.first; s != nil; s = s.next {
		if st := s.stay; st != nil && st.lease != nil {
			visit(holding{s: s, lease: st.lease, reason: st.holdReason(), held: st.lease.Held()})
		}
		for _, st := range s.kept {
			if st.lease != nil {
				visit(holding{s: s, lease: st.lease, reason: "kept", held: st.lease.Held()})
			}
		}
		if s.acks != nil {
			for _, p := range s.acks.parts {
				if p.lease != nil {
					visit(holding{s: s, lease: p.lease, reason: "block", held: p.lease.Held()})
				}
			}
		}
		if b := s.sub; b != nil && b.pin != nil && b.pin.lease != nil {
			reason := "subscribe"
			if b.monitor {
				reason = "monitor"
			}
			visit(holding{s: s, lease: b.pin.lease, reason: reason, held: b.pin.lease.Held()})
		}
	}
	for _, g := range l.groups {
		for _, ln := range g.lanes {
			if ln.lease != nil {
				visit(holding{ln: ln, lease: ln.lease, reason: "block", held: ln.lease.Held()})
			}
		}
	}
}

// holdReason is why the stay's lease is not in the pool.
func (st *stay) holdReason() string {
	if st.tracks() {
		return "tracking"
	}
	if st.watching || st.reason == pool.ReasonTxn { // else a last reply is owed
		return "watch"
	}
	if st.reason == pool.ReasonLarge {
		return "large"
	}
	return "block"
}

// holders is how many of the loop's clients hold a connection of each pool.
func (l *loop) holders() map[poolName]int {
	all := map[poolName]int{}
	l.eachHolding(func(h holding) { all[poolName{h.lease.Addr(), h.user()}]++ })
	return all
}

// pins are the rows of the connections that the loop's clients hold: of those held longest, no more than most, in that
// order; and how many there are in all.
func (l *loop) pins(most int) (rows []pinRow, total int) {
	var longest []holding
	trim := func() {
		slices.SortFunc(longest, func(a, b holding) int { return cmp.Compare(b.held, a.held) })
		longest = longest[:min(len(longest), most)]
	}
	l.eachHolding(func(h holding) {
		total++
		longest = append(longest, h)
		if len(longest)/2 >= most { // so a status page costs nobody a sort of all clients
			trim()
		}
	})
	trim()
	for _, h := range longest {
		rows = append(rows, h.row())
	}
	return rows, total
}

// user is as whom the connection speaks.
func (h *holding) user() string {
	if h.ln != nil {
		return cmp.Or(h.ln.g.identity.User, "default")
	}
	return h.s.user()
}

func (h *holding) row() pinRow {
	if h.ln != nil {
		return h.ln.row(h)
	}
	s := h.s
	remote, _ := s.addresses()
	r := pinRow{
		ID: s.id, Addr: remote, User: s.user(), Node: h.lease.Addr(), Reason: h.reason,
		Held: int64(h.held / time.Second), Command: s.lastCommand(),
	}
	if s.label != nil {
		r.Name = s.label.name
	}
	if s.stay != nil && s.stay.lease == h.lease {
		r.Idle = int64(s.stay.idle() / time.Second)
	}
	return r
}

// row is a lane's. One that is leaving may have no client any more.
func (ln *lane) row(h *holding) pinRow {
	g := ln.g
	r := pinRow{
		User: h.user(), Node: ln.addr, Reason: h.reason, Held: int64(h.held / time.Second), Command: g.cmd.Name, Waiters: int64(g.n),
	}
	if w := g.first; w != nil {
		r.ID, r.Addr, r.Name = w.client, w.addr.String(), w.name
	}
	return r
}

// longestFirst joins the loops' pins, no more than most of them.
func longestFirst(parts [][]pinRow, most int) []pinRow {
	all := slices.Concat(parts...)
	slices.SortStableFunc(all, func(a, b pinRow) int { return cmp.Or(cmp.Compare(b.Held, a.Held), cmp.Compare(a.ID, b.ID)) })
	return all[:min(len(all), most)]
}
