// Package backend holds the words that all ways to a node share: who speaks (Identity), who waits
// for a reply (Receiver), why there is none (LostError), what an event loop offers (Loop), and how
// a connection begins (dial, handshake).
//
//	backend/pipe    shared connections: all clients of a loop in one pipeline; no lock
//	backend/feed    shared subscriptions: one connection for all subscribers of a loop and user
//	backend/lane    shared waits: blocking commands of many clients on a few leases
//	backend/pool    exclusive connections: a lease belongs to one session while it needs it
//	backend/nodes   which nodes berth has, and who serves which slot
//	backend/embedded  the try-out backend inside the process
//
// Nothing in here knows what a client is.
package backend
