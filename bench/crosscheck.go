//go:build linux

package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"net"
	"os/exec"
	"strconv"
	"time"
)

// crossCheck measures get and set with redis-benchmark as well and records both results.
func (b *bench) crossCheck(s *scenario, e *endpoint, r *scenarioResults) {
	row := r.rowOf(e.name)
	if s.Name != "get" && s.Name != "set" || len(e.addrs) > 1 || row.Why != "" || s.Rate > 0 {
		return
	}
	ours := row.spread(&columns[columnRate]).median
	requests := int(s.Requests)
	if requests == 0 {
		requests = max(1000, int(ours*s.Duration.Seconds()))
	}
	f := &field{scenario: s, endpoint: e}
	begin := f.note()
	theirs, err := redisBenchmark(s, e.addrs[0], requests)
	end := f.note()
	if s.Name == "set" {
		e.filledKeys = 0 // redis-benchmark has overwritten our keys with values that do not contain them
	}
	if err = errors.Join(err, begin.err, end.err); err != nil {
		b.say("redis-benchmark: %v", err)
		return
	}
	found := check{scenario: s.String(), endpoint: e.name, ours: ours, theirs: theirs,
		ourCPU: row.spread(&columns[columnProxyCPU]).median, theirCPU: math.NaN()}
	if len(e.proxy) > 0 {
		found.theirCPU = microseconds(end.proxy-begin.proxy) / float64(requests)
	}
	b.results.Checks = append(b.results.Checks, found)
}

// redisBenchmark runs redis-benchmark and returns its requests per second.
func redisBenchmark(s *scenario, addr string, requests int) (float64, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("redis-benchmark", "-h", host, "-p", port, "-c", strconv.Itoa(s.Clients), "-n",
		strconv.Itoa(requests), "-P", strconv.Itoa(s.Pipeline), "-d", strconv.Itoa(s.Value),
		"-r", strconv.Itoa(int(s.Keys)), "-t", s.Name, "--csv")
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	out, err := cmd.Output()
	timer.Stop()
	if err != nil {
		return 0, fmt.Errorf("%v: %w", cmd.Args, err)
	}
	return parseBenchmarkCSV(out)
}

// parseBenchmarkCSV returns the column "rps" of the only test.
func parseBenchmarkCSV(out []byte) (float64, error) {
	rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil {
		return 0, err
	}
	if len(rows) == 2 {
		for i, name := range rows[0] {
			if name == "rps" && i < len(rows[1]) {
				rate, err := strconv.ParseFloat(rows[1][i], 64)
				if err == nil && (rate <= 0 || math.IsInf(rate, 1)) {
					err = errors.New("redis-benchmark made too few requests to measure a rate")
				}
				return rate, err
			}
		}
	}
	return 0, errors.New("no rps in redis-benchmark's output")
}
