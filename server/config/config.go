package config

import (
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/certs"
)

// Config is the value of every option, as one immutable snapshot: a change makes a new one. No code
// writes to its slices. Units are in the types; sizes are in bytes.
type Config struct {
	Bind           []string // addresses of the TCP listeners; see bindHost for "-" and "*"
	ProtectedMode  bool
	Port           int    // 0: no TCP listener
	UnixSocket     string // empty: no unix listener
	UnixSocketPerm os.FileMode
	TCPBacklog     int
	ReusePort      bool
	TCPKeepalive   time.Duration // 0: no keepalive probes
	AnnounceIP     string        // empty: where the client came to
	AnnouncePort   int           // 0: likewise
	ProxyNetworks  []netip.Prefix
	Listen         []Door // further doors; see Doors for all
	Loops          int    // 0: see loopCount

	TLSPort                int // 0: no TLS listener
	TLSCertFiles           []string
	TLSKeyFiles            []string
	TLSKeyPass             Secret
	TLSCAFile              string
	TLSCADir               string
	TLSAuthClients         certs.ClientCert
	TLSAuthClientsUser     bool // certificates name users
	TLSAuthClientsUserFile string
	TLSProtocols           []string // none: see certs.ParseVersions
	TLSCiphers             string   // of TLS 1.2; none: those of crypto/tls
	TLSCiphersuites        string   // of TLS 1.3: see certs.CheckCiphersuites
	TLSSessionCaching      bool
	TLSTicketKeyFile       string
	TLSHandshakeTimeout    time.Duration

	MaxClients             int
	Timeout                time.Duration // 0: idle clients stay
	AuthTimeout            time.Duration // 0: clients need not authenticate soon
	MaxMemoryClients       MemoryShare
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
	LeaseCommands          []string // names, with "-" before those that travel on no lease; see LeasedCommands
	ShutdownTimeout        time.Duration
	ShutdownDelay          time.Duration
	ShutdownUnblocks       bool // blocked clients get an error, not what their timeout gives
	TakeOverDrain          time.Duration
	TakeOverSocket         string

	Backend             BackendURL
	BackendUser         string // as configured; see Target
	BackendPassword     Secret // as configured; see Target
	BackendPasswordFile string
	FilePassword        Secret // content of BackendPasswordFile when it was read last; see Target

	BackendTLSCAFile     string // empty: the authorities of the machine
	BackendTLSCertFile   string
	BackendTLSKeyFile    string
	BackendTLSKeyPass    Secret
	BackendTLSServerName string // empty: each node's host
	BackendTLSSkipVerify bool

	BackendConnectTimeout   time.Duration
	BackendTimeout          time.Duration // 0: wait for ever
	MaxRedirects            int
	TopologyRefreshInterval time.Duration // 0: only after a redirect

	ReadFrom           router.ReadFrom
	ReadOwnWrites      bool
	ReplicaMaxLag      time.Duration // 0: any
	ReplicaMaxLagBytes int           // 0: any
	Zone               string

	// Replies to hot reads.
	Cache          bool
	CacheHotRate   int
	CacheKeys      []string
	CacheNotKeys   []string
	CacheMaxMemory int
	CacheMaxValue  int
	CacheTTLMax    time.Duration

	PoolEnabled     bool
	PoolIdleTime    time.Duration // 0: close a connection when it is given back
	PoolMaxIdle     int
	PoolMinIdle     int
	PoolMaxTotal    int // 0: derived from the node's own limit
	PoolWaitTimeout time.Duration
	PoolBlocking    int           // percent of the connections
	WatchMaxIdle    time.Duration // 0: only when others wait
	PoolHealthCheck time.Duration // 0: never
	PoolDialRate    int           // connections made ahead, per second; 0: none
	PoolDialing     int           // connections being made at one time; 0: no limit

	SlowlogSlowerThan int // microseconds; -1: none
	SlowlogMaxLen     int

	AdminBind  []string
	AdminPort  int // 0: no admin listener
	AdminPprof bool

	KeySampling int // one request in so many; 0: none

	LogLevel  slog.Level
	LogFile   string // empty: standard error
	LogFormat LogFormat
}

// Target returns where the nodes are, and the user and password that berth itself uses there (for
// topology, health, and clients that never authenticate). It combines backend, backend-user and the
// option that gave the password.
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

// TLSFiles returns what clients that speak TLS are served with.
func (c *Config) TLSFiles() *certs.Files {
	versions, _ := certs.ParseVersions(c.TLSProtocols) // they were checked when they were set
	ciphers, _ := certs.ParseCiphers(c.TLSCiphers)
	return &certs.Files{
		Certs: c.TLSCertFiles, Keys: c.TLSKeyFiles, Password: c.TLSKeyPass.Reveal(), CAFile: c.TLSCAFile, CADir: c.TLSCADir,
		Clients: c.TLSAuthClients, Versions: versions, Ciphers: ciphers, Tickets: c.TLSSessionCaching, TicketKeys: c.TLSTicketKeyFile,
	}
}

// BackendTLSFiles returns what TLS to nodes is spoken with.
func (c *Config) BackendTLSFiles() *certs.NodeFiles {
	return &certs.NodeFiles{
		CAFile: c.BackendTLSCAFile, Cert: c.BackendTLSCertFile, Key: c.BackendTLSKeyFile, Password: c.BackendTLSKeyPass.Reveal(),
		ServerName: c.BackendTLSServerName, SkipVerify: c.BackendTLSSkipVerify,
	}
}

// MemoryShare is a size, or a part of the memory that the process may have.
type MemoryShare struct {
	Bytes   int
	Percent int // 0: Bytes says
}

// Of returns the size where the process may have so much memory.
func (m MemoryShare) Of(all int) int {
	if m.Percent > 0 {
		return all / 100 * m.Percent
	}
	return m.Bytes
}

// OutputLimits are the limits on a client's unread replies, by class of client.
type OutputLimits struct {
	Normal OutputLimit
	PubSub OutputLimit // clients with a subscription
}

// OutputLimit is one class of client-output-buffer-limit. A client with more than Hard bytes is
// closed at once, a client with more than Soft bytes after SoftFor. 0 switches a limit off.
type OutputLimit struct {
	Hard, Soft int
	SoftFor    time.Duration
}

// Settings holds the current Config, changes it while berth runs, and calls the hooks of OnChange.
type Settings struct {
	// now is stored by Set under mu. Any goroutine loads it at any time: a reader that loses the
	// race uses the older snapshot for one more turn.
	now atomic.Pointer[Config]

	mu    sync.Mutex // guards hooks and tries, and admits one change at a time; never taken on a loop: host names of bind are looked up under it
	hooks []configHook
	tries []configTry

	fileMu   sync.Mutex // admits one rewrite of the file at a time; held over disk writes, so never taken on a loop
	path     string     // absolute path of the configuration file; empty: there is none
	warnings []string   // from loading, for the log once it is open

	asksHealth bool
	takesOver  bool

	again func() *loader // reads all that berth was started with anew
}

type configHook struct {
	names []string
	fn    func(now *Config)
}

// Load returns the current snapshot. It costs one atomic load: call it once per turn, not once per
// field.
func (s *Settings) Load() *Config { return s.now.Load() }

// File returns the absolute path of the configuration file, empty when there is none.
func (s *Settings) File() string { return s.path }

// Warnings returns what the log should say, once, about how berth was started.
func (s *Settings) Warnings() []string { return s.warnings }

// AsksHealth reports whether this process is only to ask a running berth whether it is ready
// (--healthcheck).
func (s *Settings) AsksHealth() bool { return s.asksHealth }

// TakesOver reports whether this process takes the place of a running berth (--take-over).
func (s *Settings) TakesOver() bool { return s.takesOver }

// OnChange registers fn, which Set calls with the new snapshot after a change of any of the named
// options (of any option when none is named). fn runs on the goroutine that made the change, so it
// must not block and must not call Set. It is not called for the values with which berth starts.
func (s *Settings) OnChange(fn func(now *Config), names ...string) {
	mustBeOptions(names)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, configHook{names, fn})
}

type configTry struct {
	names []string
	fn    func(next *Config, name string) error
}

// OnTry registers fn, which Set calls before a change of any of the named options is in force, with
// the snapshot that is to come and the first of these names that was given. An error refuses the
// change: those that were called before are called again, with the snapshot that stays. Otherwise as
// OnChange, which is called afterwards.
func (s *Settings) OnTry(fn func(next *Config, name string) error, names ...string) {
	mustBeOptions(names)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries = append(s.tries, configTry{names, fn})
}

// Set changes options, all of them or none. pairs are name, value, name, value. Its errors are
// those of CONFIG SET (Redis 7.0), as codec.AppendError takes them.
func (s *Settings) Set(pairs ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.now.Load()
	changes, err := readChanges(old, pairs)
	if err != nil {
		return err
	}
	next := *old
	for _, ch := range changes {
		if err := ch.option.setText(&next, ch.text); err != nil {
			return setFailed(ch.name, err)
		}
	}
	if at := slices.IndexFunc(changes, func(ch change) bool { return ch.option.name == "backend" || ch.option.name == passwordFile }); at >= 0 {
		if err := next.readPassword(); err != nil {
			return setFailed(changes[at].name, err)
		}
	}
	return s.change(&next, changes)
}

// change has a snapshot in force that differs by these changes from the present one, or leaves all as it
// is. The caller holds mu.
func (s *Settings) change(next *Config, changes []change) error {
	old := s.now.Load()
	changed := changedOptions(old, next)
	undo := func() {}
	for _, t := range s.tries {
		if !touches(t.names, changed) {
			continue
		}
		at := slices.IndexFunc(changes, func(ch change) bool { return slices.Contains(t.names, ch.option.name) })
		if at < 0 {
			continue // a value is another one by another option: see Target
		}
		name, before := changes[at].option.name, undo
		if err := t.fn(next, name); err != nil {
			undo()
			return setFailed(changes[at].name, err)
		}
		undo = func() {
			_ = t.fn(old, name) // it says in the log if it cannot
			before()
		}
	}
	s.now.Store(next)
	for _, h := range s.hooks {
		if touches(h.names, changed) {
			h.fn(next)
		}
	}
	return nil
}

// changedOptions returns the names of the options whose values differ.
func changedOptions(old, next *Config) []string {
	var names []string
	for _, o := range options {
		if o.value.text(old) != o.value.text(next) || o.name == passwordFile && old.FilePassword != next.FilePassword {
			names = append(names, o.name)
		}
	}
	return names
}

// touches reports whether one of the changed options is among names. No names stand for all.
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
