package main

import (
	"container/list"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/bytedance/gopkg/util/gopool"

	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/server/certs"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/telemetry"
)

// maxHandshakes is how many clients may be in the midst of a TLS handshake. Each one takes some
// 20 KB. The client that came one too many takes the place of the one that takes longest: an honest
// one needs a moment, so that strangers who dawdle keep nobody out.
const maxHandshakes = 4096

// handshakes are the TLS handshakes that clients are in the midst of. Safe for any goroutine.
type handshakes struct {
	work  secure.Work
	ready sync.Once

	mu    sync.Mutex // guards what follows
	all   list.List  // of net.Conn, the one that began first at the front
	ended bool       // berth stops
	done  telemetry.Handshakes

	failures flood // of lines in the log
}

// begin makes the handshake with a client, in a goroutine, and then lets it in.
func (h *handshakes) begin(srv *server, conn net.Conn) {
	h.ready.Do(func() { h.work = secure.NewWork(loopsBeside()) })
	here := h.enter(conn)
	srv.accepts.Add(1)
	gopool.Go(func() {
		defer srv.accepts.Done()
		client := secure.Server(conn, srv.certs.Server(), h.work)
		err := client.Shake(srv.config().TLSHandshakeTimeout)
		h.leave(here, err, client.ConnectionState().DidResume)
		if err == nil {
			srv.enrol(client)
			return
		}
		srv.clients.Add(-1)
		_ = conn.Close()
		limited(&h.failures, slog.LevelInfo, "TLS handshake failed", "addr", conn.RemoteAddr().String(), "why", err)
	})
}

// loopsBeside is how many handshakes may compute at the same time: as many cores as may be busy
// while the event loops go on.
func loopsBeside() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// enter lists a client. One that has no time left is closed.
func (h *handshakes) enter(conn net.Conn) *list.Element {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		_ = conn.Close()
	}
	if h.all.Len() >= maxHandshakes {
		slowest := h.all.Front()
		_ = slowest.Value.(net.Conn).Close()
		h.all.MoveToBack(slowest) // not to be chosen again before it has gone
	}
	return h.all.PushBack(conn)
}

// leave counts a handshake that has ended.
func (h *handshakes) leave(here *list.Element, err error, resumed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all.Remove(here)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.done.TimedOut++
	case err != nil:
		h.done.Failed++
	case resumed:
		h.done.Resumed++
	default:
		h.done.Full++
	}
}

// look copies what is counted.
func (h *handshakes) look() telemetry.Handshakes {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := h.done
	done.Now = h.all.Len()
	return done
}

// end closes those that are in the midst of one, and all that come later.
func (h *handshakes) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for e := h.all.Front(); e != nil; e = e.Next() {
		_ = e.Value.(net.Conn).Close()
	}
}

// useCertificates reads what TLS needs, if clients may speak it.
func (srv *server) useCertificates(cfg *config.Config) error {
	if cfg.TLSPort == 0 {
		return nil
	}
	return srv.certs.Use(cfg.TLSFiles())
}

// errNoTLS is the word of Redis to CONFIG SET.
const errNoTLS = "Unable to update TLS configuration. Check server logs."

// tryTLS is useCertificates for a configuration that is to be.
func (srv *server) tryTLS(next *config.Config, _ string) error {
	err := srv.useCertificates(next)
	if err == nil {
		return nil
	}
	slog.Warn("TLS as before", "why", err)
	return errors.New(errNoTLS + " " + err.Error())
}

// renewCertificates reads certificates and keys again when a file has changed, or in any case.
func (srv *server) renewCertificates(must bool) {
	for _, k := range []*certs.Keeper{srv.certs, srv.nodeCerts} {
		switch renewed, err := k.Renew(must); {
		case err != nil:
			slog.Warn("certificates not renewed", "why", err)
		case renewed:
			slog.Info("certificates renewed")
		}
	}
}

// certificatesEvery is how often berth looks whether a file has changed.
const certificatesEvery = 2 * time.Second

// watchCertificates renews the certificates until stop is closed.
func (srv *server) watchCertificates(stop <-chan struct{}) {
	ticker := time.NewTicker(certificatesEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			srv.renewCertificates(false)
		}
	}
}
