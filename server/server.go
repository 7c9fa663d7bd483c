package main

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/backend/replicas"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/admin"
	"github.com/berth-proxy/berth/server/certs"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/glob"
	"github.com/berth-proxy/berth/server/telemetry"
)

// server is one running berth: its listeners, its loops, and the nodes it speaks to.
type server struct {
	settings     *config.Settings
	nodes        *nodes.Nodes
	pools        *pool.Pools
	poolSettings *pool.Settings
	pipeSettings backend.LinkSettings
	commands     commandBook
	own          ownIndex
	rights       rightsBook
	scripts      *scriptBook
	parseLimits  atomic.Pointer[parseLimits]

	client   *gnet.Client
	doorsMu  sync.Mutex             // admits one change of doors at a time, and none after shutdown; held while host names are looked up
	doors    atomic.Pointer[[]door] // where clients come in; changed under doorsMu
	reads    *readSwitch            // nil: gnet cannot be kept from reading
	seeds    []gnet.Conn            // by which all loops were found; closed, but the poller may hold raw pointers
	admin    *admin.Endpoint
	handOver *handOver // nil: berth has not begun to serve
	started  time.Time
	maxFiles int // descriptors this process may have

	clients   atomic.Int64 // accepted and not closed
	clientCap atomic.Int64 // how many there may be; set by each tick
	lastID    atomic.Int64
	letIn     atomic.Bool  // clients came, and were let in because no password was wanted
	moves     atomic.Int64 // how often another backend has taken the place of the one before
	accepted  atomic.Int64
	refused   atomic.Int64
	unheard   atomic.Int64 // accepts that failed: clients wait in the kernel
	retiring  atomic.Bool  // a signal has come to stop, and there is no successor: clients shall go elsewhere
	stopping  atomic.Bool  // it takes no more clients

	certs      *certs.Keeper // of TLS to clients
	nodeCerts  *certs.Keeper // of TLS to nodes
	certsWatch chan struct{} // closed when berth stops
	greetings  greetings

	audience *feed.Audience // who listens to what

	replicas      *replicas.Watch
	nearForgets   atomic.Int64 // how often near caches had to forget everything
	readsReplicas atomic.Bool  // clients may read there by what is configured
	slow          slowNodes
	late          lateNodes
	slowlog       slowLog
	slowFrom      atomic.Int64 // nanoseconds, of requests that slowlog keeps
	lanes         lane.Shared
	heavy         heavyReads
	memory        memory
	scans         scanMemory
	monitors      monitors
	gate          pauseGate
	catalog       atomic.Pointer[router.Catalog] // what COMMAND answers

	wrap func(gnet.EventHandler) gnet.EventHandler // tests stand between gnet and us

	mu      sync.Mutex // guards loops
	loops   map[gnet.EventLoop]*loop
	accepts sync.WaitGroup
}

// parseLimits are codec.Limits by whether the client has authenticated.
type parseLimits struct{ open, closed codec.Limits }

// config is the current configuration: one atomic load.
func (srv *server) config() *config.Config { return srv.settings.Load() }

// table is the commands that are known, those that only the node knows included.
func (srv *server) table() *router.Table { return srv.commands.current.Load() }

// limits are what a client's requests may be.
func (srv *server) limits(authenticated bool) *codec.Limits {
	l := srv.parseLimits.Load()
	if authenticated {
		return &l.open
	}
	return &l.closed
}

// outputLimit is the class a client belongs to.
func (srv *server) outputLimit(s *session) *config.OutputLimit {
	limits := &srv.config().OutputLimits
	if s.sub != nil {
		return &limits.PubSub
	}
	return &limits.Normal
}

// newcomer is as whom a client begins, and begins again after RESET: the default user, in the
// database of the backend's URL.
func (srv *server) newcomer() backend.Identity {
	return backend.Identity{Credential: srv.pipeSettings.Logins.Default(), DB: srv.nodes.Target().DB, RESP: 2}
}

// redisVersion is what berth says when asked for the version of Redis: its nodes'.
func (srv *server) redisVersion() string {
	if v := srv.nodes.Info().Version; v != "" {
		return v
	}
	return "7.0.15"
}

// learnLoad takes what a primary says of its clients and users. Safe for any goroutine.
func (srv *server) learnLoad(addr string, load nodes.Load) {
	srv.pools.Learn(addr, load.MaxClients, load.Connected)
	srv.pipeSettings.Logins.Seen(addr, load.Users)
}

// newServer prepares a server over nodes that are connected.
func newServer(settings *config.Settings, nodes *nodes.Nodes, nodeCerts *certs.Keeper) *server {
	cfg := settings.Load()
	srv := &server{
		settings: settings, nodes: nodes, started: time.Now(), loops: map[gnet.EventLoop]*loop{},
		poolSettings: pool.NewSettings(poolValues(cfg)), scripts: newScriptBook(maxScripts), certs: certs.NewKeeper(), greetings: newGreetings(), nodeCerts: nodeCerts,
		audience: feed.NewAudience(glob.MatchChannel),
	}
	srv.doors.Store(new([]door))
	srv.heavy.seed = maphash.MakeSeed()
	srv.poolSettings.Dialer, srv.pipeSettings.Dialer = nodes.Dialer(), nodes.Dialer()
	srv.pools = pool.NewPools(srv.poolSettings, &srv.pipeSettings.Logins)
	logins := &srv.pipeSettings.Logins
	logins.OnDemand, logins.Naming = nodes.Demands, nodes.Naming()
	if t := nodes.Target(); t.Password != "" {
		logins.Own(backend.UserNamed(t.User), t.Password) // for questions about rights: see asker
	}
	logins.OnFree = func(user string, credential uint32) {
		if user == "" { // its pools are made ahead: see openPools
			return
		}
		srv.pools.Forget(user, credential)
		if credential == 0 {
			srv.rights.forget(user)
		}
	}
	table := router.WithOwn()
	srv.own = newOwnIndex(table)
	srv.commands.begin(table, cfg.LeasedCommands())
	srv.learnCommands()
	srv.configure(cfg)
	srv.lanes.Nodes, srv.lanes.Pools, srv.lanes.Settings = nodes, srv.pools, srv.laneSettings
	srv.lanes.AsUser, srv.lanes.NoLease, srv.lanes.NotServed = srv.asUser, srv.noLease, errNotServed
	srv.lanes.TimedOut = func(w *lane.Waiter, addr string) { srv.logLeaseTimeout(addr, w) }
	srv.lanes.TakesOver = func() bool { return nodes.Topology().Sharded() || nodes.Target().Master != "" }
	srv.lanes.Lost = func(err *backend.LostError) []byte { return appendLost(nil, err) }
	settings.OnChange(srv.configure)
	settings.OnChange(func(now *config.Config) { srv.commands.name(now.LeasedCommands()) }, "lease-commands")
	nodes.OnChange(func(_, _ *router.Topology) { srv.topologyChanged() })
	nodes.OnLoad(srv.learnLoad)
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		srv.maxFiles = int(min(limit.Cur, 1<<30))
	}
	srv.replicas = replicas.New(nodes, func() replicas.Limits {
		c := srv.config()
		return replicas.Limits{Lag: c.ReplicaMaxLag, Bytes: int64(c.ReplicaMaxLagBytes)}
	})
	srv.capClients()
	settings.OnChange(func(*config.Config) { srv.capClients(); srv.sayCap() }, "maxclients")
	srv.nameLibrary()
	machineMemory() // reads files, so not on a loop first
	return srv
}

// nameLibrary has connections say what library they are of, if the nodes know such words.
func (srv *server) nameLibrary() { srv.nodes.Naming().KnowsInfo(!srv.isBefore(7, 2)) }

func (srv *server) laneSettings() lane.Settings {
	c := srv.config()
	return lane.Settings{
		MaxLanes: c.BlockingLanesMax, Share: c.BlockingShare, DropOrphans: c.OrphanDrop, MaxRedirects: c.MaxRedirects,
		UnblockPanics: !srv.isBefore(6, 2) && srv.isBefore(7, 2),
	}
}

// configure hands the settings to all that keep a copy.
func (srv *server) configure(cfg *config.Config) {
	limits := codec.Limits{MaxBulk: cfg.ProtoMaxBulkLen}
	closed := limits
	closed.Unauthenticated = true
	srv.parseLimits.Store(&parseLimits{open: limits, closed: closed})
	srv.pipeSettings.SetDialTimeout(cfg.BackendConnectTimeout)
	srv.pipeSettings.SetTimeout(cfg.BackendTimeout)
	srv.nodes.SetDialTimeout(cfg.BackendConnectTimeout)
	srv.nodes.SetTopologyInterval(refreshInterval(cfg))
	srv.poolSettings.Change(func(v *pool.Values) { *v = poolValues(cfg) })
	srv.noteReads(cfg)
	srv.slowFrom.Store(slowFrom(cfg))
	srv.slowlog.resize(cfg.SlowlogMaxLen)
	srv.openPools()
}

// openPools makes the pools of those who do not authenticate, at every primary, if connections are
// to be made ahead: they are to be there before the first client asks. Where clients have to
// authenticate, no user is known before the first one comes.
func (srv *server) openPools() {
	if srv.config().PoolMinIdle == 0 || srv.nodes.AuthRequired() {
		return
	}
	for _, s := range srv.nodes.Topology().Shards() {
		srv.pools.For(s.Primary, srv.newcomer())
	}
}

// poolValues are the pools' part of the configuration.
func poolValues(cfg *config.Config) pool.Values {
	v := pool.DefaultValues()
	v.Enabled = cfg.PoolEnabled
	v.IdleTime = cfg.PoolIdleTime
	v.MaxIdle, v.MinIdle = cfg.PoolMaxIdle, cfg.PoolMinIdle
	v.MaxTotal, v.BlockingShare = cfg.PoolMaxTotal, cfg.PoolBlocking
	v.HealthCheck = cfg.PoolHealthCheck
	v.DialRate, v.DialConcurrency = cfg.PoolDialRate, cfg.PoolDialing
	v.WaitTimeout = cfg.PoolWaitTimeout
	v.DialTimeout = cfg.BackendConnectTimeout
	return v
}

// refreshInterval is topology-refresh-interval, whose 0 means: not without cause.
func refreshInterval(cfg *config.Config) time.Duration {
	if cfg.TopologyRefreshInterval == 0 {
		return 10 * 365 * 24 * time.Hour
	}
	return cfg.TopologyRefreshInterval
}

// topologyChanged lets go of the nodes that have left, and learns what new ones know.
func (srv *server) topologyChanged() {
	t := srv.nodes.Topology()
	srv.pools.Retain(t.Serves)
	srv.openPools()
	for _, l := range srv.eachLoop() {
		l.Post(func() {
			l.pipes.TopologyChanged(t)
			l.feeds.TopologyChanged()
			l.lanes.TopologyChanged()
		})
	}
	srv.learnCommands()
}

// learnCommands adds the commands that the nodes know and the built-in table does not.
func (srv *server) learnCommands() {
	reply := srv.nodes.Info().Commands
	if reply == nil {
		return
	}
	if err := srv.commands.learn(reply); err != nil {
		slog.Warn("the nodes' COMMAND reply is not understood", "why", err)
	}
}

// start opens the listeners and the loops.
func (srv *server) start() error {
	cfg := srv.config()
	var h gnet.EventHandler = &handler{srv: srv}
	if srv.wrap != nil {
		h = srv.wrap(h)
	}
	client, err := gnet.NewClient(h,
		gnet.WithNumEventLoop(loopCount(cfg)),
		gnet.WithReadBufferCap(64<<10), gnet.WithTicker(true),
		gnet.WithTCPNoDelay(gnet.TCPDelay), // net has set it already
		gnet.WithLogger(gnetLog{}), gnet.WithLogLevel(logging.WarnLevel))
	if err != nil {
		return err
	}
	if err := client.Start(); err != nil {
		return err
	}
	srv.client = client
	if err := srv.meetLoops(); err != nil {
		return err
	}
	if _, err := srv.useCertificates(cfg); err != nil {
		return err
	}
	if err := srv.listen(cfg); err != nil {
		return err
	}
	if err := srv.meetsItself(); err != nil {
		return err
	}
	srv.capClients()
	srv.sayCap()
	srv.settings.OnChange(func(now *config.Config) { srv.keepAlive(now.TCPKeepalive) }, "tcp-keepalive")
	defer srv.settings.OnTry(srv.tryBackend, backendOptions...) // last: it cannot be undone
	srv.settings.OnTry(srv.tryDoors, append(config.TLSOptions(), "bind", "port", "listen")...)
	srv.certsWatch = make(chan struct{})
	go srv.watchCertificates(srv.certsWatch)
	return nil
}

// shutdown lets the requests in flight end, closes the clients and returns when all is gone, or
// when ctx ends.
func (srv *server) shutdown(ctx context.Context) error {
	srv.stopping.Store(true)
	srv.closeSockets()
	within := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok {
		within = time.Until(deadline) / 2 // who is about to ask something goes later
	}
	greeted, done := context.WithTimeout(ctx, within)
	context.AfterFunc(greeted, srv.greetings.end)
	if srv.certsWatch != nil {
		close(srv.certsWatch)
	}
	for _, l := range srv.eachLoop() {
		l.Post(func() { l.beginStop(within) })
	}
	srv.accepts.Wait()
	done()
	err := srv.awaitClients(ctx)
	for _, l := range srv.eachLoop() {
		done := make(chan struct{})
		l.Post(func() {
			l.pipes.Close()
			l.feeds.Close()
			l.lanes.Close()
			close(done)
		})
		select {
		case <-done:
		case <-time.After(time.Second): // a loop that hangs must not keep the process
		}
	}
	srv.pools.Close()
	srv.pipeSettings.EndDials()
	if srv.client != nil {
		_ = srv.client.Stop()
	}
	srv.replicas.Close()
	srv.nodes.Close()
	if srv.admin != nil {
		_ = srv.admin.Close()
	}
	return err
}

// cutOff is how many clients had to be cut off, and how many of them were owed a reply.
type cutOff struct{ clients, owed int }

func (c *cutOff) Error() string {
	return fmt.Sprintf("clients were cut off: %d, of which owed a reply: %d", c.clients, c.owed)
}

func (srv *server) awaitClients(ctx context.Context) error {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for srv.clients.Load() > 0 || srv.lanes.Unsettled() > 0 {
		select {
		case <-ctx.Done():
			var all cutOff
			answers, _ := askLoops(srv, (*loop).killAll)
			for _, of := range answers {
				all.clients += of.clients
				all.owed += of.owed
			}
			return &all
		case <-poll.C:
		}
	}
	return nil
}

func (l *loop) killAll() (of cutOff) {
	for s := l.first; s != nil; {
		next := s.next
		of.clients++
		if s.waiting > 0 {
			of.owed++
		}
		s.kill(telemetry.Shutdown)
		s = next
	}
	return of
}

// expel begins the expulsion of the clients that send on the pipes of a set.
func (l *loop) expel(set *pipe.Set, why *backend.LostError) {
	l.Post(func() {
		l.walk(func(s *session) {
			if s.pipes == set && !s.stranger() {
				s.expel(why.Refusal)
			}
		}, func() {})
	})
}
