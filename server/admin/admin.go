package admin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/berth-proxy/berth/server/build"
	"github.com/berth-proxy/berth/server/config"
)

// Source is what the endpoint asks the server. The functions run on goroutines of HTTP requests.
type Source struct {
	Metrics func(io.Writer)
	Healthy func() error  // returns why the process does not work; nil: its loops answer
	Ready   func() error  // returns why clients are not served; nil: they are
	Remark  func() string // returns what /readyz says besides; "": nothing; may be nil
	Status  func() []byte // returns what the status page shows, as JSON
	Pprof   bool          // whether to serve /debug/pprof
}

// Endpoint serves /metrics, /healthz, /readyz and the page /status over HTTP. It serves
// /debug/pprof only when asked to, and only on listeners that only this machine can reach: a
// profile reveals much and costs time.
type Endpoint struct {
	source  Source
	servers []*http.Server
	crowd   crowd
	// listeners are closed by Close as well: a server that is closed before its Serve has begun
	// does not know its listener yet.
	listeners []net.Listener
	serving   sync.WaitGroup // of each listener
	leaving   sync.WaitGroup // until what has come is answered
}

// Listen opens the listeners (bind and port as in admin-bind and admin-port; port 0 in addr
// asks the kernel for one) and serves until Close. Those of given are taken if they have the address,
// else closed.
func Listen(bind []string, port int, given []net.Listener, source Source) (*Endpoint, error) {
	a := &Endpoint{source: source}
	defer func() {
		for _, ln := range given {
			if ln != nil {
				_ = ln.Close()
			}
		}
	}()
	for _, word := range bind {
		network, addr, optional := config.BindAddress(word, port)
		ln := take(given, network, addr)
		if ln == nil {
			var err error
			if ln, err = net.Listen(network, addr); err != nil {
				if optional {
					continue
				}
				a.Close()
				return nil, fmt.Errorf("listen for admin: %w", err)
			}
		}
		a.serve(ln)
	}
	return a, nil
}

// take takes the listener of an address out of given; nil: there is none.
func take(given []net.Listener, network, addr string) net.Listener {
	want, err := net.ResolveTCPAddr(network, addr)
	if err != nil {
		return nil // listening says why
	}
	for i, ln := range given {
		if ln != nil && ln.Addr().String() == want.String() {
			given[i] = nil
			return ln
		}
	}
	return nil
}

// Listeners are those of the endpoint.
func (a *Endpoint) Listeners() []net.Listener { return a.listeners }

// leaveTime bounds how long the requests that have come may take.
const leaveTime = 2 * time.Second

// Leave leaves the listeners to another process. Who has connected is answered, for which Close waits:
// http's own Shutdown drops a request that comes after it.
func (a *Endpoint) Leave() {
	_ = a.closeListeners()
	for _, s := range a.servers {
		s.SetKeepAlivesEnabled(false)
	}
	a.leaving.Go(func() {
		a.serving.Wait()
		a.crowd.awaitEnd(leaveTime)
	})
}

// URL returns where the metrics are, for the ready line. It is empty without a listener.
func (a *Endpoint) URL() string {
	if len(a.listeners) == 0 {
		return ""
	}
	return "http://" + a.listeners[0].Addr().String() + "/metrics"
}

// Close closes the listeners and the connections.
func (a *Endpoint) Close() error {
	a.leaving.Wait()
	var errs []error
	for _, s := range a.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, a.closeListeners())...)
}

func (a *Endpoint) closeListeners() error {
	var errs []error
	for _, ln := range a.listeners {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (a *Endpoint) serve(ln net.Listener) {
	host, _, _ := net.SplitHostPort(ln.Addr().String())
	server := &http.Server{
		Handler:           a.handler(config.IsLoopback(host)),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      30 * time.Second, // a profile adds the seconds that it takes
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnState:         a.crowd.changed,
	}
	a.servers = append(a.servers, server)
	a.listeners = append(a.listeners, ln)
	a.serving.Go(func() { server.Serve(ln) }) // ends with Close or Leave
}

// handler returns the handler of all paths of one listener.
func (a *Endpoint) handler(loopback bool) http.Handler {
	mux := http.NewServeMux()
	metrics := http.HandlerFunc(a.metrics)
	if loopback {
		metrics = local(metrics) // it names nodes and users
	}
	mux.HandleFunc("GET /metrics", metrics)
	mux.HandleFunc("GET /healthz", state(a.source.Healthy, nil))
	mux.HandleFunc("GET /readyz", state(a.source.Ready, a.source.Remark))
	mux.HandleFunc("GET /{$}", index(loopback && a.source.Pprof))
	mux.HandleFunc("GET /status", serveStatusPage)
	report := serveStatus(a.source.Status)
	if loopback {
		report = local(report) // it names clients
	}
	mux.HandleFunc("GET /status.json", report)
	if loopback && a.source.Pprof {
		mux.HandleFunc("GET /debug/pprof/", local(pprof.Index))
		mux.HandleFunc("GET /debug/pprof/cmdline", local(hidden))
		mux.HandleFunc("GET /debug/pprof/profile", local(pprof.Profile))
		mux.HandleFunc("GET /debug/pprof/symbol", local(pprof.Symbol))
		mux.HandleFunc("POST /debug/pprof/symbol", local(pprof.Symbol))
		mux.HandleFunc("GET /debug/pprof/trace", local(pprof.Trace))
	}
	return mux
}

func (a *Endpoint) metrics(w http.ResponseWriter, r *http.Request) {
	// The scrape is gathered first, so that a slow reader of it does not delay the next scrape.
	var text bytes.Buffer
	a.source.Metrics(&text)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(text.Bytes())
}

// state returns a handler that answers 200 "ok", or 503 and the error, and a remark if there is one.
func state(ask func() error, remark func() string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		text := "ok"
		if err := ask(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			text = err.Error()
		}
		if remark != nil && remark() != "" {
			text += "; " + remark()
		}
		fmt.Fprintln(w, text)
	}
}

func index(pprof bool) http.HandlerFunc {
	text := "berth " + build.Version + "\n\n/status\n/metrics\n/healthz\n/readyz\n"
	if pprof {
		text += "/debug/pprof/\n"
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, text)
	}
}

// local refuses requests for a host name other than this machine's. A foreign web page can let its
// own host name point to 127.0.0.1, and so reach a loopback listener through the user's browser.
func local(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !config.IsLoopback(host) {
			http.Error(w, "only for this machine", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// hidden replaces pprof's command line, which may contain the backend's password.
func hidden(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, "berth")
}
