// Package telemetry is what berth reports of itself: counters that the loops write, one Snapshot of
// everything there is to report, and the four pictures drawn from the Snapshot.
//
//	loops: Counters ─┐
//	pools, nodes  ───┴─▶ server.look ─▶ Snapshot ─▶ Prometheus   /metrics
//	                                              ├▶ Info         INFO
//	                                              ├▶ …Rows        PROXY
//	                                              └▶ Status       /status.json
//
// A picture is a function of the Snapshot alone. It reads no server, so a test of it needs none.
// The package does not know sessions and loops: the server fills their figures in.
package telemetry
