// Package eventlog is berth's log: one line per life event, none per request.
//
//	slog.Warn("client refused", "why", eventlog.Cause("maxclients"), "addr", addr)
//	     │
//	     ▼
//	gate of the message and the cause ─▶ text or JSON ─▶ standard error, or a file
//	     └─ more than one a second ─▶ counted: "client refused, 312 more like it"
//
// It knows neither clients nor nodes.
package eventlog
