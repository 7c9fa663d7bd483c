// Package pipe holds the connections that all clients of an event loop share: one for each loop,
// node and identity.
//
//	session ─ Send ─▶ journal ─ flush ─▶ node
//	        ◀ Reply ─ owed ◀─ Traffic ◀─
//
// A pipe belongs to one loop and is touched only there, so there is no lock. A loop flushes each
// pipe once a turn, so that all clients of the turn share one write. Requests stay in the journal
// until they are answered, because a redirected request is sent again from there.
//
// The package refuses to know what a request says. Of a reply it knows where it ends, whether it is
// a push, and whether the node refuses the pipe's own handshake.
package pipe
