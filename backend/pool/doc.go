// Package pool holds the exclusive connections: one Pool for each node, user and credential, shared by all
// loops.
//
//	session ─ Get ─▶ idle stack ─ compare-and-swap ─▶ Lease ═ netpoll ═▶ node
//	                 miss: a Waiter, and a dial         │ Detach: to the oldest Waiter, else to the stack
//	        ◀ LeaseReply ─ Inbox, one wake-up a batch ◀─┘
//
// An idle connection belongs to the stack, a lease to the one session that won the
// compare-and-swap. A connection returns only when it owes no reply and its ledger is clean, or
// names the exact commands that undo what it was told. Any other connection is closed. A timer wheel
// evicts connections that have been idle for too long.
//
// Most structs lock for themselves. One lock does more: nodeLimit.mu, one for each node, also guards
// the queues, dials and deadline of every Pool of the node, and every queued Waiter.
//
// The package refuses to know clients, slots and topologies.
package pool
