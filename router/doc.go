// Package router makes the pure decisions of the proxy: whether a command is known and well formed,
// which way it travels, which of its arguments are keys, which slot they hash to, and which node
// owns that slot.
//
//	args ──▶ Table.Lookup ──▶ *Command ──▶ CheckArity ──▶ Keys ──▶ Slot ──▶ Topology.Shard ──▶ an address
//	             │                │
//	             │                └─ Way: local, shared, split, fan-out, blocking, pinned, script, transaction, refused
//	             └─ commands.tbl (one row per command) + what a node's own COMMAND reply adds
//
// One row of commands.tbl describes a command: arity, flags, way of travel, how the parts of a
// split command join, where its keys are, and traits for what else a proxy has to know. Maps of
// this package add, by name, what no column can say: how to find the keys of a few commands, and
// the words that refuse one. Package server names the commands that berth answers, once, and finds
// their rows when it starts. No code compares the name of a request's command to decide how the
// request travels.
//
// The package refuses to know sockets, sessions, pools, and who is authenticated. Nothing in it
// blocks, locks or keeps state between calls. Tables and topologies are immutable: a change makes a
// new one, and its owner swaps one pointer. The hot path (Lookup, CheckArity, Keys, Slot, Shard)
// does not allocate.
package router
