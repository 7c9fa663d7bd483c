package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/server/build"
)

// status is what the status page shows. Viewers share it: whoever asks first has the loops asked, the others get the
// same answer until it is statusAge old.
//
//	page ─every second─▶ /status.json ─▶ json ─▶ every loop: figures, longest pins
type status struct {
	srv *server

	mu   sync.Mutex // guards made and body; held while the loops are asked, so that one at a time asks them
	made time.Time
	body []byte
}

const (
	statusAge  = 300 * time.Millisecond // less than the page's second, so that each of its questions gets a new answer
	statusPins = 20                     // connections held longest that are shown
)

// statusReport is /status.json.
type statusReport struct {
	Time         int64            `json:"time_ms"` // unix
	Version      string           `json:"version"`
	Revision     string           `json:"revision"`
	Backend      string           `json:"backend"`
	Ready        bool             `json:"ready"`
	Why          string           `json:"why"`          // it is not
	LoopsSilent  int              `json:"loops_silent"` // did not answer: what they know is missing
	PoolMaxTotal int              `json:"pool_max_total"`
	Stats        statsRow         `json:"stats"`
	Rates        rateSeries       `json:"rates"`
	Errors       map[string]int64 `json:"errors"`    // error replies by first word
	Bounds       []int64          `json:"bounds_us"` // of the buckets of lease times; one more bucket has none
	Nodes        []statusNode     `json:"nodes"`
	Pools        []poolRow        `json:"pools"`
	Slots        []slotRow        `json:"slots"`
	Pins         []pinRow         `json:"pins"`
	PinsTotal    int              `json:"pins_total"`
}

// statusNode is a node and how long its leases were waited for and held.
type statusNode struct {
	backendRow
	Leases map[string]leaseTimes `json:"lease_times"` // by reason; only reasons that there were
}

// leaseTimes counts leases by bucket, since the start.
type leaseTimes struct {
	Wait leaseCounts `json:"wait"`
	Hold leaseCounts `json:"hold"`
}

type leaseCounts [len(pool.Buckets) + 1]uint64

// loopStatus is what a loop tells.
type loopStatus struct {
	*loopFigures
	holders map[poolName]int
	pins    []pinRow
	pinned  int
}

func (l *loop) status() loopStatus {
	a := loopStatus{loopFigures: l.figures(), holders: l.holders()}
	a.pins, a.pinned = l.pins(statusPins)
	return a
}

// report asks the loops and writes down what they say.
func (st *status) report() *statusReport {
	srv := st.srv
	answers, silent := askLoops(srv, (*loop).status)
	var figures []*loopFigures
	var pins [][]pinRow
	holders := map[poolName]int{}
	r := &statusReport{
		Time: time.Now().UnixMilli(), Version: build.Version, Revision: build.Revision(), Backend: srv.nodes.Describe(), Ready: true,
		LoopsSilent: silent, PoolMaxTotal: srv.config().PoolMaxTotal, Bounds: poolBounds,
	}
	for _, a := range answers {
		figures = append(figures, a.loopFigures)
		pins = append(pins, a.pins)
		r.PinsTotal += a.pinned
		for name, n := range a.holders {
			holders[name] += n
		}
	}
	if err := srv.ready(); err != nil {
		r.Ready, r.Why = false, err.Error()
	}
	pools := srv.figures()
	sum := sumFigures(figures)
	r.Rates, r.Errors = sum.series(srv.started), sum.stats.errors
	r.Stats = srv.statsRow(sum, pools, r.Rates)
	r.Pools = append([]poolRow{}, poolRows(pools, holders)...)
	r.Pins = append([]pinRow{}, longestFirst(pins, statusPins)...)
	t := srv.nodes.Topology()
	r.Slots = slotRows(t)
	times := leaseTimesByNode(pools)
	r.Nodes = []statusNode{}
	for _, row := range srv.backendRows(sum, pools) {
		r.Nodes = append(r.Nodes, statusNode{row, times[row.Node]})
	}
	return r
}

// poolBounds are the bounds of leaseCounts, in microseconds.
var poolBounds = func() (us []int64) {
	for _, b := range pool.Buckets {
		us = append(us, b.Microseconds())
	}
	return us
}()

// leaseTimesByNode adds up the pools of each node.
func leaseTimesByNode(pools []poolFigures) map[string]map[string]leaseTimes {
	all := map[string]map[string]leaseTimes{}
	for _, p := range pools {
		if all[p.node] == nil {
			all[p.node] = map[string]leaseTimes{}
		}
		for _, reason := range pool.Reasons() {
			times, seen := all[p.node][reason.String()], uint64(0)
			for i, n := range p.Wait[reason].Counts {
				times.Wait[i] += n
				seen += n
			}
			for i, n := range p.Hold[reason].Counts {
				times.Hold[i] += n
				seen += n
			}
			if seen > 0 {
				all[p.node][reason.String()] = times
			}
		}
	}
	return all
}

// json is the report, a moment old at most.
func (st *status) json() []byte {
	st.mu.Lock()
	defer st.mu.Unlock()
	if time.Since(st.made) > statusAge {
		body, err := json.Marshal(st.report())
		if err != nil {
			panic("the status report is not JSON: " + err.Error())
		}
		st.body, st.made = body, time.Now()
	}
	return st.body
}

// serveStatus is /status.json.
func serveStatus(report func() []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(report())
	}
}

//go:embed status.html
var statusPage string

// statusPolicy lets the page run its own script and style and ask this server, and nothing else: should a client's
// name ever get into it as HTML, it would do nothing.
var statusPolicy = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" +
	"; script-src " + inlineHash(statusPage, "script") + "; style-src " + inlineHash(statusPage, "style")

// inlineHash is the source expression of Content-Security-Policy for the page's one element of that name.
func inlineHash(page, element string) string {
	_, rest, _ := strings.Cut(page, "<"+element+">")
	text, _, found := strings.Cut(rest, "</"+element+">")
	if !found {
		panic("status.html has no " + element)
	}
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// serveStatusPage is /status.
func serveStatusPage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", statusPolicy)
	h.Set("Cache-Control", "no-cache")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(statusPage))
}
