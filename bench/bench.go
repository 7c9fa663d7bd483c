//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// bench is one run: it starts the endpoints, measures the scenarios and writes the reports.
type bench struct {
	o         *options
	launcher  *launcher
	endpoints map[bed][]*endpoint
	results   *results
	dir       string    // temporary: logs and configurations of the started processes
	out       io.Writer // where the tables go
}

func newBench(o *options) (*bench, error) {
	files, err := allowManyFiles()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "berth-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{o: o, dir: dir, out: os.Stdout, endpoints: map[bed][]*endpoint{}}
	b.launcher = &launcher{dir: dir, berth: o.berth, args: o.berthArgs, files: files}
	b.results = &results{Machine: machine(), Begun: time.Now().Format("2006-01-02 15:04 MST"), Command: commandLine()}
	return b, nil
}

// close ends the started processes and removes their directory, or keeps it for -keep.
func (b *bench) close() {
	for _, all := range b.endpoints {
		for _, e := range all {
			e.stop()
		}
	}
	stopAll()
	if b.o.keep {
		b.say("the logs are in %s", b.dir)
		return
	}
	_ = os.RemoveAll(b.dir)
}

// abandon ends the started processes in the middle of a run. Another goroutine may be inside run,
// so it does not touch the endpoints.
func (b *bench) abandon() {
	stopAll()
	_ = os.RemoveAll(b.dir)
}

// say prints progress to standard error; results go to standard output.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// on returns the endpoints of a bed. It starts them at the first call.
func (b *bench) on(where bed) ([]*endpoint, error) {
	if all, started := b.endpoints[where]; started {
		return all, nil
	}
	var all []*endpoint
	for _, name := range b.o.endpoints {
		e, err := b.launcher.start(name, where)
		switch {
		case err == nil:
			all = append(all, e)
			b.endpoints[where] = all
		case errors.Is(err, errNotHere):
		case errors.Is(err, exec.ErrNotFound):
			b.say("%v: skipped", err)
			b.note(fmt.Sprintf("%s is not installed, so it was not measured.", name))
		default:
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no endpoint to measure on %s", where)
	}
	b.endpoints[where] = all
	return all, nil
}

// note adds a remark to the reports, once.
func (b *bench) note(text string) {
	if !slices.Contains(b.results.Notes, text) {
		b.results.Notes = append(b.results.Notes, text)
	}
}

// run measures all scenarios.
func (b *bench) run() error {
	for i := range b.o.scenarios {
		if err := b.measure(&b.o.scenarios[i]); err != nil {
			return err
		}
	}
	return nil
}

// measure runs one scenario: first a trial at each endpoint, then the rounds.
func (b *bench) measure(s *scenario) error {
	endpoints, err := b.on(s.Bed)
	if err != nil {
		return err
	}
	r := &scenarioResults{Title: s.String(), Scenario: *s}
	b.results.Scenarios = append(b.results.Scenarios, r)
	for _, e := range endpoints {
		row := &row{Endpoint: e.name, Errors: map[string]int64{}}
		r.Rows = append(r.Rows, row)
		if why := b.try(s, e); why != "" {
			row.Why = why
			b.say("%s: %s: %s", r.Title, e.name, why)
		}
	}
	if s.Share > 0 {
		if err := b.setRate(s, endpoints, r); err != nil {
			return err
		}
		r.Title = fmt.Sprintf("%s (%s/s)", s.String(), countText(s.Rate))
	}
	for n := range s.Rounds {
		for i := range endpoints {
			// Each round begins at another endpoint, so that none is always the first.
			at := (i + n) % len(endpoints)
			e, row := endpoints[at], r.Rows[at]
			if row.Why != "" {
				continue
			}
			out, err := round(s, e, b.o.drivers)
			if err != nil {
				err = e.explain(err)
				row.Why = err.Error()
				b.say("%s: %s: %v", r.Title, e.name, err)
				continue
			}
			b.take(r, row, out)
		}
	}
	for _, e := range endpoints {
		if b.o.syscalls && len(e.proxy) > 0 && r.rowOf(e.name).Why == "" {
			b.countSyscalls(s, e, r)
		}
		if b.o.check {
			b.crossCheck(s, e, r)
		}
	}
	return nil
}

// take adds the outcome of a round to its row and prints it.
func (b *bench) take(r *scenarioResults, row *row, out *outcome) {
	row.Rounds = append(row.Rounds, out.figures)
	row.hist.merge(&out.hist)
	for words, n := range out.errors {
		row.Errors[words] += n
	}
	f := &out.figures
	line := fmt.Sprintf("%-34s %-11s round %d:", r.Title, row.Endpoint, len(row.Rounds))
	for i := range columns {
		c := &columns[i]
		if v := c.of(f); !math.IsNaN(v) {
			line += fmt.Sprintf("  %s %s", c.title, c.text(v))
		}
	}
	if f.ownCPU > 0.95 {
		b.note("In some rounds the load generator's own thread was busy all the time (usually get at the fastest endpoints). " +
			"There, req/s is what the generator and the endpoint reach together on these cores; " +
			"CPU per request is not affected.")
	}
	b.say("%s", line)
}

// try finds out whether an endpoint supports a scenario. It returns "" or the reason why not.
func (b *bench) try(s *scenario, e *endpoint) string {
	if e.most > 0 && s.Clients > e.most {
		return fmt.Sprintf("takes at most %d clients, because of the limit of file descriptors per process", e.most)
	}
	if s.Name == "idle" {
		return ""
	}
	small := *s
	small.Clients, small.Pipeline, small.Rate, small.Share = 2*len(e.addrs), 1, 0, 0
	small.Value, small.Requests, small.WarmUp = s.stored(), 1, 0
	if s.Name == "big" || s.Name == "hog" {
		small.Name = "get"
	}
	if err := prepare(&small, e); err != nil {
		return err.Error()
	}
	f, err := newField(&small, e, 1, func() workload { return newWorkload(&small) })
	if err != nil {
		return err.Error()
	}
	out, err := f.measure()
	if err != nil {
		return err.Error()
	}
	for words := range out.errors {
		return words
	}
	if out.hist.total == 0 {
		return "does not answer"
	}
	return ""
}

// setRate computes the scenario's rate from its share. It measures briefly what rate the slowest
// endpoint reaches in a closed loop.
func (b *bench) setRate(s *scenario, endpoints []*endpoint, r *scenarioResults) error {
	lowest := math.Inf(1)
	for i, e := range endpoints {
		if r.Rows[i].Why != "" {
			continue
		}
		closed := *s
		closed.Rate, closed.Share, closed.Duration = 0, 0, 500*time.Millisecond
		out, err := round(&closed, e, b.o.drivers)
		if err != nil {
			return err
		}
		lowest = min(lowest, out.figures.rate)
	}
	if math.IsInf(lowest, 1) || lowest == 0 {
		return fmt.Errorf("%s: no endpoint completes any request", s)
	}
	s.Rate = math.Round(lowest * s.Share)
	return nil
}

// report writes the results in all formats that the options ask for.
func (b *bench) report() error {
	for _, name := range b.o.endpoints {
		name, _, _ = strings.Cut(name, "=")
		b.results.Endpoints = append(b.results.Endpoints, name)
	}
	if err := writeTables(b.out, b.results, b.o.against); err != nil {
		return err
	}
	if b.o.markdown != "" {
		if err := writeFile(b.o.markdown, func(w *bufio.Writer) error { return writeTables(w, b.results, b.o.against) }); err != nil {
			return err
		}
	}
	if b.o.html != "" {
		if err := writeFile(b.o.html, func(w *bufio.Writer) error { return writeReport(w, b.results, b.o.against) }); err != nil {
			return err
		}
	}
	if b.o.json != "" {
		return writeFile(b.o.json, func(w *bufio.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", " ")
			return enc.Encode(b.results)
		})
	}
	return nil
}

// writeFile creates a file and writes it through a buffer.
func writeFile(name string, write func(*bufio.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	return errors.Join(write(w), w.Flush(), f.Close())
}

// machine describes the machine and the versions of the installed programs.
func machine() string {
	text := fmt.Sprintf("%d cores", runtime.NumCPU())
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, found := strings.CutPrefix(line, "model name"); found {
				text += " (" + strings.TrimSpace(strings.TrimLeft(name, "\t :")) + ")"
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		text += ", Linux " + strings.TrimSpace(string(b))
	}
	for _, program := range []string{"redis-server", "nutcracker", "haproxy"} {
		flag := map[string]string{"redis-server": "--version", "nutcracker": "-V", "haproxy": "-v"}[program]
		out, err := exec.Command(program, flag).CombinedOutput()
		if err == nil {
			line, _, _ := strings.Cut(string(out), "\n")
			text += ", " + program + " " + version(line)
		}
	}
	return text
}

// version returns the first word of a line that looks like a version.
func version(line string) string {
	for _, word := range strings.Fields(line) {
		word = strings.TrimPrefix(strings.TrimPrefix(word, "v="), "nutcracker-")
		word, _, _ = strings.Cut(word, "-")
		if len(word) > 2 && word[0] >= '0' && word[0] <= '9' && strings.Contains(word, ".") {
			return word
		}
	}
	return "of unknown version"
}
