package config

import (
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend/nodes"
)

// Config is what berth was told, as one immutable snapshot: a change makes a new one.
// Slices in it are never written to. Units are in the types; sizes are bytes.
type Config struct {
	Bind           []string // addresses of the TCP listeners; see bindHost for "-" and "*"
	Port           int      // 0: no TCP listener
	UnixSocket     string   // empty: no unix listener
	UnixSocketPerm os.FileMode
	TCPBacklog     int
	ReusePort      bool
	TCPKeepalive   time.Duration // 0: no keepalive probes
	Loops          int           // 0: see loopCount

	MaxClients             int
	Timeout                time.Duration // 0: idle clients stay
	ProtoMaxBulkLen        int
	QueryBufferLimit       int
	OutputLimits           OutputLimits
	PipelineLimit          int
	TransactionMaxBytes    int
	TransactionMaxCommands int
	EnableDebugCommand     bool
	PubSubSharing          bool
	BlockingShare          bool
	BlockingLanesMax       int
	OrphanDrop             bool
	ShutdownTimeout        time.Duration

	Backend             BackendURL
	BackendUser         string // as configured; see Target
	BackendPassword     Secret // as configured; see Target
	BackendPasswordFile string
	FilePassword        Secret // what BackendPasswordFile held at the start; see Target

	BackendConnectTimeout   time.Duration
	BackendTimeout          time.Duration // 0: wait for ever
	MaxRedirects            int
	TopologyRefreshInterval time.Duration // 0: only after a redirect

	PoolEnabled     bool
	PoolIdleTime    time.Duration // 0: close at detach
	PoolMaxIdle     int
	PoolMinIdle     int
	PoolMaxTotal    int // 0: derived from the node's own limit
	PoolWaitTimeout time.Duration
	PoolBlocking    int           // percent of the connections
	WatchMaxIdle    time.Duration // 0: only when others wait
	PoolHealthCheck time.Duration // 0: never
	PoolDialRate    int           // per second; 0: none are made ahead
	PoolDialing     int           // 0: no limit

	AdminBind []string
	AdminPort int // 0: no admin listener

	LogLevel slog.Level
	LogFile  string // empty: standard error
}

// Target is where the nodes are and as whom berth itself speaks to them (topology, health, clients
// that never authenticate), put together from backend, backend-user and wherever the password came
// from.
func (c *Config) Target() nodes.Target {
	t := c.Backend.Target
	if c.BackendUser != "" {
		t.User = c.BackendUser
	}
	for _, p := range []Secret{c.BackendPassword, c.FilePassword} {
		if p != "" {
			t.Password = p.Reveal()
		}
	}
	return t
}

// OutputLimits are the limits of a client's unread replies, by what the client does.
type OutputLimits struct {
	Normal OutputLimit
	PubSub OutputLimit // clients with a subscription
}

// OutputLimit is one class of client-output-buffer-limit: over Hard bytes the client is closed at
// once, over Soft bytes when it stays there for SoftFor. 0 switches a limit off.
type OutputLimit struct {
	Hard, Soft int
	SoftFor    time.Duration
}

// Settings holds the current Config, changes it while berth runs and tells those who registered.
type Settings struct {
	// now is stored by Set under mu and loaded by everybody at any time: a reader that loses the
	// race keeps the older snapshot for one more turn.
	now atomic.Pointer[Config]

	mu    sync.Mutex // guards hooks and makes one change at a time; loops wait for it: nothing blocks under it
	hooks []configHook

	fileMu   sync.Mutex // makes one rewrite of the file at a time; held over disk writes, so never taken on a loop
	path     string     // the configuration file, absolute; empty: started without one
	warnings []string   // found while loading, for the log once it is open
}

type configHook struct {
	names []string
	fn    func(now *Config)
}

// Load returns the current snapshot. It costs one atomic load: read it once a turn, not once a
// field.
func (s *Settings) Load() *Config { return s.now.Load() }

// File is the absolute path of the configuration file, empty when there is none.
func (s *Settings) File() string { return s.path }

// Warnings are things the log should say once about how berth was started.
func (s *Settings) Warnings() []string { return s.warnings }

// OnChange has fn called after a change of any of the named options (of any option when none is
// named) with the snapshot that is then current. It runs on the goroutine that made the change, so
// it must not block and must not change settings itself. It is not called for the values berth
// started with.
func (s *Settings) OnChange(fn func(now *Config), names ...string) {
	mustBeOptions(names)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, configHook{names, fn})
}

// Set changes options, all of them or none: name, value, name, value. Its errors are those of
// CONFIG SET (Redis 7.0), ready for codec.AppendError.
func (s *Settings) Set(pairs ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, err := readChanges(pairs)
	if err != nil {
		return err
	}
	old := s.now.Load()
	next := *old
	for _, ch := range changes {
		if err := ch.option.setText(&next, ch.text); err != nil {
			return setFailed(ch.name, err)
		}
	}
	changed := changedOptions(old, &next)
	s.now.Store(&next)
	for _, h := range s.hooks {
		if touches(h.names, changed) {
			h.fn(&next)
		}
	}
	return nil
}

// changedOptions names the options whose values differ.
func changedOptions(old, next *Config) []string {
	var names []string
	for _, o := range options {
		if o.value.text(old) != o.value.text(next) {
			names = append(names, o.name)
		}
	}
	return names
}

// touches reports whether one of the changed options is among names; no names stand for all.
func touches(names, changed []string) bool {
	if len(names) == 0 {
		return len(changed) > 0
	}
	for _, n := range names {
		for _, c := range changed {
			if n == c {
				return true
			}
		}
	}
	return false
}

func mustBeOptions(names []string) {
	for _, n := range names {
		if findOption(n) == nil {
			panic("no such option in the table: " + n)
		}
	}
}
