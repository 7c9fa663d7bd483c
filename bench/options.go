//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// options are the settings of one run, from the command line.
type options struct {
	endpoints []string
	scenarios []scenario
	against   []string
	drivers   int
	berth     string
	berthArgs []string
	html      string
	markdown  string
	json      string
	check     bool
	syscalls  bool
	keep      bool
}

// scenarioOptions are the options that make the list of scenarios, as they were given.
type scenarioOptions struct {
	scenarios, clients, pipeline, value, keys, on, rate string

	duration         time.Duration
	requests, rounds int
}

const usage = `usage: go run ./bench [options]

Measures several endpoints in interleaved rounds and prints a table of medians.

  go run ./bench -scenario get -clients 50 -pipeline 1,16
  go run ./bench -scenario get/c=50/P=1,get/c=50/P=16,idle/c=15000 -html report.html
  go run ./bench -endpoints direct,mine=10.0.0.1:7379@4711/10.0.0.2:6379 -scenario mixed

An endpoint is direct (redis-server by itself), berth, nutcracker or haproxy. bench
starts these and ends them. An endpoint that runs already is name=host:port. Add @PID of
the proxy and /host:port of each node to measure their CPU time and memory too.

A scenario is a workload. Numbers after its name replace those of the options: c clients,
P pipeline, d value, k keys, n requests, t duration, r rounds, rate (req/s, or 50% of what
the slowest endpoint reaches), on (standalone or cluster), and ch channels for pubsub or
lists for workers.

`

// parseOptions reads the command line.
func parseOptions(args []string, complaints io.Writer) (*options, error) {
	o, listed := &options{}, &scenarioOptions{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(complaints)
	flags.Usage = func() {
		fmt.Fprint(complaints, usage, "workloads:\n")
		for _, w := range workloads {
			fmt.Fprintf(complaints, "  %-10s %s\n", w.name, w.does)
		}
		fmt.Fprint(complaints, "\noptions:\n")
		flags.PrintDefaults()
	}
	listed.define(flags)
	endpoints := flags.String("endpoints", "direct,berth,nutcracker,haproxy", "endpoints to measure")
	flags.IntVar(&o.drivers, "threads", max(1, runtime.NumCPU()/4), "threads of the load generator")
	against := flags.String("against", "nutcracker,direct", "endpoints with which the others are compared")
	flags.StringVar(&o.berth, "berth", "", "a berth binary; bench builds one if this is empty")
	berthArgs := flags.String("berth-args", "", "additional arguments for berth")
	flags.StringVar(&o.html, "html", "", "write a report with plots to this file")
	flags.StringVar(&o.markdown, "md", "", "write the tables to this file too")
	flags.StringVar(&o.json, "json", "", "write all figures of all rounds to this file")
	flags.BoolVar(&o.check, "check", false, "measure get and set with redis-benchmark as well")
	flags.BoolVar(&o.syscalls, "syscalls", false, "count the proxies' system calls with strace, in an additional round")
	flags.BoolVar(&o.keep, "keep", false, "keep the directory with the logs of the started processes")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q; options begin with -", flags.Arg(0))
	}
	o.endpoints = strings.Split(*endpoints, ",")
	o.against = strings.Split(*against, ",")
	o.berthArgs = strings.Fields(*berthArgs)
	var err error
	if o.scenarios, err = listed.parse(); err != nil {
		return nil, err
	}
	if listed.rounds < 1 || o.drivers < 1 || listed.duration <= 0 {
		return nil, errors.New("-rounds, -threads and -duration must be above 0")
	}
	return o, nil
}

// define adds the options to flags.
func (l *scenarioOptions) define(flags *flag.FlagSet) {
	flags.StringVar(&l.scenarios, "scenario", "get", "scenarios to measure")
	flags.StringVar(&l.clients, "clients", "50", "connections; several values: one scenario for each")
	flags.StringVar(&l.pipeline, "pipeline", "1", "requests sent at once; several values: one scenario for each")
	flags.StringVar(&l.value, "value", "64", "bytes of a value, 16 to 1024m; several values: one scenario for each")
	flags.StringVar(&l.keys, "keys", "100000", "number of keys; reduced if all values together would exceed 256 MB")
	flags.StringVar(&l.on, "on", "standalone", "nodes of the endpoints: standalone (one), or cluster (3 primaries)")
	flags.StringVar(&l.rate, "rate", "", "open loop: requests per second of all clients, or a percentage of what the slowest endpoint reaches")
	flags.DurationVar(&l.duration, "duration", time.Second, "how long a round measures, after a warm-up of 0.3 s")
	flags.IntVar(&l.requests, "n", 0, "measure this number of requests instead of a duration")
	flags.IntVar(&l.rounds, "rounds", 5, "rounds of every endpoint")
}

// parse returns the list of scenarios. A scenario's own numbers replace those of the options.
func (l *scenarioOptions) parse() ([]scenario, error) {
	usual := scenario{WarmUp: warmUp, Duration: l.duration, Requests: int64(l.requests), Rounds: l.rounds}
	numbers := "/c=" + l.clients + "/P=" + l.pipeline + "/d=" + l.value + "/k=" + l.keys + "/on=" + l.on
	if l.rate != "" {
		numbers += "/rate=" + l.rate
	}
	var all []scenario
	for _, text := range splitScenarios(l.scenarios) {
		name, own, _ := strings.Cut(text, "/")
		if own != "" {
			own = "/" + own
		}
		rest := numbers
		for word := range strings.SplitSeq(own, "/") {
			key, _, _ := strings.Cut(word, "=")
			rest = without(rest, key)
		}
		if name == "big" {
			rest = without(without(rest, "c"), "d")
		}
		parsed, err := parseScenario(name+rest+own, usual)
		if err != nil {
			return nil, err
		}
		all = append(all, parsed...)
	}
	return all, nil
}

// without removes "/key=…" from a list of numbers.
func without(numbers, key string) string {
	var kept []string
	for word := range strings.SplitSeq(numbers, "/") {
		if name, _, _ := strings.Cut(word, "="); name != key || key == "" {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, "/")
}

// splitScenarios splits a list at each comma that a workload's name follows: "get/P=1,set" are two
// scenarios, but "get/P=1,16" is one with two pipelines.
func splitScenarios(list string) []string {
	var all []string
	for word := range strings.SplitSeq(list, ",") {
		name, _, _ := strings.Cut(word, "/")
		isValue := len(all) > 0 && strings.Contains(all[len(all)-1], "=") && !knownWorkload(name)
		if isValue {
			all[len(all)-1] += "," + word
		} else {
			all = append(all, word)
		}
	}
	return all
}

// commandLine returns the command that started this run.
func commandLine() string {
	return "go run ./bench " + strings.Join(os.Args[1:], " ")
}
