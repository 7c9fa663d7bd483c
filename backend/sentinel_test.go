package backend

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

func TestPrimaryIsFoundBySentinelsAndFollowed(t *testing.T) {
	w := redistest.StartWatched(t, 1, 3)
	primary, replica := w.Nodes[0], w.Nodes[1]
	n := connectNodes(t, w.URL(), quickRounds(time.Hour)) // only word of a Sentinel makes it look again
	if got := n.Topology(); got.Primary(0) != primary.Addr() || got.Sharded() {
		t.Fatalf("the primary is %s, sharded %v", got.Primary(0), got.Sharded())
	}
	if got := n.Describe(); !strings.HasPrefix(got, primary.Addr()+", primary of mymaster (redis ") {
		t.Error(got)
	}
	changed := make(chan *router.Topology, 10)
	n.OnChange(func(_, now *router.Topology) { changed <- now })

	w.Failover(t)
	if now := await(t, changed); now.Primary(0) != replica.Addr() {
		t.Fatalf("after a failover on demand the primary is %s", now.Primary(0))
	}
	redistest.Eventually(t, nodesPatience, "the old primary to be a replica", func() bool {
		return strings.Contains(primary.Do(t, "INFO", "replication").(string), "master_link_status:up")
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
	w := redistest.StartWatched(t, 1, 1)
	node, sentinel := w.Nodes[0].Addr(), w.Sentinels[0].Addr()
	for _, test := range []struct{ url, words string }{
		{"sentinel://" + node + "/mymaster", "it is no Sentinel"},
		{"sentinel://" + sentinel + "/nobody", "watches no primary called nobody"},
		{"sentinel://127.0.0.1:1/mymaster", "127.0.0.1:1"},
		{"redis://" + sentinel, "write sentinel://" + sentinel + "/"},
	} {
		if _, err := tryConnectNodes(t, test.url, NodesOptions{}); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", test.url, err)
		}
	}
	// One of them knows: enough.
	n := connectNodes(t, "sentinel://127.0.0.1:1,"+node+","+sentinel+"/mymaster", NodesOptions{})
	if got := n.Topology().Primary(0); got != node {
		t.Error(got)
	}
}

// A Sentinel that was away may take for the primary what has become a replica.
func TestReplicaIsNotTakenForThePrimary(t *testing.T) {
	w := redistest.StartWatched(t, 1, 1)
	w.Sentinels[0].Pause()
	t.Cleanup(w.Sentinels[0].Resume)
	old, other := w.Nodes[0], w.Nodes[1]
	other.Do(t, "REPLICAOF", "NO", "ONE")
	old.Do(t, "REPLICAOF", "127.0.0.1", other.Port())
	w.Sentinels[0].Resume()
	if _, err := tryConnectNodes(t, w.URL(), NodesOptions{}); err == nil || !strings.Contains(err.Error(), "is a replica") {
		t.Errorf("%v", err)
	}
}

func TestSentinelsAndNodesMayWantAPassword(t *testing.T) {
	w := redistest.StartWatched(t, 0, 1)
	for _, s := range []*redistest.Server{w.Nodes[0], w.Sentinels[0]} {
		s.Do(t, "CONFIG", "SET", "requirepass", "secret")
	}
	url := strings.Replace(w.URL(), "://", "://:secret@", 1)
	n := connectNodes(t, url, NodesOptions{})
	if got := n.Topology().Primary(0); got != w.Nodes[0].Addr() {
		t.Error(got)
	}
}
