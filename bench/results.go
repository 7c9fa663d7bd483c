//go:build linux

package main

import (
	"math"
	"slices"
)

// results are all measurements of a run.
type results struct {
	Machine   string
	Begun     string
	Command   string
	Endpoints []string
	Scenarios []*scenarioResults
	Checks    []check
	Notes     []string
}

// scenarioResults are the rounds of one scenario, a row for each endpoint.
type scenarioResults struct {
	Title    string
	Scenario scenario
	Rows     []*row
}

// row holds the rounds of one scenario at one endpoint.
type row struct {
	Endpoint string
	Why      string // why there are no more rounds; "": no problem
	Rounds   []figures
	Errors   map[string]int64 // by text
	hist     histogram        // of all rounds
}

// check compares a measurement of redis-benchmark with bench's own.
type check struct {
	scenario, endpoint string
	ours, theirs       float64 // req/s
	ourCPU, theirCPU   float64 // µs of the proxy per request; NaN: no proxy
}

// rowOf returns an endpoint's row, or nil.
func (r *scenarioResults) rowOf(endpoint string) *row {
	for _, row := range r.Rows {
		if row.Endpoint == endpoint {
			return row
		}
	}
	return nil
}

// spread returns the spread of one figure over all rounds.
func (r *row) spread(c *column) spread {
	var values []float64
	for i := range r.Rounds {
		values = append(values, c.of(&r.Rounds[i]))
	}
	return spreadOf(values)
}

// ratio returns the spread of a figure divided by another endpoint's figure. It divides rounds of
// the same turn, because a disturbance of the machine usually affects both.
func (r *row) ratio(c *column, against *row) spread {
	var values []float64
	for i := range min(len(r.Rounds), len(against.Rounds)) {
		if below := c.of(&against.Rounds[i]); below != 0 {
			values = append(values, c.of(&r.Rounds[i])/below)
		}
	}
	return spreadOf(values)
}

// extras returns the medians of the figures that only this workload has.
func (r *row) extras() []extra {
	var names []string
	values := map[string][]float64{}
	for _, f := range r.Rounds {
		for _, e := range f.extra {
			if !slices.Contains(names, e.name) {
				names = append(names, e.name)
			}
			values[e.name] = append(values[e.name], e.value)
		}
	}
	slices.Sort(names)
	var all []extra
	for _, name := range names {
		all = append(all, extra{name, spreadOf(values[name]).median})
	}
	return all
}

// present reports whether any row has a figure.
func (r *scenarioResults) present(c *column) bool {
	for _, row := range r.Rows {
		if !math.IsNaN(row.spread(c).median) {
			return true
		}
	}
	return false
}
