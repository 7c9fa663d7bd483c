// Command bench measures Redis endpoints side by side: a redis-server by itself, berth, nutcracker,
// haproxy, or whatever else listens at an address.
//
//	                 ┌────────────┐     ┌─────────┐     ┌──────────────┐
//	 one thread,     │ direct     │────────────────────▶│ redis-server │
//	 one epoll,      │ berth      │────▶│  proxy  │────▶│ redis-server │   each endpoint has
//	 N sockets  ────▶│ nutcracker │────▶│  proxy  │────▶│ redis-server │   its own nodes
//	 (driver)        │ haproxy    │────▶│  proxy  │────▶│ redis-server │
//	                 └────────────┘     └─────────┘     └──────────────┘
//	                                      CPU and memory of both, from /proc
//
//	scenario   what is measured: a workload with numbers (clients, pipeline, value, rate)
//	workload   what one client does, and which replies are right
//	endpoint   one address and the processes that serve it
//	round      one scenario at one endpoint, once
//	figures    the measurements of one round
//
// Rounds are interleaved: every endpoint is measured once before any endpoint is measured again. A
// noisy neighbour then disturbs all endpoints alike, and a ratio compares rounds of the same turn.
// Every value contains its key, so a reply meant for another client counts as an error and not as
// a fast reply.
//
// bench does not know berth's internals: it starts berth as a process and talks to it over a
// socket. It imports nothing of the repository but codec. It reads /proc and uses epoll, so it
// needs Linux.
package main
