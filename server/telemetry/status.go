package telemetry

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/server/build"
)

// SharedReport is the report that all viewers of the status page share. The first request has the
// loops asked. The next requests get the same answer until it is statusAge old.
//
//	page ─every second─▶ /status.json ─▶ json ─▶ look: every loop
type SharedReport struct {
	look func(pins int) *Snapshot

	mu   sync.Mutex // guards made and body; held while the loops are asked, so that one request at a time asks them
	made time.Time
	body []byte
}

const (
	statusAge  = 300 * time.Millisecond // less than the second between two requests of a page, so that each gets a new answer
	StatusPins = 20                     // connections held longest that are shown
)

// StatusReport is /status.json.
type StatusReport struct {
	Time         int64            `json:"time_ms"` // unix
	Version      string           `json:"version"`
	Revision     string           `json:"revision"`
	Backend      string           `json:"backend"`
	Ready        bool             `json:"ready"`
	Why          string           `json:"why"`          // berth is not ready
	LoopsSilent  int              `json:"loops_silent"` // have not answered in time: their figures are old or missing
	PoolMaxTotal int              `json:"pool_max_total"`
	Stats        StatsRow         `json:"stats"`
	Rates        rateSeries       `json:"rates"`
	Errors       map[string]int64 `json:"errors"`    // error replies by first word
	Bounds       []int64          `json:"bounds_us"` // of the buckets of lease times; the last bucket has no bound
	Doors        []Door           `json:"doors"`
	Nodes        []statusNode     `json:"nodes"`
	Pools        []PoolRow        `json:"pools"`
	Slots        []SlotRow        `json:"slots"`
	Pins         []PinRow         `json:"pins"`
	PinsTotal    int              `json:"pins_total"`
}

// statusNode is a node and the times for which its leases were waited for and held.
type statusNode struct {
	BackendRow
	Leases map[string]leaseTimes `json:"lease_times"` // by reason; a reason without a lease is missing
}

// leaseTimes counts the leases since the start, by bucket.
type leaseTimes struct {
	Wait leaseCounts `json:"wait"`
	Hold leaseCounts `json:"hold"`
}

type leaseCounts [len(pool.Buckets) + 1]uint64

// Status returns the report of /status.json.
func (s *Snapshot) Status() *StatusReport {
	r := &StatusReport{
		Time: s.At.UnixMilli(), Version: build.Version, Revision: build.Revision(), Backend: s.Berth.Backend, Ready: s.Berth.Ready == nil,
		LoopsSilent: s.Silent, PoolMaxTotal: s.Berth.PoolMaxTotal, Bounds: poolBounds,
		Stats: s.StatsRow(), Rates: s.rates(), Errors: s.Total().Counters.errors,
		Doors: append([]Door{}, s.Doors...), Nodes: []statusNode{}, Pools: append([]PoolRow{}, s.PoolRows()...), Slots: s.SlotRows(),
		Pins: append([]PinRow{}, s.PinRows(StatusPins)...), PinsTotal: s.Total().PinsTotal,
	}
	if s.Berth.Ready != nil {
		r.Why = s.Berth.Ready.Error()
	}
	times := s.leaseTimes()
	for _, row := range s.BackendRows() {
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

// leaseTimes returns the times of each node's leases by reason, its pools added up.
func (s *Snapshot) leaseTimes() map[string]map[string]leaseTimes {
	all := map[string]map[string]leaseTimes{}
	for _, p := range s.Pools {
		if all[p.Node] == nil {
			all[p.Node] = map[string]leaseTimes{}
		}
		for _, reason := range pool.Reasons() {
			times, seen := all[p.Node][reason.String()], uint64(0)
			for i, n := range p.Wait[reason].Counts {
				times.Wait[i] += n
				seen += n
			}
			for i, n := range p.Hold[reason].Counts {
				times.Hold[i] += n
				seen += n
			}
			if seen > 0 {
				all[p.Node][reason.String()] = times
			}
		}
	}
	return all
}

// JSON returns the report. It is no older than statusAge.
func (st *SharedReport) JSON() []byte {
	st.mu.Lock()
	defer st.mu.Unlock()
	if time.Since(st.made) > statusAge {
		body, err := json.Marshal(st.look(StatusPins).Status())
		if err != nil {
			panic("the status report is not JSON: " + err.Error())
		}
		st.body, st.made = body, time.Now()
	}
	return st.body
}

// NewSharedReport makes a SharedReport of looks at the server.
func NewSharedReport(look func(pins int) *Snapshot) *SharedReport { return &SharedReport{look: look} }
