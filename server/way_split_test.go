package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// A splitJob reads a request as a name and then keys up to the end.
func TestSplitCommandsHaveKeysUpToTheEnd(t *testing.T) {
	n := 0
	for _, c := range router.Builtin().Commands() {
		if c.Way != router.Split {
			continue
		}
		n++
		if c.First != 1 || c.Last != -1 || c.Step < 1 {
			t.Errorf("%s: its keys are %d..%d/%d", c.Name, c.First, c.Last, c.Step)
		}
	}
	if n == 0 {
		t.Error("no command is split")
	}
}

func TestPartsAreFoldedByNumber(t *testing.T) {
	for _, c := range []struct {
		join  router.Join
		parts string
		want  string
	}{
		{router.JoinSum, ":1 :-3 :9", ":7"}, {router.JoinMost, ":-4 :-3", ":-3"}, {router.JoinLeast, ":4 :3 :5", ":3"},
		{router.JoinAnd, ":1 :2 :1", ":1"}, {router.JoinAnd, ":1 :0", ":0"}, {router.JoinOr, ":0 :2", ":1"}, {router.JoinOr, ":0 :0", ":0"},
		{router.JoinSum, "*2|:1|:5 *2|:2|:6", "*2|:3|:11"}, {router.JoinAnd, "*2|:1|:1 *2|:0|:1", "*2|:0|:1"}, {router.JoinLeast, "*1|:4 *1|:2", "*1|:2"},
		{router.JoinSum, ":1 *1|:1", "-"}, {router.JoinSum, "*1|:1 :1", "-"}, {router.JoinOr, "*2|:1|:1 *1|:1", "-"}, {router.JoinOr, "*1|:1 *2|:1|:1", "-"},
		{router.JoinMost, "+OK +OK", "-"},
	} {
		j := &join{r: &request{cmd: &router.Command{Name: "mod.x", Join: c.join}}, failed: noPart}
		for _, reply := range strings.Fields(c.parts) {
			from := len(j.replies)
			j.replies = append(j.replies, strings.ReplaceAll(reply, "|", "\r\n")+"\r\n"...)
			j.parts = append(j.parts, part{from: from, to: len(j.replies)})
		}
		got := strings.ReplaceAll(strings.TrimSuffix(string(j.whole(nil)), "\r\n"), "\r\n", "|")
		if got != c.want && !(c.want == "-" && strings.HasPrefix(got, "-ERR berth: the shards")) {
			t.Errorf("%v of %s: %s, want %s", c.join, c.parts, got, c.want)
		}
	}
}

// What COMMAND says of a command that only the nodes know is what berth does over a Cluster.
func TestLearnedCommandGoesToEveryPrimary(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0, "--rename-command", "dbsize", "mod.size", "--rename-command", "lolwut", "mod.some")
	b := startBerth(t, clusterURL(cluster))
	row := func(name, response string) string {
		return fmt.Sprintf("*8\r\n$%d\r\n%s\r\n:1\r\n*1\r\n+readonly\r\n:0\r\n:0\r\n:0\r\n*0\r\n*2\r\n$24\r\nrequest_policy:all_nodes\r\n$%d\r\n%s\r\n",
			len(name), name, len(response), response)
	}
	if err := b.srv.commands.learn([]byte("*2\r\n" + row("mod.size", "response_policy:agg_sum") + row("mod.some", "response_policy:special"))); err != nil {
		t.Fatal(err)
	}
	c := dial(t, b.Addr())
	for i := range 3 {
		c.Do("SET", tagOn(cluster, i)+"a", "v")
		c.Do("SET", tagOn(cluster, i)+"b", "v")
	}
	script(t, c, "MOD.SIZE → 6")
	if got := cluster.Node(1).Do(t, "MOD.SIZE"); got != int64(2) {
		t.Errorf("one node has %v keys", got)
	}
	if way := b.srv.table().Find("mod.some").Way; way != router.Shared {
		t.Errorf("replies that nobody can join: %v", way)
	}
	script(t, c, "CONFIG SET lease-commands mod.size → OK", "MOD.SIZE → 6", "MULTI → OK")
	if got := fmt.Sprint(c.Do("MOD.SIZE")); got == "QUEUED" {
		t.Error("what speaks of all shards is queued")
	}
}

func TestSplitOverASlotThatNobodyServesIsRefused(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0, "--cluster-require-full-coverage", "no")
	for i := range 2 {
		cluster.Node(i).Do(t, "CLUSTER", "DELSLOTS", router.Slot([]byte("k")))
	}
	c := dial(t, startBerth(t, clusterURL(cluster), "--loops", "1").Addr())
	served := []any{"EXISTS"}
	for i := range longKeys + 1 {
		served = append(served, fmt.Sprintf("{%d}", i%100))
	}
	const refused = redistest.Error("CLUSTERDOWN Hash slot not served")
	for _, keys := range []int{3, longKeys + 1} {
		c.Send(append(served[:keys:keys], "k")...)
		c.Send("ECHO", "after")
		c.Send(served[:keys]...)
		c.Send("ECHO", "after")
		for i, want := range []any{refused, "after", int64(0), "after"} {
			if got := c.Recv(); got != want {
				t.Errorf("%d keys, reply %d: %v, want %v", keys, i, got, want)
			}
		}
	}
}

// A shard gets a long request in several pieces.
func TestSplitRequestMayBeLong(t *testing.T) {
	c := dial(t, startBerth(t, clusterURL(sharedCluster(t))).Addr())
	prefix := unique("long")
	mset, mget, del := []any{"MSET"}, []any{"MGET"}, []any{"DEL"}
	var values []any
	for i := range 100 {
		key, value := fmt.Sprint(prefix, i%75), fmt.Sprint(i, strings.Repeat("v", 10_000+i%3*maxKeptBuf))
		mset, mget, del = append(mset, key, value), append(mget, key), append(del, key)
		values = append(values, value)
	}
	c.Send(mset...)
	c.Send(mget...)
	c.Send(del...)
	if got := c.Recv(); got != "OK" {
		t.Fatalf("MSET: %.100v", got)
	}
	got, _ := c.Recv().([]any)
	if len(got) != len(values) {
		t.Fatalf("MGET: %d values", len(got))
	}
	for i := range got {
		want := values[i]
		if i < 25 { // set twice
			want = values[i+75]
		}
		if got[i] != want {
			t.Errorf("value %d is %.20v…, want %.20v…", i, got[i], want)
		}
	}
	if got := c.Recv(); got != int64(75) {
		t.Errorf("DEL: %v", got)
	}
}

// A client that leaves while its keys are looked for leaves a job that the next request may use.
func TestSplitJobOfAClientThatLeftCutsTheNextRequest(t *testing.T) {
	l := new(loop)
	topology := router.Even([]string{"127.0.0.1:1", "127.0.0.1:2"})
	begin := func(s *session, keys int) *splitJob {
		request := []any{"EXISTS"}
		for i := range keys {
			request = append(request, fmt.Sprintf("%d{%d}", i, i%100))
		}
		return l.splitter.begin(s.newRequest(router.Builtin().Find("exists")), topology, redistest.Command(request...), keys)
	}
	s := &session{loop: l}
	left := begin(s, 2*sliceKeys)
	if left.slice() {
		t.Fatal("all keys were found in one slice")
	}
	s.closed = true
	if !left.slice() {
		t.Fatal("the job goes on")
	}
	if len(l.splitter.jobs.free) != 1 || l.spares != 1 {
		t.Fatalf("%d jobs and %d requests are free, want 1 and 1", len(l.splitter.jobs.free), l.spares)
	}
	w := begin(&session{loop: l}, 250)
	if budget := sliceKeys; w != left || !w.find(&budget) {
		t.Fatal("another job, or not all keys were found")
	}
	slots := map[uint16]bool{}
	keys := 0
	for i := range w.join.parts {
		p := &w.join.parts[i]
		slots[p.slot] = true
		words := newWordReader(w.appendPart(nil, p))
		if name := string(words.next()); name != "EXISTS" {
			t.Errorf("part %d is a %s", i, name)
		}
		for ; words.left(); keys++ {
			if key := words.next(); router.Slot(key) != p.slot {
				t.Errorf("part %d of slot %d has key %s", i, p.slot, key)
			}
		}
	}
	if len(slots) != len(w.join.parts) || w.join.left != len(slots) || keys != 250 {
		t.Errorf("%d parts, %d of them open, for %d slots and %d keys", len(w.join.parts), w.join.left, len(slots), keys)
	}
}

// With a node down, parts are lost at once, while others of the same request are still to be sent.
func TestSplitRequestWithANodeDownIsAnsweredOnce(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0, "--cluster-require-full-coverage", "no")
	b := startBerth(t, clusterURL(cluster), "--loops", "1")
	c := dial(t, b.Addr())
	cluster.Node(1).Kill()
	for _, keys := range []int{20, 3 * sliceKeys} {
		for _, name := range []string{"MGET", "DEL"} {
			for range 2 {
				c.Send(append([]any{name}, manyKeys("down", keys)...)...)
				c.Send("ECHO", "after")
				if got, ok := c.Recv().(redistest.Error); !ok {
					t.Errorf("%s of %d keys: %.100v", name, keys, got)
				}
				if got := c.Recv(); got != "after" {
					t.Errorf("after %s of %d keys: %.100v", name, keys, got)
				}
			}
		}
	}
	onLoop := make(chan int)
	for _, l := range b.srv.eachLoop() {
		l.Post(func() { onLoop <- len(l.slicing.jobs) })
		if n := <-onLoop; n > 0 {
			t.Errorf("%d jobs are left", n)
		}
	}
}
