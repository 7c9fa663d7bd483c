package router

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestEvenRangesCoverEverySlotInOrder(t *testing.T) {
	top := Even([]string{"a:1", "b:2", "c:3"})
	for slot, want := range map[uint16]string{0: "a:1", 5460: "a:1", 5461: "b:2", 10921: "b:2", 10922: "c:3", 16383: "c:3"} {
		if got := top.Primary(slot); got != want {
			t.Errorf("slot %d: %s, want %s", slot, got, want)
		}
	}
	if top.Served() != Slots || len(top.Shards()) != 3 {
		t.Errorf("%d slots, %d shards", top.Served(), len(top.Shards()))
	}
	if got, want := top.String(), "3 primaries, 0 replicas: a:1 0-5460, b:2 5461-10921, c:3 10922-16383"; got != want {
		t.Errorf("got %s", got)
	}
	if one := Single("x:1"); one.Shard(9999) != 0 || one.Primary(9999) != "x:1" {
		t.Error("a single node does not own every slot")
	}
}

// moved is a copy in which addr owns the slot.
func moved(t *Topology, slot uint16, addr string) *Topology {
	b := newTopologyBuilder()
	for _, r := range t.Ranges() {
		if err := b.add(t.shards[r.Shard], []slotRange{{int(r.From), int(r.To)}}); err != nil {
			panic(err)
		}
	}
	if err := b.add(Shard{Primary: addr}, []slotRange{{int(slot), int(slot)}}); err != nil {
		panic(err)
	}
	return b.build()
}

func TestAMovedSlotChangesACopyOnly(t *testing.T) {
	before := Even([]string{"a:1", "b:2"})
	after := moved(before, 100, "b:2")
	if before.Primary(100) != "a:1" || after.Primary(100) != "b:2" || after.Primary(99) != "a:1" {
		t.Error("the wrong slot or the wrong topology changed")
	}
	if got, want := before.Changes(after), "slots 100 a:1 → b:2"; got != want {
		t.Errorf("got %q", got)
	}
	third := moved(after, 0, "c:3")
	if third.Primary(0) != "c:3" || len(third.Shards()) != 3 || third.Shards()[0].Primary != "c:3" {
		t.Errorf("a new node: %v", third)
	}
	if !moved(third, 0, "c:3").Equal(third) || third.Equal(after) || before.Changes(before) != "" {
		t.Error("equality")
	}
}

func TestASlotWithoutAnOwnerHasAHomeThatIsAsked(t *testing.T) {
	b := newTopologyBuilder()
	if b.build().Home(7) != -1 {
		t.Error("a topology without shards has a home for slot 7")
	}
	for i, addr := range []string{"a:1", "b:1"} {
		if err := b.add(Shard{Primary: addr}, []slotRange{{i * 100, i*100 + 49}}); err != nil {
			t.Fatal(err)
		}
	}
	top := b.build()
	for slot, want := range map[uint16]int{0: 0, 100: 1, 50: 0, 51: 1, 16383: 1} {
		if got := top.Home(slot); got != want {
			t.Errorf("slot %d has its home at %d, want %d", slot, got, want)
		}
	}
}

func TestChangesStayOneReadableLine(t *testing.T) {
	before, after := Even([]string{"a:1"}), Even([]string{"a:1"})
	for slot := uint16(0); slot < 400; slot += 2 {
		after = moved(after, slot, []string{"b:1", "c:1"}[slot/2%2])
	}
	got := before.Changes(after)
	want := "slots 0,4,8,12,96 more (100) a:1 → b:1; slots 2,6,10,14,96 more (100) a:1 → c:1; b:1 has joined; c:1 has joined"
	if got != want {
		t.Errorf("got %s", got)
	}
	if s := after.String(); len(s) > 200 || strings.Contains(s, "\n") {
		t.Errorf("%s", s)
	}
}

// The same cluster in both RESP versions: a failed primary, a loading replica, an empty endpoint, a
// null one, a wanted but missing host name, TLS only, a primary without slots.
const (
	shards2 = "*5\r\n" +
		"*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:99\r\n$5\r\nnodes\r\n*3\r\n" +
		"*14\r\n$2\r\nid\r\n$1\r\na\r\n$4\r\nport\r\n:7000\r\n$2\r\nip\r\n$8\r\n10.0.0.1\r\n$8\r\nendpoint\r\n$0\r\n\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:1\r\n$6\r\nhealth\r\n$6\r\nonline\r\n" +
		"*14\r\n$2\r\nid\r\n$1\r\nb\r\n$4\r\nport\r\n:7001\r\n$2\r\nip\r\n$8\r\n10.0.0.1\r\n$8\r\nendpoint\r\n$-1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n$18\r\nreplication-offset\r\n:1\r\n$6\r\nhealth\r\n$6\r\nonline\r\n" +
		"*14\r\n$2\r\nid\r\n$1\r\nc\r\n$4\r\nport\r\n:7002\r\n$2\r\nip\r\n$8\r\n10.0.0.1\r\n$8\r\nendpoint\r\n$8\r\n10.0.0.1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n$18\r\nreplication-offset\r\n:1\r\n$6\r\nhealth\r\n$7\r\nloading\r\n" +
		"*4\r\n$5\r\nslots\r\n*4\r\n:100\r\n:199\r\n:300\r\n:399\r\n$5\r\nnodes\r\n*1\r\n" +
		"*14\r\n$2\r\nid\r\n$1\r\nd\r\n$4\r\nport\r\n:7003\r\n$2\r\nip\r\n$8\r\n10.0.0.2\r\n$8\r\nendpoint\r\n$1\r\n?\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:1\r\n$6\r\nhealth\r\n$6\r\nonline\r\n" +
		"*4\r\n$5\r\nslots\r\n*2\r\n:200\r\n:299\r\n$5\r\nnodes\r\n*1\r\n" +
		"*14\r\n$2\r\nid\r\n$1\r\ne\r\n$4\r\nport\r\n:7004\r\n$2\r\nip\r\n$8\r\n10.0.0.3\r\n$8\r\nendpoint\r\n$8\r\n10.0.0.3\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:1\r\n$6\r\nhealth\r\n$4\r\nfail\r\n" +
		"*4\r\n$5\r\nslots\r\n*2\r\n:400\r\n:16383\r\n$5\r\nnodes\r\n*1\r\n" +
		"*14\r\n$2\r\nid\r\n$1\r\nf\r\n$8\r\ntls-port\r\n:7005\r\n$2\r\nip\r\n$8\r\n10.0.0.4\r\n$8\r\nendpoint\r\n$9\r\nr.example\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:1\r\n$6\r\nhealth\r\n$6\r\nonline\r\n" +
		"*4\r\n$5\r\nslots\r\n*0\r\n$5\r\nnodes\r\n*1\r\n" +
		"*14\r\n$2\r\nid\r\n$1\r\ng\r\n$4\r\nport\r\n:7006\r\n$2\r\nip\r\n$8\r\n10.0.0.5\r\n$8\r\nendpoint\r\n$8\r\n10.0.0.5\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$18\r\nreplication-offset\r\n:1\r\n$6\r\nhealth\r\n$6\r\nonline\r\n"

	slots2 = "*4\r\n" +
		"*4\r\n:0\r\n:99\r\n*4\r\n$0\r\n\r\n:7000\r\n$1\r\na\r\n*0\r\n*4\r\n$-1\r\n:7001\r\n$1\r\nb\r\n*2\r\n$2\r\nip\r\n$8\r\n10.0.0.1\r\n" +
		"*3\r\n:100\r\n:199\r\n*4\r\n$1\r\n?\r\n:7003\r\n$1\r\nd\r\n*2\r\n$2\r\nip\r\n$8\r\n10.0.0.2\r\n" +
		"*3\r\n:300\r\n:399\r\n*4\r\n$1\r\n?\r\n:7003\r\n$1\r\nd\r\n*2\r\n$2\r\nip\r\n$8\r\n10.0.0.2\r\n" +
		"*3\r\n:400\r\n:16383\r\n*3\r\n$9\r\nr.example\r\n:7005\r\n$1\r\nf\r\n"
)

// resp3 rewrites the fixed shapes above as a RESP3 server would send them.
var resp3 = strings.NewReplacer("*14\r\n", "%7\r\n", "*4\r\n$5\r\nslots", "%2\r\n$5\r\nslots", "$-1\r\n", "_\r\n",
	"*2\r\n$2\r\nip", "%1\r\n$2\r\nip", "\r\n*0\r\n*4", "\r\n%0\r\n*4")

func TestClusterRepliesOfEitherRESPVersionMakeTheSameTopology(t *testing.T) {
	want := "4 primaries, 1 replicas: seed:7000 0-99, 10.0.0.2:7003 100-199,300-399 (200), r.example:7005 400-16383, 10.0.0.5:7006 no slots; 100 slots not served"
	for name, reply := range map[string]string{"RESP2": shards2, "RESP3": resp3.Replace(shards2)} {
		top, err := parsePlainShards([]byte(reply), "seed")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := top.String(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		if got := top.Shards()[0].Replicas; len(got) != 1 || got[0] != "seed:7001" {
			t.Errorf("%s: replicas %v", name, got)
		}
		if top.Shard(250) != -1 || top.Primary(250) != "" {
			t.Errorf("%s: a failed primary serves slot 250", name)
		}
	}
	want = strings.Replace(strings.Replace(want, ", 10.0.0.5:7006 no slots", "", 1), "4 primaries", "3 primaries", 1)
	for name, reply := range map[string]string{"RESP2": slots2, "RESP3": resp3.Replace(slots2)} {
		top, err := ParseClusterSlots([]byte(reply), "seed")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := top.String(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	ipv6, err := ParseClusterSlots([]byte("*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$3\r\n::1\r\n:7000\r\n"), "")
	if err != nil || ipv6.Primary(1) != "[::1]:7000" {
		t.Errorf("IPv6: %v %v", ipv6, err)
	}
}

func TestRepliesThatAreNoTopologySaySo(t *testing.T) {
	const disabled = "-ERR This instance has cluster support disabled\r\n"
	for _, parse := range []func([]byte, string) (*Topology, error){parsePlainShards, ParseClusterSlots} {
		if _, err := parse([]byte(disabled), "h"); !errors.Is(err, ErrClusterDisabled) {
			t.Errorf("disabled: %v", err)
		}
		for _, reply := range []string{
			"", "+OK\r\n", "*1\r\n", "-ERR unknown subcommand 'SHARDS'. Try CLUSTER HELP.\r\n", "*1\r\n:1\r\n",
			"*1\r\n*4\r\n$5\r\nslots\r\n*2\r\n:5\r\n:16384\r\n$5\r\nnodes\r\n*0\r\n", "*1\r\n*3\r\n:9\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
			"*1\r\n*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
		} {
			if top, err := parse([]byte(reply), "h"); !errors.Is(err, ErrNotTopology) {
				t.Errorf("%q: %v %v", reply, top, err)
			}
		}
	}
}

func TestALiveClusterSaysTheSameInBothCommandsAndVersions(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 1)
	addrs := cluster.Addrs()
	want := Even(addrs[:3])
	conn := redistest.Dial(t, addrs[0])
	waitForReplicas(t, cluster, conn)
	for _, resp := range []int{2, 3} {
		conn.Do("HELLO", resp)
		shards, err := parsePlainShards([]byte(conn.DoRaw("CLUSTER", "SHARDS")), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		slots, err := ParseClusterSlots([]byte(conn.DoRaw("CLUSTER", "SLOTS")), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if !shards.Equal(slots) {
			t.Errorf("RESP%d: SHARDS and SLOTS differ: %s", resp, shards.Changes(slots))
		}
		for i, s := range shards.Shards() {
			if s.Primary != addrs[i] || len(s.Replicas) != 1 || s.Replicas[0] != addrs[3+i] {
				t.Errorf("RESP%d: shard %d is %v", resp, i, s)
			}
		}
		for slot := range uint16(Slots) {
			if shards.Primary(slot) != want.Primary(slot) {
				t.Fatalf("RESP%d: slot %d belongs to %s", resp, slot, shards.Primary(slot))
			}
		}
	}
	reply := redistest.Dial(t, addrs[1]).DoRaw("GET", "foo") // slot 12182 is node 2's
	if r, ok := ParseRedirect([]byte(reply), "elsewhere"); !ok || r != (Redirect{Slot: 12182, Addr: addrs[2]}) {
		t.Errorf("%q: %v %v", reply, r, ok)
	}
}

// waitForReplicas returns when the node conn goes to calls every replica online: after its primary
// had something to replicate, and the gossip about it came round.
func waitForReplicas(t *testing.T, cluster *redistest.Cluster, conn *redistest.Conn) {
	t.Helper()
	for _, key := range []string{"b", "c", "a"} { // slots 3300, 7365, 15495: one of each primary
		node := Even(cluster.Addrs()[:3]).Primary(Slot([]byte(key)))
		redistest.Dial(t, node).Do("SET", key, "x")
	}
	redistest.Eventually(t, 20*time.Second, "all replicas to be online", func() bool {
		top, err := parsePlainShards([]byte(conn.DoRaw("CLUSTER", "SHARDS")), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		online := 0
		for _, s := range top.Shards() {
			online += len(s.Replicas)
		}
		return online == 3
	})
}

func TestRedirectsAreReadStrictly(t *testing.T) {
	for reply, want := range map[string]Redirect{
		"-MOVED 3999 10.0.0.2:6381\r\n": {Slot: 3999, Addr: "10.0.0.2:6381"},
		"-ASK 16383 h.example:1\r\n":    {Ask: true, Slot: 16383, Addr: "h.example:1"},
		"-MOVED 1 :7001\r\n":            {Slot: 1, Addr: "from:7001"},
		"-MOVED 1 ?:7001\r\n":           {Slot: 1, Addr: "from:7001"},
		"-MOVED 1 ::1:7001\r\n":         {Slot: 1, Addr: "[::1]:7001"},
	} {
		if got, ok := ParseRedirect([]byte(reply), "from"); !ok || got != want {
			t.Errorf("%q: %v %v", reply, got, ok)
		}
	}
	for _, reply := range []string{
		"", "+OK\r\n", "-MOVED\r\n", "-MOVED x h:1\r\n", "-MOVED 16384 h:1\r\n", "-MOVED 1 h\r\n", "-MOVED 1 h:0\r\n", "-MOVED 1 h:65536\r\n",
		"-ERR MOVED 1 h:1\r\n", "$20\r\n-MOVED 1 h:1\r\n", "-MOVED -1 h:1\r\n", "-MOVED 1 h:x\r\n",
	} {
		if got, ok := ParseRedirect([]byte(reply), "from"); ok {
			t.Errorf("%q: %v", reply, got)
		}
	}
}

func BenchmarkShard(b *testing.B) {
	top := Even([]string{"a:1", "b:2", "c:3"})
	b.ReportAllocs()
	var slot uint16
	for b.Loop() {
		if top.Shard(slot&(Slots-1)) < 0 {
			b.Fatal("not served")
		}
		slot++
	}
}

func TestRangesAreAllSlotsInOrderOwnedOrNot(t *testing.T) {
	b := newTopologyBuilder()
	if b.add(Shard{Primary: "b:1"}, []slotRange{{200, 299}}) != nil ||
		b.add(Shard{Primary: "a:1"}, []slotRange{{0, 99}, {300, Slots - 1}}) != nil {
		t.Fatal("refused")
	}
	want := []Range{{0, 99, 0}, {100, 199, -1}, {200, 299, 1}, {300, Slots - 1, 0}}
	if got := b.build().Ranges(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Single("a:1").Ranges(); !slices.Equal(got, []Range{{0, Slots - 1, 0}}) {
		t.Errorf("one node: %v", got)
	}
}

func parsePlainShards(reply []byte, seedHost string) (*Topology, error) {
	return ParseClusterShards(reply, seedHost, false)
}
