package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// withReplica is a node and a replica of it, in step.
func withReplica(t *testing.T) (node, replica *redistest.Server) {
	t.Helper()
	node, replica = redistest.Start(t, "--repl-diskless-sync-delay", "0"), redistest.Start(t)
	host, port, _ := strings.Cut(node.Addr(), ":")
	replica.Do(t, "REPLICAOF", host, port)
	eventually(t, "the replica to be in step", func() bool {
		return strings.Contains(fmt.Sprint(node.Do(t, "INFO", "replication")), "state=online")
	})
	return node, replica
}

func TestWaitCountsTheReplicasThatHaveTheClientsWrites(t *testing.T) {
	parallel(t)
	node, replica := withReplica(t)
	b := startBerth(t, node.Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, c, "SET k 1 → OK", "WAIT 1 0 → 1", "WATCH k → OK", "MULTI → OK", "SET k 2 → QUEUED", "EXEC → [OK]", "WAIT 1 0 → 1",
		"WAIT 2 20 → 1", "WAIT x 0 → ERR value is not an integer or out of range", "WAIT 1 -1 → ERR timeout is negative")
	replica.Pause()
	c.WriteString(pipeline("SET k 3", "WAIT 1 50", "GET k", "MULTI", "WAIT 1 0", "EXEC", "WAIT 1 0"))
	want := "+OK\r\n:0\r\n$1\r\n3\r\n+OK\r\n+QUEUED\r\n*1\r\n:0\r\n"
	if !b.srv.offsetMoves() {
		want = "+OK\r\n:0\r\n$1\r\n3\r\n+OK\r\n-ERR berth: WAIT inside MULTI is not available over Redis " + b.srv.redisVersion() +
			"\r\n-EXECABORT Transaction discarded because of previous errors.\r\n"
	}
	if got := c.ReadN(len(want)); got != want {
		t.Errorf("while the replica stands still: %q", got)
	}
	script(t, other, "SET other 1 → OK", "WAIT 1 20 → 0") // nobody else is held up
	replica.Resume()
	if got := c.Recv(); got != int64(1) {
		t.Errorf("when the replica goes on: %v", got)
	}
	script(t, other, "WAIT 1 0 → 1")
}

func TestWaitEndsWithItsClient(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	c.Send("WAIT", 1, 0)
	eventually(t, "WAIT to block", func() bool { return strings.Contains(fmt.Sprint(node.Do(t, "CLIENT", "LIST")), "cmd=wait") })
	c.Close()
	eventually(t, "its connection to be closed", func() bool {
		return !strings.Contains(fmt.Sprint(node.Do(t, "CLIENT", "LIST")), "cmd=wait")
	})
}

func TestWaitOverAClusterIsTheLeastOfAllPrimaries(t *testing.T) {
	c := dial(t, startBerth(t, clusterURL(sharedCluster(t))).Addr())
	script(t, c, "SET a 1 → OK", "WAIT 0 0 → 0", "WAIT 1 10 → 0", "WAIT x 1 → ERR value is not an integer or out of range")
}

// The client may run WAIT, and the backend's user may not run what goes before it.
func TestWaitSaysThatTheBackendsUserLacksARight(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "own", "on", ">pw", "-@all", "+acl|getuser", "+acl|dryrun")
	node.Do(t, "ACL", "SETUSER", "waiter", "on", ">pw", "-@all", "+wait")
	b := startBerth(t, "redis://own:pw@"+node.Addr())
	before := "spublish"
	if b.srv.offsetMoves() {
		before = "ping"
	}
	c := dial(t, b.Addr())
	script(t, c, "AUTH waiter pw → OK", "WAIT 0 10 → ERR berth: replicas are not counted at "+node.Addr()+
		": the backend's user gets "+b.noCommand("own", before))
}

// What WAIT sends in front from Redis 7.2 on moves the offset of its connection, though it changes
// nothing.
func TestWhatIsSentBeforeWaitIsSeenByReplicas(t *testing.T) {
	node, _ := withReplica(t)
	offset := func() string {
		_, rest, _ := strings.Cut(fmt.Sprint(node.Do(t, "INFO", "replication")), "master_repl_offset:")
		return strings.Fields(rest)[0]
	}
	before := offset()
	dial(t, node.Addr()).Do("SPUBLISH", "berth:wait", "")
	if offset() == before {
		t.Error("the offset is what it was")
	}
}

// A node of a Cluster takes SPUBLISH for its own slots alone.
func TestWhatIsSentBeforeWaitIsOfTheShardsOwn(t *testing.T) {
	var addrs []string
	for i := range 500 {
		addrs = append(addrs, fmt.Sprint("h:", i))
	}
	topology := router.Even(addrs)
	for shard := range addrs {
		words := strings.Split(string(propagated(topology, shard)), "\r\n")
		if at := topology.Shard(router.Slot([]byte(words[4]))); at != shard {
			t.Fatalf("%q is of shard %d, want %d", words[4], at, shard)
		}
	}
}

func TestLoadThatFailsOnOnePrimarySaysWhichOne(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	const library = "#!lua name=half\nredis.register_function('half', function() return 1 end)"
	odd := cluster.Node(1)
	odd.Do(t, "FUNCTION", "LOAD", library)
	got := fmt.Sprint(c.Do("FUNCTION", "LOAD", library))
	if want := "ERR Library 'half' already exists (berth: said by " + odd.Addr() + ", run on 2 of 3 primaries)"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := fmt.Sprint(c.Do("FUNCTION", "LOAD", library)); got != "ERR Library 'half' already exists" {
		t.Errorf("when all say the same: %s", got)
	}
	script(t, c, "FCALL half 0 → 1", "FUNCTION DELETE half → OK", "FUNCTION DELETE half → ERR Library not found")
}
