// Package router holds the pure decisions of the proxy: is this command known, is it well formed,
// which of its arguments are keys, which slot do they hash to, which way does it travel, and which
// node owns that slot.
//
//	args ──▶ Table.Lookup ──▶ *Command ──▶ CheckArity ──▶ Keys ──▶ Slot ──▶ Topology.Shard ──▶ an address
//	             │                │
//	             │                └─ Way: local, shared, split, fan-out, blocking, pinned, transaction, refused
//	             └─ commands.tbl (one line a command) + what a node's own COMMAND reply adds
//
// Everything a command is stands in one row of commands.tbl: arity, flags, way of travel, how the
// parts of a split command join, and where its keys are. Nothing else in the proxy compares command
// names to decide how one travels.
//
// What it refuses to know: sockets, sessions, pools, who is authenticated. Nothing here blocks,
// locks or keeps state between calls. Tables and topologies are immutable: a new one is built and
// swapped as one pointer. The hot path (Lookup, CheckArity, Keys, Slot, Shard) does not allocate.
package router
