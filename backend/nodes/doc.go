// Package nodes knows which nodes berth has and who serves which slot. It asks the nodes of a
// Cluster, the Sentinels, or the one server, in rounds, and keeps the answer as one immutable
// topology that any goroutine may load.
//
//	Target (the URL) ─▶ Connect ─▶ rounds ─▶ Topology, Info, Health
//	                       ▲ Refresh, Moved, +switch-master, every topology-refresh-interval
//
// The package speaks to nodes on short connections of its own. It knows neither pipes nor pools:
// who wants to follow a change registers with OnChange.
package nodes
