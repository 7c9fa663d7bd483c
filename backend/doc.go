// Package backend holds what all ways to a node share.
//
//	Identity    as whom a connection speaks
//	Logins      with which passwords berth logs in as a user
//	Handshake   how a fresh connection becomes one of an identity
//	Link        how a connection of an event loop begins, ends and begins again
//	Loop        what an event loop offers to the connections that it owns
//	Receiver    to whom a reply is owed
//	LostError   why a reply will not come
//	Follow      what a MOVED or ASK reply means
//
// The ways themselves are packages of their own: three share connections, one does not.
//
//	backend/pipe      shared connections: one pipeline for all clients of a loop; no lock
//	backend/feed      shared subscriptions: one connection for all subscribers of a loop and user
//	backend/lane      shared waits: blocking commands of many clients on a few leases
//	backend/pool      exclusive connections: a lease belongs to one session while it needs it
//	backend/nodes     which nodes berth has, and which node serves which slot
//	backend/embedded  the backend inside the process, for trying berth out
//
// No package in here knows what a client is, and this one knows sockets as net.Conn only.
package backend
