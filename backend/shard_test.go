package backend

import (
	"testing"

	"github.com/berth-proxy/berth/router"
)

func TestACommandWithoutKeysGoesToOneOfAllShards(t *testing.T) {
	topology := router.Even([]string{"a:1", "b:1", "c:1"})
	for client, want := range map[int64]int{0: 0, 1: 1, 5: 2, 6: 0} {
		if shard, ok := ShardOf(topology, NoSlot, client); shard != want || !ok {
			t.Errorf("client %d goes to shard %d (%v), want %d", client, shard, ok, want)
		}
	}
	if shard, ok := ShardOf(topology, router.Slots-1, 0); shard != 2 || !ok {
		t.Errorf("the last slot goes to shard %d (%v), want 2", shard, ok)
	}
	if shard, ok := ShardOf(&router.Topology{}, NoSlot, 7); ok {
		t.Errorf("without shards a command goes to shard %d", shard)
	}
}
