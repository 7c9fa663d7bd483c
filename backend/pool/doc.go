// Package pool holds the exclusive connections: one Pool for each node and user, shared by all
// loops.
//
//	session ─ Get ─▶ idle stack ─ compare-and-swap ─▶ Lease ═ netpoll ═▶ node
//	                 miss: dial, or wait in line       │ Detach: to the oldest waiter, else to the stack
//	        ◀ LeaseReply ─ Inbox, one wake-up a batch ◀┘
//
// An idle connection belongs to the stack, a lease to the one session that won the
// compare-and-swap. A connection returns only when it owes no reply and its ledger is clean, or
// names the exact commands that undo what it was told. Anything else is closed. A timer wheel
// evicts what has been idle for too long. The package refuses to know clients, slots and
// topologies.
package pool
