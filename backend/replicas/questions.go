package replicas

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// questions are those to one node. Owned by a goroutine.
type questions struct {
	watch *Watch
	shard *Shard
	node  *Node

	conn *nodes.Control // nil: there is none
	zone string

	asked    int       // questions on conn
	rules    *rules    // nil: not known
	changed  int64     // the Watch's distrusted before they were asked for
	compared [2]*rules // the primary's and the replica's

	failed int // turns in a row

	online    int           // replicas that a primary has named last
	refreshed time.Time     // when the nodes were asked for replicas last
	again     time.Duration // after which they are asked again
}

// answer is what a node says of its replication.
type answer struct {
	at      Instant // before it was asked
	asked   int64   // the same in unix nanoseconds
	primary bool
	linked  bool
	history string // replication id
	offset  int64
}

// askPrimary asks the primary every so often, and then has the replicas asked.
func (q *questions) askPrimary(ctx context.Context, replicas []chan struct{}, pause time.Duration) {
	defer q.close()
	for ctx.Err() == nil {
		a, err := q.ask(ctx)
		switch {
		case err == nil && !a.primary:
			err = errors.New("it is a replica")
			q.watch.nodes.Refresh()
		case err == nil:
			q.shard.marks.add(a.history, mark{a.at, a.offset})
			if err = q.askMoves(); err == nil {
				err = q.askRules()
			}
			if err == nil {
				q.shard.rules.Store(&primaryRules{q.rules, q.changed})
			}
		}
		q.ended(err)
		q.tell(err, 0)
		for _, next := range replicas {
			select {
			case next <- struct{}{}:
			default:
			}
		}
		q.watch.rest()
		wait(ctx, nil, max(pause, q.retry()))
	}
}

// askReplica asks a replica whenever its primary has been asked, and every so often if that does not
// answer.
func (q *questions) askReplica(ctx context.Context, next chan struct{}, atLeast time.Duration) {
	defer q.close()
	for wait(ctx, next, atLeast) {
		a, err := q.ask(ctx)
		if err == nil {
			if err = q.askRules(); err == nil {
				q.compareRules()
			}
		}
		q.ended(err)
		q.judge(a, err)
		wait(ctx, nil, q.retry())
	}
}

// ended enters how all questions of a turn went. After an error the next ones have a connection of their
// own, and come later.
func (q *questions) ended(err error) {
	if err == nil {
		q.failed = 0
		return
	}
	q.close()
	q.failed++
}

// retry is how long a node is left alone that has not answered.
func (q *questions) retry() time.Duration {
	if q.failed == 0 {
		return 0
	}
	return min(retryMin<<min(q.failed, 6), retryMax)
}

// wait returns false when ctx has ended.
func wait(ctx context.Context, next chan struct{}, atMost time.Duration) bool {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-next:
	case <-timer.C:
	}
	return true
}

// judge says whether the replica may be read.
func (q *questions) judge(a answer, err error) {
	n, limits := q.node, q.watch.limits()
	lacks, same := int64(-1), true
	if err == nil && !a.primary {
		var upTo Instant
		if upTo, lacks, same = q.shard.marks.reached(a.history, a.offset); upTo != 0 {
			n.upTo.Store(int64(upTo))
		}
	}
	lag := n.LagTime()
	n.well.Store(err == nil && !a.primary && same && !(limits.Lag > 0 && lag > limits.Lag))
	switch {
	case err != nil:
	case a.primary:
		err = errors.New("it is no replica")
		q.watch.nodes.Refresh()
	case !a.linked:
		err = errors.New("it has no connection to its primary")
	case n.differs.Load() == nil:
		err = errors.New("the rules of its users have not been compared with its primary's")
	case !same:
		err = errors.New("it has the data of another primary")
	case lag < 0:
		err = errors.New("how far it lags is not known")
	case limits.Lag > 0 && lag > limits.Lag:
		err = fmt.Errorf("it lags by %v", lag.Round(time.Millisecond))
	case limits.Bytes > 0 && lacks > limits.Bytes:
		err = fmt.Errorf("it lacks %d bytes", lacks)
	}
	n.linked.Store(err == nil)
	n.askedAt.Store(a.asked)
	q.tell(err, lacks)
}

// tell says what has been found to those who look.
func (q *questions) tell(err error, lacks int64) {
	if q.node == q.shard.Primary {
		q.node.well.Store(err == nil)
	}
	s := &Status{Readable: err == nil, Lag: lacks, Zone: q.zone}
	if err != nil {
		s.Why = err.Error()
	}
	q.node.status.Store(s)
}

// ask asks the node how far it is.
func (q *questions) ask(ctx context.Context) (answer, error) {
	a, err := q.askOn(ctx)
	if err != nil {
		q.node.upTo.Store(0) // it may begin anew with older data
	}
	return a, err
}

func (q *questions) askOn(ctx context.Context) (a answer, err error) {
	if q.conn == nil {
		if q.conn, err = nodes.DialControl(ctx, q.node.Addr, q.watch.settings); err != nil {
			return a, err
		}
		if err = q.conn.Auth(q.watch.nodes.Target()); err != nil {
			return a, err
		}
		server, err := q.conn.Info("server")
		if err != nil {
			return a, err
		}
		q.zone = server["availability_zone"]
	}
	a.asked = time.Now().UnixNano()
	a.at = Now()
	fields, err := q.conn.Info("replication")
	if err != nil {
		return a, err
	}
	q.node.measured(time.Duration(Now() - a.at))
	a.primary = fields["role"] == "master"
	a.linked = fields["master_link_status"] == "up" && fields["master_sync_in_progress"] == "0"
	a.history = fields["master_replid"]
	offset := "slave_repl_offset"
	if a.primary {
		offset = "master_repl_offset"
		if q.node == q.shard.Primary {
			q.compare(len(nodes.ReplicasOf(fields)))
		}
	}
	if a.offset, err = strconv.ParseInt(fields[offset], 10, 64); err != nil {
		return a, fmt.Errorf("%s does not say how much it has executed", q.node.Addr)
	}
	return a, nil
}

// compare has the nodes asked again if a primary has another number of replicas than the topology says:
// one has come, or a primary that was replaced comes back. A replica that the Cluster does not know is
// none of ours: so the nodes are asked ever more rarely.
func (q *questions) compare(online int) {
	switch now := time.Now(); {
	case online == len(q.shard.Replicas):
		q.again = 0
	case online != q.online:
		q.again = refreshMin
		q.watch.nodes.Refresh()
		q.refreshed = now
	case now.Sub(q.refreshed) > q.again:
		q.again = min(2*q.again, refreshMax)
		q.watch.nodes.Refresh()
		q.refreshed = now
	}
	q.online = online
}

// The shortest and the longest pause after a question without an answer.
const (
	retryMin = 25 * time.Millisecond
	retryMax = time.Second
)

// The shortest and the longest time after which the nodes are asked again for replicas.
const (
	refreshMin = time.Second
	refreshMax = 30 * time.Second
)

// askMoves asks a primary of a Cluster which of its slots are being moved.
func (q *questions) askMoves() error {
	if q.shard.single {
		return nil
	}
	raw, err := q.conn.DoRaw("CLUSTER", "NODES")
	if err != nil {
		return err
	}
	v, err := codec.ParseValue(raw)
	if err != nil {
		return err
	}
	q.shard.moves.Store(movesIn(v.Text()))
	return nil
}

// movesIn returns the slots that the answer to CLUSTER NODES has as "[93->-node]" in the line of the node
// that was asked.
func movesIn(text string) *moves {
	var m *moves
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 8 || !strings.Contains(words[2], "myself") {
			continue
		}
		for _, word := range words[8:] {
			number, _, leaves := strings.Cut(strings.TrimPrefix(word, "["), "->-")
			if slot, err := strconv.ParseUint(number, 10, 16); leaves && err == nil && slot < router.Slots {
				if m == nil {
					m = new(moves)
				}
				m[slot/64] |= 1 << (slot % 64)
			}
		}
	}
	return m
}

// measured enters how long an answer took. One slow answer among many says little.
func (n *Node) measured(took time.Duration) {
	old := n.rtt.Load()
	if old == 0 {
		old = int64(took)
	}
	n.rtt.Store(old + (int64(took)-old)/8)
}

// isUnknown reports whether a node does not know the command.
func isUnknown(err error) bool {
	reply, ok := errors.AsType[*nodes.ReplyError](err)
	return ok && strings.HasPrefix(strings.ToLower(reply.Text), "err unknown command")
}

func (q *questions) close() {
	q.asked = 0
	if q.conn != nil {
		q.conn.Close()
		q.conn = nil
	}
}
