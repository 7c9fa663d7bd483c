package nodes

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

func TestPrimaryIsFoundBySentinelsAndFollowed(t *testing.T) {
	t.Parallel()
	w := redistest.StartWatched(t, 1, 3)
	primary, replica := w.Nodes[0], w.Nodes[1]
	n := connectNodes(t, w.URL(), quickRounds(5*time.Second)) // the Sentinel that is asked first may not know yet what another has said
	if got := n.Topology(); got.Primary(0) != primary.Addr() || got.Sharded() {
		t.Fatalf("the primary is %s, sharded %v", got.Primary(0), got.Sharded())
	}
	if got := n.Describe(); !strings.HasPrefix(got, primary.Addr()+", primary of mymaster (redis ") {
		t.Error(got)
	}
	changed := make(chan *router.Topology, 10)
	n.OnChange(func(old, now *router.Topology) {
		if old.Primary(0) != now.Primary(0) { // replicas come and go
			changed <- now
		}
	})

	w.Failover(t)
	if now := await(t, changed); now.Primary(0) != replica.Addr() {
		t.Fatalf("after a failover on demand the primary is %s", now.Primary(0))
	}
	redistest.Eventually(t, nodesPatience, "the old primary to be a replica", func() bool {
		c, err := redistest.TryDial(t, primary.Addr()) // which a Sentinel has close its clients when it turns it
		if err != nil {
			return false
		}
		defer c.Close()
		info, err := c.TryDo("INFO", "replication")
		return err == nil && strings.Contains(info.(string), "master_link_status:up")
	})
	replica.Kill()
	if now := await(t, changed); now.Primary(0) != primary.Addr() {
		t.Fatalf("after the loss of the primary it is %s", now.Primary(0))
	}
}

func await[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(nodesPatience):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}

func TestSentinelsThatAreGoneOrWrongAreTold(t *testing.T) {
	t.Parallel()
	w := redistest.StartWatched(t, 1, 1)
	node, sentinel := w.Nodes[0].Addr(), w.Sentinels[0].Addr()
	for _, test := range []struct{ url, words string }{
		{"sentinel://" + node + "/mymaster", "is no Sentinel"},
		{"sentinel://" + sentinel + "/nobody", "watches no primary called nobody"},
		{"sentinel://127.0.0.1:1/mymaster", "127.0.0.1:1"},
		{"redis://" + sentinel, "write sentinel://" + sentinel + "/"},
	} {
		if _, err := tryConnectNodes(t, test.url, Options{}); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", test.url, err)
		}
	}
	// It is enough if one of them knows.
	n := connectNodes(t, "sentinel://127.0.0.1:1,"+node+","+sentinel+"/mymaster", Options{})
	if got := n.Topology().Primary(0); got != node {
		t.Error(got)
	}
}

// A Sentinel that was away may call a node the primary that has become a replica.
func TestReplicaIsNotTakenForThePrimary(t *testing.T) {
	t.Parallel()
	w := redistest.StartWatched(t, 1, 1)
	w.Sentinels[0].Pause()
	t.Cleanup(w.Sentinels[0].Resume)
	old, other := w.Nodes[0], w.Nodes[1]
	other.Do(t, "REPLICAOF", "NO", "ONE")
	old.Do(t, "REPLICAOF", "127.0.0.1", other.Port())
	w.Sentinels[0].Resume()
	if _, err := tryConnectNodes(t, w.URL(), Options{}); err == nil || !strings.Contains(err.Error(), "is a replica") {
		t.Errorf("%v", err)
	}
}

func TestSentinelsAndNodesMayWantAPassword(t *testing.T) {
	t.Parallel()
	w := redistest.StartWatched(t, 0, 1)
	for _, s := range []*redistest.Server{w.Nodes[0], w.Sentinels[0]} {
		s.Do(t, "CONFIG", "SET", "requirepass", "secret")
	}
	url := strings.Replace(w.URL(), "://", "://:secret@", 1)
	n := connectNodes(t, url, Options{})
	if got := n.Topology().Primary(0); got != w.Nodes[0].Addr() {
		t.Error(got)
	}
}

// oracleURL is sentinel://… with these Sentinels.
func oracleURL(oracles ...*redistest.Oracle) string {
	var addrs []string
	for _, o := range oracles {
		addrs = append(addrs, o.Addr())
	}
	return "sentinel://" + strings.Join(addrs, ",") + "/mymaster"
}

func TestStaleSentinelIsNotBelieved(t *testing.T) {
	t.Parallel()
	old, current := redistest.Start(t), redistest.Start(t) // both call themselves primary
	stale := redistest.StartOracle(t, old.Addr(), 1)
	fresh := []*redistest.Oracle{redistest.StartOracle(t, current.Addr(), 2), redistest.StartOracle(t, current.Addr(), 2)}
	n := connectNodes(t, oracleURL(stale, fresh[0], fresh[1]), quickRounds(time.Millisecond))
	rounds := func(more int64) {
		t.Helper()
		until := n.Stats().Rounds + more
		redistest.Eventually(t, nodesPatience, "rounds", func() bool { return n.Stats().Rounds >= until })
		if got := n.Topology().Primary(0); got != current.Addr() || n.Stats().Changes != 0 {
			t.Fatalf("the primary is %s, of %s and %s, after %d changes", got, old.Addr(), current.Addr(), n.Stats().Changes)
		}
	}
	rounds(20)
	fresh[0].Stop()
	fresh[1].Stop()
	rounds(5)
	if err := n.Health().Err; err == nil || !strings.Contains(err.Error(), "too few Sentinels answer") {
		t.Errorf("health: %v", err)
	}
	stale.Stop()
	rounds(5)
	if err := n.Health().Err; err != nil {
		t.Errorf("no Sentinel is left, the primary is well: %v", err)
	}
}

func TestPrimaryIsFollowedWithoutAPasswordForIt(t *testing.T) {
	t.Parallel()
	old, current := redistest.Start(t, "--requirepass", "secret"), redistest.Start(t, "--requirepass", "secret")
	o := redistest.StartOracle(t, old.Addr(), 1)
	n := connectNodes(t, oracleURL(o), quickRounds(time.Millisecond))
	o.Say(current.Addr(), 2)
	redistest.Eventually(t, nodesPatience, "the other one to be found", func() bool { return n.Topology().Primary(0) == current.Addr() })
}

// What is wrong at one Sentinel may come right without a change of berth's settings.
func TestSentinelThatDoesNotKnowKeepsNobodyFromStarting(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	ignorant, knowing := redistest.StartOracle(t, "", 0), redistest.StartOracle(t, "127.0.0.1:1", 1)
	options := quickRounds(time.Millisecond)
	options.Wait = true
	n := connectNodes(t, oracleURL(ignorant, knowing), options)
	if n.Ready() {
		t.Error("ready without a primary")
	}
	knowing.Say(node.Addr(), 2)
	redistest.Eventually(t, nodesPatience, "the primary to be found", n.Ready)
}
