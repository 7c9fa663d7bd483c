// Package telemetry is what berth says of itself: counters that loops write, one Snapshot of all
// there is to report, and the four pictures that are drawn from it.
//
//	loops: Counters ─┐
//	pools, nodes  ───┴─▶ server.look ─▶ Snapshot ─▶ Prometheus   /metrics
//	                                              ├▶ Info         INFO
//	                                              ├▶ …Rows        PROXY
//	                                              └▶ Status       /status.json
//
// A picture is a function of the Snapshot alone: it reads no server, so it can be tested without
// one. The package refuses to know sessions and loops; who they are is the server's to say.
package telemetry
