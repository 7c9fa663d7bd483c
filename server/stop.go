package main

import (
	"context"
	"errors"
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
			slog.Info("taken over", "by", pid, "clients", srv.clients.Load(), "drain", srv.config().TakeOverDrain)
			if srv.drain(stop) { // the signal may be for all processes of the service
				return srv.stop(stop, 1, 0)
			}
			return srv.stop(stop, 2, 0)
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

// drain serves the clients that are there until they have left, or are idle, which is when they are let go;
// for at most take-over-drain. It reports whether a signal has ended it.
func (srv *server) drain(signals <-chan os.Signal) bool {
	for _, l := range srv.eachLoop() {
		l.Post(l.beginDrain)
	}
	over := time.After(srv.config().TakeOverDrain)
	look := time.NewTicker(tickEvery)
	defer look.Stop()
	for srv.clients.Load() > 0 {
		select {
		case <-signals:
			return true
		case <-over:
			return false
		case <-look.C:
		}
	}
	return false
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
	err := srv.shutdown(ctx)
	if err == nil {
		slog.Info("stopped")
		return 0
	}
	slog.Warn("stopped", "why", err)
	if cut, is := errors.AsType[*cutOff](err); is && cut.owed == 0 {
		return 0
	}
	return 1
}
