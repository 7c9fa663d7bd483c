package nodes

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/berth-proxy/berth/router"
)

// run begins a round whenever one is due, until ctx ends.
func (n *Nodes) run(ctx context.Context) {
	defer close(n.roundsDone)
	began := time.Now()
	pause := n.pause()
	for {
		due := began.Add(pause)
		select {
		case <-ctx.Done():
			return
		case <-n.intervalChanged:
			pause = n.pause()
			continue
		case <-n.refreshWanted:
			due = began.Add(n.shortest())
		case <-time.After(time.Until(due)):
		}
		if !sleepUntil(ctx, due) {
			return
		}
		drain(n.refreshWanted) // this round serves every Refresh so far
		began = time.Now()
		n.round(ctx)
		pause = n.pause()
	}
}

// pause returns the time from the beginning of this round to the next one, unless Refresh is
// called.
func (n *Nodes) pause() time.Duration {
	if n.backOff > 0 {
		return max(n.backOff, n.shortest())
	}
	if n.Info().Kind == Cluster && n.Topology().Served() < router.Slots || n.awaitsTakeover() {
		return n.shortest()
	}
	interval := n.settings.TopologyInterval()
	if n.Info().serverField(chainField) != "" { // what is after the next berth may change
		interval = min(interval, retryMax)
	}
	return max(interval*9/10+rand.N(interval/5+1), n.shortest())
}

// shortest returns the time from the beginning of this round to the next one if Refresh is called.
// Until a node has answered, only the back-off counts, so that berth is ready soon after its nodes.
// After a round that has found a change, more may change soon: slots are being moved, and until a
// round says so their requests take a detour. A client's script can ask for rounds by a MOVED of
// its own, but it cannot make one find a change.
func (n *Nodes) shortest() time.Duration {
	switch {
	case n.Health().At.IsZero():
		return n.backOff
	case time.Since(n.changedAt) < changing*n.gap, n.awaitsTakeover():
		return n.gap / 10
	}
	return n.gap
}

// awaitsTakeover reports whether another node of the Cluster may be taking over from one that was
// lost. Nodes do not announce it, and requests for the lost one wait while its pipe backs off.
func (n *Nodes) awaitsTakeover() bool {
	return n.Info().Kind == Cluster && n.lost.within(changing*n.gap) && n.trouble.within(takeover*n.gap)
}

// round asks for the topology, and logs and announces the outcome.
func (n *Nodes) round(ctx context.Context) {
	before := n.Health()
	err := n.discover(ctx)
	if ctx.Err() != nil {
		return // Close has made the round fail
	}
	n.finishRound(err)
	switch {
	case err != nil && (before.Err == nil || mistake(err) != mistake(before.Err)):
		n.logFailure(err)
	case err == nil && before.Err != nil:
		slog.Info("backend answers", "backend", n.Target(), "is", n.Describe())
	}
	n.announce()
	if err == nil {
		offer(n.loadWanted)
	}
}

func (n *Nodes) logFailure(err error) {
	slog.Warn("backend cannot be asked", "backend", n.Target(), "why", err)
}

// mistake says which setting has to be changed before err goes away; "": err may go by itself.
func mistake(err error) string {
	if config, ok := errors.AsType[*ConfigError](err); ok {
		return config.Why
	}
	return ""
}

// The shortest and the longest back-off after rounds that failed.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
)

// finishRound records how a round went, and sets the back-off: doubled by each failure, with a
// random half taken off.
func (n *Nodes) finishRound(err error) {
	n.stats.rounds.Add(1)
	if err == nil {
		n.backOff = 0
		n.health.Store(&Health{At: time.Now()})
		return
	}
	n.stats.failures.Add(1)
	longest := min(retryMax, n.settings.TopologyInterval())
	doubled := min(max(2*n.backOff, retryMin), longest)
	n.backOff = doubled/2 + rand.N(doubled/2+1)
	n.health.Store(&Health{At: n.Health().At, Err: err})
}

// announce logs the topology and calls OnChange's function if the topology has changed since the
// latest call.
func (n *Nodes) announce() {
	old, now := n.announced, n.Topology()
	if old.Equal(now) {
		return
	}
	n.announced, n.changedAt = now, time.Now()
	n.trouble.set() // who is lost next is replaced as soon
	n.stats.changes.Add(1)
	slog.Info("topology changed", "change", old.Changes(now), "now", now)
	if f := n.onChange.Load(); f != nil {
		(*f)(old, now)
	}
}

// discover asks one address after the other until a node knows the topology.
func (n *Nodes) discover(ctx context.Context) error {
	var reasons []error
	var best *finding // of nodes that do not say that the cluster is ok, the one that serves most slots
	for addr := range n.candidates(ctx, &reasons) {
		found, err := inquire(ctx, n.Target(), addr, n.settings, n.Info())
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if config, ok := errors.AsType[*ConfigError](err); ok && config.Loop {
				n.topology.Store(router.Even(nil))
			}
			reasons = append(reasons, err)
		case found.stateOK && !found.isReplica(): // the name of a single node may have others' addresses, too
			n.adopt(&found)
			return nil
		case best == nil || found.topology.Served() > best.topology.Served():
			best = &found
		}
	}
	if best != nil {
		n.adopt(best)
		return nil
	}
	return &roundError{reasons}
}

// maxCandidates is how many primaries, and how many replicas, one round asks at most: a node may
// have named thousands that do not exist.
const maxCandidates = 16

// candidates returns the addresses to ask. With Sentinels, it is what they say is the primary;
// errors of Sentinels are added to reasons. Of a single node it is what its name has, the address that
// it was found at first, and never a replica of it. Otherwise it is some primaries, some replicas, then the seeds. The order of
// the former two is random, so that a node that hangs does not cost every round its timeout.
func (n *Nodes) candidates(ctx context.Context, reasons *[]error) iter.Seq[string] {
	if n.Target().Master != "" {
		return n.sentinelPrimaries(ctx, reasons)
	}
	seeds := n.resolve(ctx, reasons)
	if n.Target().Named() && n.Info().Kind != Cluster && len(seeds) > 0 {
		if at := slices.Index(seeds, n.Topology().Primary(0)); at > 0 {
			seeds[0], seeds[at] = seeds[at], seeds[0]
		}
		return slices.Values(seeds)
	}
	var primaries, replicas []string
	for _, s := range n.Topology().Shards() {
		if !n.Topology().Sharded() { // what a single node calls its replicas is none that berth was given
			break
		}
		primaries = append(primaries, s.Primary)
		replicas = append(replicas, s.Replicas...)
	}
	shuffle(primaries)
	shuffle(replicas)
	primaries, replicas = primaries[:min(len(primaries), maxCandidates)], replicas[:min(len(replicas), maxCandidates)]
	var unique []string
	for _, addr := range slices.Concat(primaries, replicas, seeds) {
		if !slices.Contains(unique, addr) {
			unique = append(unique, addr)
		}
	}
	return slices.Values(unique)
}

// adopt stores what a node has answered.
func (n *Nodes) adopt(found *finding) {
	old := n.Topology()
	// A guess must not replace what a node has said before.
	guessAgain := found.blind && old.Served() > 0 && n.Target().Master == ""
	if !guessAgain && !old.Equal(found.topology) {
		n.topology.Store(found.topology)
	}
	n.info.Store(&found.info)
	n.demands.Store(found.info.AuthRequired)
	complaint := ""
	switch {
	case found.blind:
		complaint = "berth may not ask the node what it is; clients must give their own passwords, and if it is a cluster " +
			"berth needs a user that may run INFO, CLUSTER SLOTS and CLUSTER NODES"
	case found.isReplica():
		complaint = "the node is a replica: it will refuse to write"
	case !found.stateOK:
		complaint = "no node says cluster_state:ok"
	}
	if complaint != n.warned && complaint != "" {
		slog.Warn(complaint, "backend", n.Target())
	}
	n.warned = complaint
}

// roundError is why a round failed: the errors of all the addresses, in one line.
type roundError struct{ reasons []error }

func (e *roundError) Error() string {
	words := make([]string, len(e.reasons))
	for i, r := range e.reasons {
		words[i] = r.Error()
	}
	return strings.Join(words, "; ")
}

func (e *roundError) Unwrap() []error { return e.reasons }

func shuffle(s []string) {
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

// offer puts a token into c, unless it holds one.
func offer(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drain takes the token out of c, if it holds one.
func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// sleepUntil returns true at the time due, or false as soon as ctx ends.
func sleepUntil(ctx context.Context, due time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Until(due)):
		return true
	}
}
