// Command bench measures Redis endpoints side by side: a redis-server by itself, berth, nutcracker,
// haproxy, or whatever else listens at an address.
//
//	                 ┌────────────┐     ┌─────────┐     ┌──────────────┐
//	 one thread,     │ direct     │────────────────────▶│ redis-server │
//	 one epoll,      │ berth      │────▶│  proxy  │────▶│ redis-server │   each endpoint has
//	 N sockets  ────▶│ nutcracker │────▶│  proxy  │────▶│ redis-server │   nodes of its own
//	 (driver)        │ haproxy    │────▶│  proxy  │────▶│ redis-server │
//	                 └────────────┘     └─────────┘     └──────────────┘
//	                                      CPU and memory of both from /proc
//
//	scenario   what is measured: a workload with numbers (clients, pipeline, value, rate)
//	workload   what one client does, and which replies are right
//	endpoint   one address with the processes after it
//	round      one scenario at one endpoint, once
//	figures    what a round found
//
// Rounds are interleaved: every endpoint has its turn before any has its second, so that a noisy
// neighbour disturbs all of them alike, and ratios are taken within a turn. Every value names its
// key, so a reply that belongs to somebody else is an error and not a fast reply.
//
// bench knows nothing of berth's insides: it starts it as a process and talks to it over a socket.
// Of the repository it uses codec alone. What it reads from /proc and how it drives sockets is
// Linux'.
package main
