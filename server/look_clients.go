package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/server/telemetry"
)

// clientRow makes the session's row. It runs on the session's loop.
func (s *session) clientRow() telemetry.ClientRow {
	remote, _ := s.addresses()
	id := s.pipes.Identity()
	unread := s.conn.OutboundBuffered()
	r := telemetry.ClientRow{
		ID: s.id, Addr: remote, User: shown(s.user()), DB: int64(id.DB), RESP: int64(id.RESP), State: s.stateWord(),
		Age: (s.loop.clock - s.born) / int64(time.Second), Idle: (s.loop.clock - s.lastHeard) / int64(time.Second),
		Queued: int64(s.queued), Owed: int64(s.waiting), Input: int64(len(s.in) - s.inPos), Output: int64(len(s.out) + unread),
		Command: s.lastCommand(), Door: s.door.name,
	}
	if s.label != nil {
		r.Name, r.Library = shown(s.label.name), shown(s.label.libName)
		if s.label.libVer != "" {
			r.Library += " " + shown(s.label.libVer)
		}
	}
	if s.txn != nil {
		r.Multi = int64(s.txn.n)
	}
	if s.sub != nil && s.sub.own != nil {
		r.Node = s.sub.own.addr
	}
	if s.tunnel != nil {
		r.Node = s.tunnel.addr
	}
	if st := s.stay; st != nil {
		r.Node, r.Watch, r.Lost = st.addr, flagged(st.watching), flagged(st.broken)
	}
	if s.blocked != nil {
		t := s.loop.srv.nodes.Topology()
		if shard, text := shardOf(t, s.blocked.Slot(), s.id); text == "" {
			r.Node = t.Shards()[shard].Primary
		}
	}
	return r
}

// topRow makes the session's row of PROXY TOP, without the rates. It runs on the session's loop.
func (s *session) topRow() telemetry.TopRow {
	remote, _ := s.addresses()
	r := telemetry.TopRow{ID: s.id, Addr: remote, User: shown(s.user()), Clients: 1, Queued: int64(s.queued), Command: s.lastCommand()}
	if s.label != nil {
		r.Name = shown(s.label.name)
	}
	s.eachHolding(func(holding) { r.Leases++ })
	return r
}

func flagged(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// stateWord returns what the client is doing, in one word.
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
	case s.monitors():
		return "monitor"
	case s.tunnel.streams():
		return "replica"
	case s.subscribed():
		return "subscribed"
	case s.txn != nil:
		return "multi"
	case s.waiting > 0:
		return "active"
	}
	return "idle"
}

// lastCommand returns the name of the latest command, "" before the first.
func (s *session) lastCommand() string {
	if s.lastCmd == nil {
		return ""
	}
	return s.lastCmd.Name
}

// holding is a lease and its holder: a session, or a lane.
type holding struct {
	s      *session
	shared *lane.Holding // clients that are blocked together; s is nil then
	lease  *pool.Lease
	reason string
	held   time.Duration
}

// eachHolding visits the leases that the session holds.
func (s *session) eachHolding(visit func(h holding)) {
	if st := s.stay; st != nil && st.lease != nil {
		visit(holding{s: s, lease: st.lease, reason: st.holdReason(), held: st.lease.Held()})
	}
	if st := s.stay; st != nil && st.ear != nil && st.ear.lease != nil {
		visit(holding{s: s, lease: st.ear.lease, reason: "tracking", held: st.ear.lease.Held()})
	}
	for _, st := range s.kept {
		if e := st.ear; e != nil && e.lease != nil {
			visit(holding{s: s, lease: e.lease, reason: "tracking", held: e.lease.Held()})
		}
		if st.lease != nil {
			visit(holding{s: s, lease: st.lease, reason: "kept", held: st.lease.Held()})
		}
	}
	if s.replicaCount != nil {
		for _, p := range s.replicaCount.parts {
			if p.lease != nil {
				visit(holding{s: s, lease: p.lease, reason: "blocking", held: p.lease.Held()})
			}
		}
	}
	if b := s.sub; b != nil && b.own != nil && b.own.lease != nil {
		reason := "subscribed"
		if b.monitor != nil {
			reason = "monitor"
		}
		visit(holding{s: s, lease: b.own.lease, reason: reason, held: b.own.lease.Held()})
	}
	if t := s.tunnel; t != nil && t.lease != nil {
		visit(holding{s: s, lease: t.lease, reason: "replica", held: t.lease.Held()})
	}
}

// holdReason returns why the stay's lease is not in the pool.
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
	return "blocking"
}

// pins gathers the connections that a loop's clients hold.
type pins struct {
	holders map[telemetry.PoolName]int // how many clients hold a connection of each pool
	longest []pin                      // those held longest; no more than twice most, and one
	most    int                        // rows
	total   int                        // connections that are held
}

// pin is a connection that is held, and its row. The row is made at once: the holder may be gone
// before the loop has visited all sessions.
type pin struct {
	held time.Duration
	row  telemetry.PinRow
}

func newPins(most int) *pins { return &pins{holders: map[telemetry.PoolName]int{}, most: most} }

// add adds a connection.
func (p *pins) add(h holding) {
	p.total++
	p.holders[telemetry.PoolName{Node: h.lease.Addr(), User: h.user()}]++
	if p.most == 0 {
		return
	}
	p.longest = append(p.longest, pin{h.held, h.row()})
	if len(p.longest)/2 >= p.most { // so that a status page need not sort all connections that are held
		p.trim()
	}
}

// trim keeps the connections that are held longest.
func (p *pins) trim() {
	slices.SortFunc(p.longest, func(a, b pin) int { return cmp.Compare(b.held, a.held) })
	p.longest = p.longest[:min(len(p.longest), p.most)]
}

// rows returns the rows of the connections held longest, in that order.
func (p *pins) rows() (rows []telemetry.PinRow) {
	p.trim()
	for _, h := range p.longest {
		rows = append(rows, h.row)
	}
	return rows
}

// user returns the user as whom the connection speaks.
func (h *holding) user() string {
	if h.shared != nil {
		return cmp.Or(h.shared.User, "default")
	}
	return h.s.user()
}

// row makes the row of the connection.
func (h *holding) row() telemetry.PinRow {
	if h.shared != nil {
		return h.sharedRow()
	}
	s := h.s
	remote, _ := s.addresses()
	r := telemetry.PinRow{
		ID: s.id, Addr: remote, User: shown(s.user()), Node: h.lease.Addr(), Reason: h.reason,
		Held: int64(h.held / time.Second), Command: s.lastCommand(),
	}
	if s.label != nil {
		r.Name = shown(s.label.name)
	}
	if s.stay != nil && s.stay.lease == h.lease {
		r.Idle = int64(s.stay.idle() / time.Second)
	}
	return r
}

// sharedRow makes the row of a connection on which clients are blocked together.
func (h *holding) sharedRow() telemetry.PinRow {
	of := h.shared
	r := telemetry.PinRow{
		ID: of.Client, Name: shown(of.Name), User: shown(h.user()), Node: h.lease.Addr(), Reason: h.reason, Held: int64(h.held / time.Second),
		Command: of.Command, Waiters: int64(of.Waiters),
	}
	if of.Addr != nil {
		r.Addr = of.Addr.String()
	}
	return r
}
