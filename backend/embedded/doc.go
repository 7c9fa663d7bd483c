// Package embedded is the backend that berth starts when it is given none, for trying berth out: a
// few miniredis servers inside the process.
//
//	clients of berth ─▶ pipes, leases ─▶ 127.0.0.1 ─▶ miniredis, one for each shard
//
// It is slow, keeps its data in memory only, and does not know every command.
package embedded
