// Package admin is berth's HTTP endpoint: /metrics, /status, /healthz, /readyz and /debug/pprof.
//
//	GET /metrics ─────────────▶ Source.Metrics
//	GET /healthz, /readyz ────▶ Source.Healthy, Source.Ready
//	GET /status ── the page ──▶ GET /status.json ─▶ Source.Status
//
// The package knows paths, headers and which listener may show what. It does not know what it
// shows: the server hands in functions that say it.
package admin
