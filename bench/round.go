//go:build linux

package main

import (
	"fmt"
	"math"
	"time"
)

// round measures one scenario at one endpoint, once.
func round(s *scenario, e *endpoint, drivers int) (*outcome, error) {
	switch s.Name {
	case "idle":
		return roundIdle(s, e, drivers)
	case "big":
		return roundBig(s, e)
	case "hog":
		return roundHog(s, e)
	}
	if err := prepare(s, e); err != nil {
		return nil, err
	}
	f, err := newField(s, e, drivers, func() workload { return newWorkload(s) })
	if err != nil {
		return nil, err
	}
	return f.measure()
}

// prepare gives every key its value, unless all keys have it already.
func prepare(s *scenario, e *endpoint) error {
	if s.Name == "idle" || s.Name == "queue" || s.Name == "workers" || s.Name == "pubsub" {
		return nil
	}
	if len(e.addrs) > 1 && e.owned == nil || e.owned != nil && e.filledKeys != s.Keys {
		owned, err := keysByPrimary(e.nodes[0].ctl, s.Keys)
		if err != nil {
			return err
		}
		e.owned = owned
	}
	if e.filledSize == s.stored() && e.filledKeys >= s.Keys && e.owned == nil ||
		e.filledSize == s.stored() && e.filledKeys == s.Keys {
		return nil
	}
	filling := &scenario{Name: "fill", Clients: len(e.addrs), Pipeline: 64, Value: s.stored(), Keys: s.Keys}
	if filling.Value >= streamFrom {
		filling.Pipeline = 1
	}
	f, err := newField(filling, e, 1, func() workload { return &fill{} })
	if err != nil {
		return err
	}
	f.enter(phaseMeasuring)
	limit := time.Now().Add(time.Minute)
	for f.done(0) < int64(s.Keys) && time.Now().Before(limit) && f.drivers[0].failed.Load() == 0 {
		time.Sleep(2 * time.Millisecond)
	}
	f.end()
	for words, n := range f.drivers[0].errors {
		return fmt.Errorf("fill with values: %s (%d times)", words, n)
	}
	if n := f.done(0); n < int64(s.Keys) {
		return fmt.Errorf("only %d of %d keys got their values within a minute", n, s.Keys)
	}
	e.filledSize, e.filledKeys = s.stored(), s.Keys
	return nil
}

// roundIdle measures what an idle client costs. It uses new processes, because memory that earlier
// connections needed is not returned to the system.
func roundIdle(s *scenario, e *endpoint, drivers int) (*outcome, error) {
	young, err := e.fresh()
	if err == nil {
		defer young.stop()
		e = young
	}
	none := &field{endpoint: e}
	before, err := settledMemory(none.processes())
	if err != nil {
		return nil, err
	}
	f, err := newField(s, e, drivers, func() workload { return idle{} })
	if err != nil {
		return nil, err
	}
	defer f.end()
	after, err := settledMemory(f.processes())
	if err != nil {
		return nil, err
	}
	begin := f.note()
	time.Sleep(s.WarmUp)
	end := f.note()
	out := &outcome{figures: unknown(), errors: map[string]int64{}}
	out.figures.errors = 0
	if conns, err := e.nodeClients(); err == nil && len(e.nodes) > 0 {
		out.figures.nodeConns = float64(conns)
	}
	if len(f.processes()) > 0 {
		out.figures.memory = float64(after)
		out.figures.perClient = float64(after-before) / float64(s.Clients)
		used := end.proxy - begin.proxy
		if len(e.proxy) == 0 {
			used = end.node - begin.node
		}
		out.figures.extra = []extra{{"CPU while idle, %", 100 * used.Seconds() / end.at.Sub(begin.at).Seconds()}}
	}
	return out, nil
}

// settledMemory waits until memory changes by less than a hundredth in 200 ms and returns it.
func settledMemory(pids []int) (int64, error) {
	last, err := memory(pids)
	for range 10 {
		time.Sleep(200 * time.Millisecond)
		now, err := memory(pids)
		if err != nil {
			return 0, err
		}
		if math.Abs(float64(now-last)) < 0.01*float64(last) {
			return now, nil
		}
		last = now
	}
	return last, err
}

// roundBig measures small reads first alone and then beside huge values. It uses new processes, so
// that their peak of memory comes from these values.
func roundBig(s *scenario, e *endpoint) (*outcome, error) {
	if young, err := e.fresh(); err == nil {
		defer young.stop()
		e = young
	}
	if err := prepare(s, e); err != nil {
		return nil, err
	}
	out, f, err := beside(s, e, &big{}, &big{size: s.Value})
	if err != nil {
		return nil, err
	}
	moved := float64(f.done(1)) * float64(s.Value)
	fig := &out.figures
	fig.extra = append(fig.extra, extra{"big values, MB/s", moved / (1 << 20) / out.took.Seconds()})
	if peak, err := peakMemory(f.processes()); err == nil && peak > 0 {
		fig.extra = append(fig.extra, extra{"peak RSS / value", float64(peak) / float64(s.Value)})
	}
	return out, nil
}

// roundHog measures small reads first alone and then beside requests with very many keys.
func roundHog(s *scenario, e *endpoint) (*outcome, error) {
	if err := prepare(s, e); err != nil {
		return nil, err
	}
	out, f, err := beside(s, e, &hog{quiet: true}, &hog{})
	if err != nil {
		return nil, err
	}
	out.figures.extra = append(out.figures.extra, extra{"hog's requests/s", float64(f.done(1)) / out.took.Seconds()})
	return out, nil
}

// beside measures the small reads of most clients twice: with the workload quiet, and with the
// workload loud, whose first client sends heavy requests. It adds the ratio of both p99 to the
// figures.
func beside(s *scenario, e *endpoint, quiet, loud workload) (*outcome, *field, error) {
	f, err := newField(s, e, 1, func() workload { return quiet })
	if err != nil {
		return nil, nil, err
	}
	alone, err := f.measure()
	if err != nil {
		return nil, nil, err
	}
	if f, err = newField(s, e, 1, func() workload { return loud }); err != nil {
		return nil, nil, err
	}
	out, err := f.measure()
	if err != nil {
		return nil, nil, err
	}
	fig := &out.figures
	fig.extra = append(fig.extra, extra{"p99 beside / alone", fig.p99 / alone.figures.p99})
	return out, f, nil
}
