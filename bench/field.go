//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// field runs one round at one endpoint: it moves the drivers through the phases together and
// collects their counts.
type field struct {
	scenario *scenario
	endpoint *endpoint
	drivers  []*driver
	phase    atomic.Int32
	over     sync.WaitGroup
}

// outcome is the result of a round: its figures and the counts from which they come.
type outcome struct {
	figures figures
	hist    histogram
	took    time.Duration    // duration of the measurement
	errors  map[string]int64 // by text
}

// seeds gives every driver of a run a different seed for its keys.
var seeds atomic.Uint64

// newField connects the clients and returns once every client's PING is answered.
func newField(s *scenario, e *endpoint, drivers int, work func() workload) (*field, error) {
	f := &field{scenario: s, endpoint: e}
	drivers = max(1, min(drivers, s.Clients))
	values := newShape(s.stored())
	ready := make(chan error, drivers)
	for i := range drivers {
		targets, err := targetsOf(e) // one for each driver, because connect writes to the address
		if err != nil {
			return nil, err
		}
		seed := seeds.Add(1)
		d := &driver{
			work: work(), pipeline: s.Pipeline, keys: s.Keys, phase: &f.phase, ready: ready, epoch: time.Now(),
			rng: seed*0x9e3779b97f4a7c15 | 1, source: uint16(seed * 40),
			many: s.Clients >= manyClients || s.Name == "churn",
		}
		n := s.Clients / drivers
		if i < s.Clients%drivers {
			n++
		}
		if s.Rate > 0 {
			d.interval = 1e9 / s.Rate * float64(s.Clients) / float64(n)
		}
		for id := range n {
			c := &client{id: id, fd: -1, to: targets[id%len(targets)], shape: values}
			if e.owned != nil {
				c.keys = e.owned[id%len(targets)]
			}
			d.clients = append(d.clients, c)
		}
		d.issuers = d.clients
		f.drivers = append(f.drivers, d)
	}
	for _, d := range f.drivers {
		f.over.Add(1)
		go func() {
			defer f.over.Done()
			d.run()
		}()
	}
	deadline := time.After(openWithin)
	for range f.drivers {
		select {
		case err := <-ready:
			if err != nil {
				f.end()
				return nil, err
			}
		case <-deadline:
			f.end()
			return nil, fmt.Errorf("not all of %d clients are connected after %s", s.Clients, openWithin)
		}
	}
	return f, nil
}

// targetsOf resolves the endpoint's addresses.
func targetsOf(e *endpoint) ([]target, error) {
	var targets []target
	for _, addr := range e.addrs {
		t, err := newTarget(addr)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// enter moves all drivers to a phase. It returns once every driver has seen the phase or has given
// up.
func (f *field) enter(p phase) {
	f.phase.Store(int32(p))
	for _, d := range f.drivers {
		for d.seen.Load() < int32(p) {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// end closes the clients and waits for the drivers. Afterwards the drivers' fields may be read.
func (f *field) end() {
	f.enter(phaseOver)
	f.over.Wait()
}

// done returns how many requests of a class are complete.
func (f *field) done(class int) int64 {
	var sum int64
	for _, d := range f.drivers {
		sum += d.done[class].Load()
	}
	return sum
}

// moment holds the counters at the beginning or the end of a measurement.
type moment struct {
	at               time.Time
	done             int64
	proxy, node, own time.Duration
	err              error
}

// note reads the counters now.
func (f *field) note() moment {
	var m moment
	var errs [3]error
	m.proxy, errs[0] = cpuTime(f.endpoint.proxy)
	m.node, errs[1] = cpuTime(f.endpoint.nodePIDs())
	m.own, errs[2] = cpuTime([]int{os.Getpid()})
	m.done, m.at, m.err = f.done(0), time.Now(), errors.Join(errs[:]...)
	return m
}

// measure runs the warm-up and then the measurement.
func (f *field) measure() (*outcome, error) {
	s := f.scenario
	f.enter(phaseRunning)
	time.Sleep(s.WarmUp)
	f.enter(phaseMeasuring)
	begin := f.note()
	f.awaitEnough()
	end := f.note()
	if err := errors.Join(begin.err, end.err); err != nil {
		f.end()
		return nil, err
	}
	out := &outcome{figures: unknown(), errors: map[string]int64{}}
	fig := &out.figures
	if mem, err := memory(f.processes()); err == nil && mem > 0 {
		fig.memory = float64(mem)
	}
	if len(f.endpoint.nodes) > 0 {
		if conns, err := f.endpoint.nodeClients(); err == nil {
			fig.nodeConns = float64(conns)
		}
	}
	f.drain(out)
	f.collect(out)
	out.took = end.at.Sub(begin.at)
	took, requests := out.took.Seconds(), float64(end.done-begin.done)
	fig.rate = requests / took
	fig.ownCPU = (end.own - begin.own).Seconds() / took / float64(len(f.drivers))
	if requests > 0 && len(f.endpoint.proxy) > 0 {
		fig.proxyCPU = microseconds(end.proxy-begin.proxy) / requests
	}
	if requests > 0 && len(f.endpoint.nodePIDs()) > 0 {
		fig.nodeCPU = microseconds(end.node-begin.node) / requests
	}
	if s.Rate > 0 && fig.rate < 0.98*s.Rate {
		fig.extra = append(fig.extra, extra{"share of the rate", fig.rate / s.Rate})
	}
	return out, nil
}

// processes returns the processes whose memory is measured: the proxy, or the nodes if there is no
// proxy.
func (f *field) processes() []int {
	if len(f.endpoint.proxy) > 0 {
		return f.endpoint.proxy
	}
	return f.endpoint.nodePIDs()
}

// stuckAfter is how long a round that waits for a number of requests continues without progress.
const stuckAfter = 5 * time.Second

// awaitEnough returns when the time is over or the requests are made, whether they succeeded or
// failed. It also returns when there is no progress.
func (f *field) awaitEnough() {
	if f.scenario.Requests == 0 {
		time.Sleep(f.scenario.Duration)
		return
	}
	begin := f.tried()
	last, since := begin, time.Now()
	for last-begin < f.scenario.Requests && time.Since(since) < stuckAfter {
		time.Sleep(time.Millisecond)
		if now := f.tried(); now != last {
			last, since = now, time.Now()
		}
	}
}

// tried returns the number of complete requests plus the number of errors.
func (f *field) tried() int64 {
	sum := f.done(0)
	for _, d := range f.drivers {
		sum += d.failed.Load()
	}
	return sum
}

// drain waits for the last replies and closes the clients.
func (f *field) drain(out *outcome) {
	f.enter(phaseDraining)
	last, since := f.moved(), time.Now()
	for f.owed() > 0 && time.Since(since) < drainWithin {
		time.Sleep(2 * time.Millisecond)
		if now := f.moved(); now != last {
			last, since = now, time.Now()
		}
	}
	if lost := f.owed(); lost > 0 {
		out.errors["clients left without a reply"] += lost
	}
	f.end()
}

// owed returns how many clients still wait for replies.
func (f *field) owed() int64 {
	var sum int64
	for _, d := range f.drivers {
		sum += d.waiting.Load()
	}
	return sum
}

// moved returns how many bytes were written and read.
func (f *field) moved() int64 {
	var sum int64
	for _, d := range f.drivers {
		sum += d.moved.Load()
	}
	return sum
}

// collect adds up the counts of the drivers, which have ended.
func (f *field) collect(out *outcome) {
	other := map[string]int64{}
	for _, d := range f.drivers {
		out.hist.merge(&d.hist[0])
		for words, n := range d.errors {
			out.errors[words] += n
		}
		for name, n := range d.other {
			other[name] += n
		}
		if d.failure != nil {
			out.errors[d.failure.Error()]++
		}
	}
	fig := &out.figures
	fig.errors = 0
	for _, n := range out.errors {
		fig.errors += float64(n)
	}
	if out.hist.total > 0 {
		fig.p50 = microseconds(out.hist.quantile(0.5))
		fig.p99 = microseconds(out.hist.quantile(0.99))
		fig.p999 = microseconds(out.hist.quantile(0.999))
		fig.max = microseconds(out.hist.quantile(1))
	}
	for name, n := range other {
		fig.extra = append(fig.extra, extra{name, float64(n)})
	}
}
