package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// run serves until a signal or a successor has berth stop, and returns the exit code. stop has the
// signals that end it, replace those that have it start a successor.
func (srv *server) run(stop, replace <-chan os.Signal) int {
	for {
		select {
		case <-replace:
			srv.startSuccessor()
		case pid := <-srv.handOver.done:
			slog.Info("taken over", "by", pid, "clients", srv.clients.Load())
			return srv.stop(stop, 2, 0) // one may be for all processes of the service
		case sig := <-stop:
			srv.retiring.Store(true)
			cfg := srv.config()
			most := cfg.ShutdownDelay + cfg.ShutdownTimeout + stopSlack
			notify("STOPPING=1", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", most.Microseconds()))
			slog.Info("stopping", "signal", sig, "clients", srv.clients.Load(), "delay", cfg.ShutdownDelay)
			return srv.stop(stop, 1, cfg.ShutdownDelay)
		}
	}
}

// stopSlack is what berth takes to stop beside the times that options give it.
const stopSlack = 5 * time.Second

// stop serves for the delay, and then lets the clients go. So many signals more end it at once.
func (srv *server) stop(signals <-chan os.Signal, enough int, delay time.Duration) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for range enough {
			<-signals
		}
		cancel()
	}()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
	ctx, cancel = context.WithTimeout(ctx, srv.config().ShutdownTimeout)
	defer cancel()
	if err := srv.shutdown(ctx); err != nil {
		slog.Warn("stopped", "why", err)
		return 1
	}
	slog.Info("stopped")
	return 0
}
