package main

import (
	"log/slog"
	"math"
	"os"
	"time"
)

const (
	maxUint32 = math.MaxUint32 // upper end of the specification's ranges
	maxInt32  = math.MaxInt32
)

// options is the table. Names are redis.conf's where the meaning is the same and the pool specification's where
// it is theirs (private_conn_*). Order is the README's, --help's and that of CONFIG GET *.
var options = []*option{
	// Where clients come in.
	{name: "bind", def: "127.0.0.1",
		value: listValue{at: func(c *Config) *[]string { return &c.Bind }, is: "addresses", check: checkBind},
		help:  "Addresses to listen on. `*` is all of IPv4, `::*` all of IPv6; a `-` in front lets one be missing."},
	{name: "port", def: "7379",
		value: numberValue{at: func(c *Config) *int { return &c.Port }, min: 0, max: 65535},
		help:  "TCP port for clients; 0: no TCP."},
	{name: "unixsocket", def: `""`,
		value: textValue[string]{at: func(c *Config) *string { return &c.UnixSocket }, is: "path", check: checkSocketPath},
		help:  "Path of a unix socket for clients."},
	{name: "unixsocketperm", def: "0",
		value: modeValue{at: func(c *Config) *os.FileMode { return &c.UnixSocketPerm }},
		help:  "File mode of the unix socket; 0: what the umask leaves."},
	{name: "tcp-backlog", def: "511",
		value: numberValue{at: func(c *Config) *int { return &c.TCPBacklog }, min: 0, max: maxInt32},
		help:  "Connections the kernel keeps waiting to be accepted."},
	{name: "tcp-keepalive", def: "300", hot: true,
		value: durationValue{at: func(c *Config) *time.Duration { return &c.TCPKeepalive }, per: time.Second, max: maxInt32},
		help:  "Seconds of silence before the kernel probes a client's connection; 0: never. Takes effect for new clients."},
	{name: "loops", def: "0",
		value: numberValue{at: func(c *Config) *int { return &c.Loops }, min: 0, max: 1024},
		help:  "Event loops; 0: one per core."},

	// What a client may take.
	{name: "maxclients", def: "10000", hot: true,
		value: numberValue{at: func(c *Config) *int { return &c.MaxClients }, min: 1, max: maxUint32},
		help:  "Clients at one time; more are refused with an error."},
	{name: "timeout", def: "0", hot: true,
		value: durationValue{at: func(c *Config) *time.Duration { return &c.Timeout }, per: time.Second, max: maxInt32},
		help:  "Close a client that is silent so long; 0: never."},
	{name: "proto-max-bulk-len", def: "512mb", hot: true,
		value: sizeValue{at: func(c *Config) *int { return &c.ProtoMaxBulkLen }, min: 1 << 20, max: math.MaxInt},
		help:  "Longest argument of a request."},
	{name: "client-query-buffer-limit", def: "1gb", hot: true,
		value: sizeValue{at: func(c *Config) *int { return &c.QueryBufferLimit }, min: 1 << 20, max: math.MaxInt},
		help:  "Request bytes berth holds for one client; over it the client is closed."},
	{name: "client-output-buffer-limit", def: "normal 1gb 256mb 60 pubsub 32mb 8mb 60", hot: true,
		value: outputLimitsValue{at: func(c *Config) *OutputLimits { return &c.OutputLimits }},
		help:  "Reply bytes a client may leave unread, by class (`normal`, `pubsub`): over the hard limit it is closed at once, over the soft limit after so many seconds; 0: no limit."},
	{name: "client-pipeline-limit", def: "10000", hot: true,
		value: numberValue{at: func(c *Config) *int { return &c.PipelineLimit }, min: 1, max: maxUint32},
		help:  "Requests of one client under way at one time; the rest wait in its query buffer."},
	{name: "transaction-max-bytes", def: "256mb", hot: true,
		value: sizeValue{at: func(c *Config) *int { return &c.TransactionMaxBytes }, min: 1 << 10, max: math.MaxInt},
		help:  "Bytes one client may queue between MULTI and EXEC."},
	{name: "transaction-max-commands", def: "1000000", hot: true,
		value: numberValue{at: func(c *Config) *int { return &c.TransactionMaxCommands }, min: 1, max: maxUint32},
		help:  "Commands one client may queue between MULTI and EXEC."},
	{name: "pubsub-sharing", def: "yes", hot: true,
		value: yesNo(func(c *Config) *bool { return &c.PubSubSharing }),
		help:  "yes: the subscriptions of all clients of one event loop and user share one connection per node. no: each subscriber has its own. Takes effect for clients without subscriptions."},
	{name: "enable-debug-command", def: "no",
		value: yesNo(func(c *Config) *bool { return &c.EnableDebugCommand }),
		help:  "Whether DEBUG is passed to nodes."},
	{name: "shutdown-timeout", def: "10", hot: true,
		value: durationValue{at: func(c *Config) *time.Duration { return &c.ShutdownTimeout }, per: time.Second, max: maxInt32},
		help:  "Time for requests under way to end when berth is asked to stop."},

	// What is behind.
	{name: "backend", def: `""`, mask: maskBackendURL,
		value: backendValue{at: func(c *Config) *BackendURL { return &c.Backend }},
		help:  "`redis://host:6379[/db]`, `redis://a:7001,b:7002` (a Cluster is found out by asking) or `unix:///path`; none: the embedded backend, to try berth out."},
	{name: "backend-user", def: `""`,
		value: textValue[string]{at: func(c *Config) *string { return &c.BackendUser }, is: "name"},
		help:  "User berth itself authenticates as."},
	{name: "backend-password", def: `""`, mask: maskSecret,
		value: textValue[Secret]{at: func(c *Config) *Secret { return &c.BackendPassword }, is: "password"},
		help:  "Its password; best given as `BERTH_BACKEND_PASSWORD`. Never shown, never written by CONFIG REWRITE."},
	{name: "backend-password-file", def: `""`,
		value: textValue[string]{at: func(c *Config) *string { return &c.BackendPasswordFile }, is: "path"},
		help:  "File that holds the password; a line end behind it is left out."},
	{name: "backend-connect-timeout-ms", def: "2000", hot: true,
		value: durationValue{at: func(c *Config) *time.Duration { return &c.BackendConnectTimeout }, per: time.Millisecond, min: 1, max: maxInt32},
		help:  "Time to reach a node and be let in."},
	{name: "backend-timeout-ms", def: "60000", hot: true,
		value: durationValue{at: func(c *Config) *time.Duration { return &c.BackendTimeout }, per: time.Millisecond, max: maxInt32},
		help:  "A request that a node leaves unanswered so long is answered with an error, blocking commands excepted; 0: never."},
	{name: "max-redirects", def: "5", hot: true,
		value: numberValue{at: func(c *Config) *int { return &c.MaxRedirects }, min: 1, max: 100},
		help:  "MOVED and ASK replies followed for one request."},
	{name: "topology-refresh-interval", def: "30", hot: true,
		value: durationValue{at: func(c *Config) *time.Duration { return &c.TopologyRefreshInterval }, per: time.Second, max: maxInt32},
		help:  "How often a Cluster is asked who serves which slots, also without a redirect; 0: only after one."},

	// The pool of exclusive connections.
	{name: "private_conn_pool_enabled", def: "1", hot: true,
		value: zeroOne(func(c *Config) *bool { return &c.PoolEnabled }),
		help:  "1: exclusive connections are pooled. 0: an exclusive client gets its own and keeps it until it leaves."},
	{name: "private_conn_idle_time_sec", def: "60", hot: true,
		value: durationValue{at: func(c *Config) *time.Duration { return &c.PoolIdleTime }, per: time.Second, max: maxUint32},
		help:  "Time an idle connection is kept; 0: it is closed when it is given back."},
	{name: "private_conn_pool_max_idle_per_db", def: "1000", hot: true,
		value: numberValue{at: func(c *Config) *int { return &c.PoolMaxIdle }, min: 0, max: maxUint32},
		help:  "Idle connections kept per node; one that is given back beyond them is closed."},
	{name: "private_conn_pool_min_idle_per_db", def: "0", hot: true,
		value: numberValue{at: func(c *Config) *int { return &c.PoolMinIdle }, min: 0, max: maxUint32},
		help:  "Idle connections per node that stay past their time, and are made ahead."},
	{name: "private-conn-pool-max-total", def: "0", hot: true,
		value: numberValue{at: func(c *Config) *int { return &c.PoolMaxTotal }, min: 0, max: maxUint32},
		help:  "Exclusive connections per node, in use and idle; 0: no limit of berth's own."},
	{name: "pool-wait-timeout", def: "500", hot: true,
		value: durationValue{at: func(c *Config) *time.Duration { return &c.PoolWaitTimeout }, per: time.Millisecond, max: maxInt32},
		help:  "Time a client waits for an exclusive connection before it is told to try again; 0: for ever."},

	// How berth is watched.
	{name: "admin-bind", def: "127.0.0.1",
		value: listValue{at: func(c *Config) *[]string { return &c.AdminBind }, is: "addresses", check: checkBind},
		help:  "Addresses of the admin endpoint (`/status`, `/metrics`, `/healthz`, `/readyz`; `/debug/pprof` on loopback addresses only)."},
	{name: "admin-port", def: "9379",
		value: numberValue{at: func(c *Config) *int { return &c.AdminPort }, min: 0, max: 65535},
		help:  "TCP port of the admin endpoint; 0: none."},
	{name: "loglevel", def: "notice", hot: true,
		value: oneOf(func(c *Config) *slog.Level { return &c.LogLevel }, logLevelNames, logLevels),
		help:  "What is logged: this and everything more important."},
	{name: "logfile", def: `""`,
		value: textValue[string]{at: func(c *Config) *string { return &c.LogFile }, is: "path"},
		help:  "File to log to; none: standard error. Opened again on SIGHUP."},
}
