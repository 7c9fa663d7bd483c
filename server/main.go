package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/embedded"
	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/server/admin"
	"github.com/berth-proxy/berth/server/build"
	"github.com/berth-proxy/berth/server/certs"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/eventlog"
)

func main() { os.Exit(run()) }

// run is main with an exit code.
func run() int {
	settings, exit := config.Read(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	if settings == nil {
		return exit
	}
	passed, err := takePassed()
	if err != nil {
		fmt.Fprintln(os.Stderr, "berth:", err)
		return 1
	}
	cfg := settings.Load()
	if settings.AsksHealth() {
		if err := admin.AskReady(cfg.AdminBind, cfg.AdminPort); err != nil {
			fmt.Fprintln(os.Stderr, "berth:", err)
			return 1
		}
		return 0
	}
	log, err := eventlog.Open(cfg.LogFile, cfg.LogFormat, cfg.LogLevel)
	if err != nil {
		fmt.Fprintln(os.Stderr, "berth:", err)
		return 1
	}
	slog.SetDefault(log.Logger)
	defer log.Settle()
	settings.OnChange(func(now *config.Config) { log.SetLevel(now.LogLevel) }, "loglevel")
	slog.Info("starting", "version", build.Version, "revision", build.Revision(), "pid", os.Getpid())
	for _, w := range settings.Warnings() {
		slog.Warn(w)
	}
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	replace := make(chan os.Signal, 1)
	signal.Notify(replace, syscall.SIGUSR2)
	var running atomic.Pointer[server] // nil: berth has not begun to serve
	reread, rotated := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(reread, syscall.SIGHUP)
	signal.Notify(rotated, syscall.SIGUSR1)
	go func() {
		for {
			var srv *server // nil: the log alone is opened again
			select {
			case <-reread:
				srv = running.Load()
			case <-rotated:
			}
			if srv != nil {
				notifyReloading()
			}
			if err := log.Reopen(); err != nil {
				slog.Error("log file not opened again", "why", err)
			}
			if srv != nil {
				srv.reload()
				srv.renewCertificates(true)
				notify("READY=1")
			}
		}
	}()
	var before predecessor // with nothing to hand over, if there is none
	if settings.TakesOver() {
		if err := before.meet(cfg.TakeOverSocket); err != nil {
			fmt.Fprintln(os.Stderr, "berth:", err)
			return 1
		}
	}
	nodes, nodeCerts, err := connect(cfg)
	if err == nil && settings.TakesOver() {
		err = nodes.Health().Err // the berth that is there may serve
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "berth:", err)
		return 1
	}
	limitMemory()
	srv := newServer(settings, nodes, nodeCerts)
	passed = append(passed, before.doors...)
	srv.doors.Store(&passed)
	if err := srv.start(); err != nil {
		fmt.Fprintln(os.Stderr, "berth:", err)
		return 1
	}
	if err := srv.startAdmin(before.admin...); err != nil {
		fmt.Fprintln(os.Stderr, "berth:", err)
		return 1
	}
	srv.accept(before.doors)
	before.relieve()
	if err := srv.awaitSuccessor(before.next); err != nil {
		fmt.Fprintln(os.Stderr, "berth:", err)
		return 1
	}
	running.Store(srv)
	fmt.Println(srv.readyLine())
	if cfg.LogFile != "" {
		slog.Info(srv.readyLine())
	}
	notify("READY=1", "STATUS="+srv.readyLine())
	return srv.run(stop, replace)
}

// reload reads the configuration file again, if there is one, and says what has come of it.
func (srv *server) reload() {
	file := srv.settings.File()
	if file == "" {
		return
	}
	r := srv.settings.Reload()
	for _, why := range r.Wrong {
		slog.Warn("configuration file", "why", why)
	}
	if len(r.Restart) > 0 {
		slog.Warn("needs a restart", "options", strings.Join(r.Restart, " "))
	}
	slog.Info("configuration read again", "file", file, "changed", strings.Join(r.Changed, " "), "mistakes", len(r.Wrong))
}

// embeddedShards is how many shards the embedded backend has: enough to see commands split.
const embeddedShards = 3

// resolver looks up the names of nodes. Tests have one of their own.
var resolver *net.Resolver

// connect finds which nodes berth has, or starts the embedded backend. It returns what TLS to them is
// spoken with, too.
func connect(cfg *config.Config) (*nodes.Nodes, *certs.Keeper, error) {
	nodeCerts := certs.NewKeeper()
	if cfg.Backend.Embedded() {
		n, err := embedded.Start(embeddedShards)
		return n, nodeCerts, err
	}
	host, _ := os.Hostname() // without a name berth has none either
	nodesSettings := &nodes.Settings{Resolver: resolver, Naming: backend.NewNaming(host, build.Version)}
	var err error
	if nodesSettings.Dialer, _, err = dialerOf(cfg, nodeCerts); err != nil {
		return nil, nil, err
	}
	nodesSettings.SetDialTimeout(cfg.BackendConnectTimeout)
	nodesSettings.SetTopologyInterval(refreshInterval(cfg))
	n, err := nodes.Connect(context.Background(), cfg.Target(), nodes.Options{Settings: nodesSettings, Wait: true})
	return n, nodeCerts, err
}

// dialerOf makes the connections to the nodes that a configuration names. undo has what TLS to nodes is
// spoken with be as before.
func dialerOf(cfg *config.Config, nodeCerts *certs.Keeper) (d *backend.Dialer, undo func(), err error) {
	d = &backend.Dialer{}
	if !cfg.Backend.TLS {
		return d, func() {}, nil
	}
	if undo, err = nodeCerts.Use(cfg.BackendTLSFiles()); err != nil {
		return nil, nil, err
	}
	d.SpeakTLS(nodeCerts.Now)
	return d, undo, nil
}

// readyLine is what berth prints when clients may come.
func (srv *server) readyLine() string {
	var where []string
	for _, d := range *srv.doors.Load() {
		where = append(where, d.Addr().String())
	}
	line := "berth ready on " + strings.Join(where, ", ") + " → " + srv.nodes.Describe()
	if url := srv.admin.URL(); url != "" {
		line += ", metrics on " + url
	}
	return line
}
