// Package backend speaks to the nodes: over pipes, which all clients of an event loop share, and over leases, which one
// session holds for as long as it needs a connection of its own. It also knows which nodes there are.
//
//	session ─ Send ─▶ Pipe ════ gnet ════▶ node      one for each loop, node and Identity; no lock
//	        ◀ Reply ─ owed ◀══════════════
//
//	session ─ Get ──▶ Pool ─▶ Lease ═ netpoll ═▶ node   one Pool for each node and user, shared by all loops
//	        ◀ LeaseReply ─ Inbox ◀══════════════
//
//	Nodes: what stands behind berth, who owns which slot; asks, follows MOVED, tells Topology
//
// It refuses to know what a client is: whoever waits for a reply is a Receiver, whoever holds a lease a Holder. It does
// not look into requests, and of replies it knows where they end and whether they are errors of its own handshake.
package backend
