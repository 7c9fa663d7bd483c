// Package nodes knows which nodes berth has and which node serves which slot. It asks the nodes of a
// Cluster, the Sentinels, or the one server, in rounds, and keeps the answer as one immutable
// topology that any goroutine may load.
//
//	Target (the URL) ─▶ Connect ─▶ rounds ─▶ Topology, Info, Health
//	                       ▲ Refresh, +switch-master, every topology-refresh-interval
//
// The package talks to nodes on short connections of its own (Control). It refuses to know pipes and
// pools: a package that wants to follow a change registers with OnChange.
package nodes
