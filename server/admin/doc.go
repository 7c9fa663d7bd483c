// Package admin serves /metrics, /status, /healthz, /readyz and /debug/pprof over HTTP. It knows
// none of what it serves: functions that are handed in say it.
package admin
