//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// figures are the measurements of one round. NaN: not known, or not applicable.
type figures struct {
	rate      float64 // requests completed per second
	p50       float64 // µs
	p99       float64 // µs
	p999      float64 // µs
	max       float64 // µs
	proxyCPU  float64 // µs per request: user and system time of the proxy
	nodeCPU   float64 // µs per request: user and system time of all redis-servers
	memory    float64 // bytes: resident memory of the proxy; without a proxy, of the nodes
	nodeConns float64 // connections that the nodes had
	ownCPU    float64 // share of its threads' time that the load generator was busy
	perClient float64 // bytes of memory per idle client
	errors    float64 // replies that were wrong, missing, unexpected or errors
	extra     []extra // figures that only this workload has
}

// extra is a figure that only one workload has.
type extra struct {
	name  string
	value float64
}

// unknown returns figures that are all NaN.
func unknown() figures {
	n := math.NaN()
	return figures{n, n, n, n, n, n, n, n, n, n, n, n, nil}
}

// column describes how tables and plots show one figure.
type column struct {
	key     string // name in JSON
	title   string
	of      func(*figures) float64
	text    func(float64) string
	ratio   bool // tables compare endpoints by this figure
	plotted bool
	higher  bool // a higher value is better
}

// columns lists all figures in the order of the table.
var columns = []column{
	{"rate", "req/s", func(f *figures) float64 { return f.rate }, countText, true, true, true},
	{"p50", "p50", func(f *figures) float64 { return f.p50 }, microText, true, true, false},
	{"p99", "p99", func(f *figures) float64 { return f.p99 }, microText, true, true, false},
	{"p999", "p99.9", func(f *figures) float64 { return f.p999 }, microText, true, true, false},
	{"proxy_cpu", "proxy CPU/req", func(f *figures) float64 { return f.proxyCPU }, microText, true, true, false},
	{"node_cpu", "redis CPU/req", func(f *figures) float64 { return f.nodeCPU }, microText, true, true, false},
	{"memory", "RSS", func(f *figures) float64 { return f.memory }, bytesText, true, false, false},
	{"per_client", "RSS/client", func(f *figures) float64 { return f.perClient }, bytesText, true, true, false},
	{"node_conns", "node conns", func(f *figures) float64 { return f.nodeConns }, countText, false, false, false},
	{"errors", "errors", func(f *figures) float64 { return f.errors }, countText, false, false, false},
}

// Indexes in columns of figures that are also used by themselves.
const (
	columnRate     = 0
	columnProxyCPU = 4
)

// microseconds converts a duration to the unit of figures.
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// spread summarises a figure over several rounds: its median, lowest and highest value.
type spread struct{ median, low, high float64 }

// spreadOf returns the spread of the values that are not NaN. It is all NaN if there are none.
func spreadOf(values []float64) spread {
	known := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(known) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(known)
	n := len(known)
	return spread{(known[(n-1)/2] + known[n/2]) / 2, known[0], known[n-1]}
}

// countText formats a count or a rate.
func countText(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// microText formats a duration given in µs.
func microText(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f s", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f ms", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.2f ms", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f µs", v)
	case v >= 10:
		return fmt.Sprintf("%.1f µs", v)
	}
	return fmt.Sprintf("%.2f µs", v)
}

// bytesText formats a size given in bytes.
func bytesText(v float64) string {
	switch {
	case v >= 1<<30:
		return fmt.Sprintf("%.2f GB", v/(1<<30))
	case v >= 1<<20:
		return fmt.Sprintf("%.1f MB", v/(1<<20))
	case v >= 1<<10:
		return fmt.Sprintf("%.2f KB", v/(1<<10))
	}
	return fmt.Sprintf("%.0f B", v)
}

// ratioText formats a ratio.
func ratioText(v float64) string {
	if v >= 10 {
		return fmt.Sprintf("%.1f×", v)
	}
	return fmt.Sprintf("%.2f×", v)
}

// MarshalJSON omits figures that are not known, because JSON has no NaN.
func (f figures) MarshalJSON() ([]byte, error) {
	known := map[string]float64{}
	for i := range columns {
		if v := columns[i].of(&f); !math.IsNaN(v) {
			known[columns[i].key] = v
		}
	}
	if !math.IsNaN(f.ownCPU) {
		known["own_cpu"] = f.ownCPU
	}
	if !math.IsNaN(f.max) {
		known["max"] = f.max
	}
	for _, e := range f.extra {
		known[e.name] = e.value
	}
	return json.Marshal(known)
}

// MarshalJSON omits the proxy's CPU time if there is no proxy.
func (c check) MarshalJSON() ([]byte, error) {
	known := map[string]any{"scenario": c.scenario, "endpoint": c.endpoint, "rate": c.ours, "redis_benchmark_rate": c.theirs}
	if !math.IsNaN(c.ourCPU + c.theirCPU) {
		known["proxy_cpu"], known["redis_benchmark_proxy_cpu"] = c.ourCPU, c.theirCPU
	}
	return json.Marshal(known)
}
