package router

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// shardsReply is a CLUSTER SHARDS of n shards, each with the replicas' number of nodes more and the slots given.
func shardsReply(n, replicas int, slots string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", n)
	for i := range n {
		fmt.Fprintf(&b, "*4\r\n$5\r\nslots\r\n%s$5\r\nnodes\r\n*%d\r\n", slots, 1+replicas)
		for j := range 1 + replicas {
			role := "replica"
			if j == 0 {
				role = "master"
			}
			host := fmt.Sprintf("10.%d.%d.%d", i>>8&255, i&255, j)
			fmt.Fprintf(&b, "*8\r\n$8\r\nendpoint\r\n$%d\r\n%s\r\n$4\r\nport\r\n:6379\r\n$4\r\nrole\r\n$%d\r\n%s\r\n$6\r\nhealth\r\n$6\r\nonline\r\n",
				len(host), host, len(role), role)
		}
	}
	return b.Bytes()
}

const noSlots = "*0\r\n"

func TestATopologyHasBounds(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply []byte
		ok    bool
	}{
		{"as many shards as there may be", shardsReply(MaxShards, 0, noSlots), true},
		{"a shard more", shardsReply(MaxShards+1, 0, noSlots), false},
		{"more shards than an int16 holds", shardsReply(40_000, 0, noSlots), false},
		{"very many replicas", shardsReply(100, 200, noSlots), false},
		{"slots with three owners", shardsReply(3, 0, "*2\r\n:0\r\n:16383\r\n"), false},
		{"one shard that names its slots again and again", shardsReply(1, 0, "*200000\r\n"+strings.Repeat(":0\r\n:16383\r\n", 100_000)), false},
	} {
		top, err := parsePlainShards(test.reply, "seed")
		if ok := err == nil; ok != test.ok || !ok && !errors.Is(err, ErrNotTopology) {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.ok && len(top.Shards()) != MaxShards {
			t.Errorf("%s: %d shards", test.name, len(top.Shards()))
		}
	}
}

func TestANodeIsKnownWhateverItServes(t *testing.T) {
	node := func(host, role, health string) string {
		return fmt.Sprintf("*8\r\n$8\r\nendpoint\r\n$%d\r\n%s\r\n$4\r\nport\r\n:1\r\n$4\r\nrole\r\n$%d\r\n%s\r\n$6\r\nhealth\r\n$%d\r\n%s\r\n",
			len(host), host, len(role), role, len(health), health)
	}
	top, err := parsePlainShards([]byte("*2\r\n"+
		"*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:16383\r\n$5\r\nnodes\r\n*3\r\n"+node("a", "master", "online")+node("b", "replica", "online")+node("c", "replica", "fail")+
		"*4\r\n$5\r\nslots\r\n*0\r\n$5\r\nnodes\r\n*1\r\n"+node("d", "master", "loading")), "seed")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"a:1", "b:1", "c:1", "d:1"} {
		if !top.Knows(addr) {
			t.Errorf("%s is not known", addr)
		}
	}
	for _, addr := range []string{"", "e:1", "a:2", "seed:1"} {
		if top.Knows(addr) {
			t.Errorf("%s is known", addr)
		}
	}
	more := top.With([]string{"e:1", "a:1"})
	if !more.Knows("e:1") || !more.Knows("d:1") || top.Knows("e:1") || more.Equal(top) || more.Primary(5) != "a:1" {
		t.Error("With")
	}
	if got := top.Changes(more); got != "e:1 has joined" {
		t.Error(got)
	}
}

func TestClusterNodesNamesAllAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"a 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5\nb 10.0.0.2:7001@17001,host slave a 0 0 1 connected\n": "[10.0.0.1:7000 10.0.0.2:7001]",
		"a :7000@17000 myself,master - 0 0 1 connected\n":                                                                 "[seed:7000]",
		"a fe80::1:7000@17000 master\nb ?:0@0 handshake\nc\n\nd x y z\ne 10.0.0.1 \x00\nf a\x01b:1@2":                     "[[fe80::1]:7000]",
		"": "[]",
	} {
		got, err := ParseClusterNodes(text, "seed")
		if fmt.Sprint(got) != want || err != nil {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	if _, err := ParseClusterNodes(strings.Repeat("a 10.0.0.1:7000@17000 master\n", MaxNodes+1), "seed"); !errors.Is(err, ErrNotTopology) {
		t.Errorf("very many nodes: %v", err)
	}
}

// checkTopology checks what must be true of every topology.
func checkTopology(t *testing.T, top *Topology) {
	t.Helper()
	if len(top.shards) > MaxShards || len(top.nodes) > MaxNodes {
		t.Fatalf("%d shards, %d nodes", len(top.shards), len(top.nodes))
	}
	for _, s := range top.shards {
		for _, addr := range append([]string{s.Primary}, s.Replicas...) {
			if !top.Knows(addr) || len(addr) > maxHost+len("[]:65535") || strings.ContainsAny(addr, " \r\n\x00") {
				t.Fatalf("address %q", addr)
			}
		}
	}
	for slot := range uint16(Slots) {
		if i := top.Shard(slot); i < -1 || i >= len(top.shards) {
			t.Fatalf("slot %d: shard %d of %d", slot, i, len(top.shards))
		}
	}
	if !top.Equal(top) || strings.Contains(top.String()+top.Changes(Even(nil)), "\n") {
		t.Fatal(top)
	}
}

func FuzzTopologyReplies(f *testing.F) {
	f.Add(shardsReply(3, 1, "*2\r\n:0\r\n:5460\r\n"))
	f.Add(shardsReply(1, 0, noSlots))
	f.Add([]byte("*2\r\n*3\r\n:0\r\n:5460\r\n*4\r\n$1\r\na\r\n:1\r\n$1\r\nx\r\n*2\r\n$2\r\nip\r\n$1\r\nb\r\n*4\r\n:1\r\n:2\r\n*2\r\n$0\r\n\r\n:1\r\n*2\r\n$1\r\n?\r\n:2\r\n"))
	f.Add([]byte("%1\r\n$5\r\nslots\r\n*0\r\n"))
	f.Add([]byte("-ERR This instance has cluster support disabled\r\n"))
	f.Add([]byte("a 10.0.0.1:7000@17000,host master\nb :1@2 slave\n"))
	f.Fuzz(func(t *testing.T, reply []byte) {
		for _, parse := range []func([]byte, string) (*Topology, error){parsePlainShards, ParseClusterSlots} {
			switch top, err := parse(reply, "seed"); {
			case err == nil:
				checkTopology(t, top)
			case !errors.Is(err, ErrNotTopology) && err != ErrClusterDisabled:
				t.Fatal(err)
			}
		}
		addrs, err := ParseClusterNodes(string(reply), "seed")
		if err == nil {
			checkTopology(t, Even([]string{"a:1"}).With(addrs))
		}
		if r, ok := ParseRedirect(reply, ""); ok && (r.Slot >= Slots || len(reply) > maxRedirect) {
			t.Fatalf("%+v", r)
		}
	})
}
