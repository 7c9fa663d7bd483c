// Package lane lets clients that block for the same elements share a few connections.
//
//	session ─ Join ─▶ group (all loops' clients with the same words) ─▶ lanes ─ lease ─▶ node
//	        ◀ Answer ─ the one that has waited longest ◀── reply ◀─────────────────────
//	        ─ Leave ─▶ one lane too many ─▶ CLIENT UNBLOCK on a pipe; its element goes to the next client,
//	                                        else back to where it came from (orphan)
//
// A group belongs to one loop, its home, which alone decides who gets what. The package refuses to
// know what a client is: who waits is a Client. What a client reads when there is no connection is
// for the caller to word.
package lane
