package backend

import "github.com/berth-proxy/berth/router"

// NoSlot stands for the slot of a command without keys.
const NoSlot = -1

// ShardOf returns the shard to which a request with this slot goes. For NoSlot it is one of all
// shards, chosen by the client's number; for router.ChannelSlot it is the home of the plain
// channels. ok is false if no shard is known.
func ShardOf(t *router.Topology, slot int, client int64) (shard int, ok bool) {
	shards := len(t.Shards())
	switch {
	case shards == 0:
		return -1, false
	case slot >= 0:
		return t.Home(uint16(slot)), true
	case slot == router.ChannelSlot:
		return router.ChannelHome, true
	}
	return int(client % int64(shards)), true
}
