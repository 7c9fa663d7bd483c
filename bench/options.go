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

// options are what the command line asks for.
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

const usage = `usage: go run ./bench [options]

Drives endpoints side by side, in interleaved rounds, and prints a table of medians.

  go run ./bench -scenario get -clients 50 -pipeline 1,16
  go run ./bench -scenario get/c=50/P=1,get/c=50/P=16,idle/c=15000 -html report.html
  go run ./bench -endpoints direct,mine=10.0.0.1:7379@4711/10.0.0.2:6379 -scenario mixed

An endpoint is direct (redis-server by itself), berth, nutcracker or haproxy, which are
started here and ended again, or name=host:port of one that runs already; behind it may
stand @PID of the proxy and a /host:port for each node, for their figures.

A scenario is a workload, with its own numbers behind it if it is not to have those of the
options: c clients, P pipeline, d value, k keys, n requests, t duration, r rounds, rate
(req/s, or 50% of what the slowest endpoint reaches), on (standalone or cluster), and for
pubsub ch channels.

`

// parseOptions reads the command line. Two scenarios in one list are told apart from two values of
// one number by what stands in front of the comma: "get/P=1,16" are two pipelines, "get/P=1,set"
// two workloads.
func parseOptions(args []string, complaints io.Writer) (*options, error) {
	o := &options{}
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
	endpoints := flags.String("endpoints", "direct,berth,nutcracker,haproxy", "whom to measure")
	scenarios := flags.String("scenario", "get", "what to measure")
	clients := flags.String("clients", "50", "connections; several: one scenario each")
	pipeline := flags.String("pipeline", "1", "requests sent at once; several: one scenario each")
	value := flags.String("value", "64", "bytes of a value, 16 to 1024m; several: one scenario each")
	keys := flags.String("keys", "100000", "how many keys there are; fewer when all values would be above 256 MB")
	on := flags.String("on", "standalone", "what stands behind the endpoints: standalone, or cluster (3 primaries)")
	rate := flags.String("rate", "", "open loop: requests per second in all, or a percentage of what the slowest endpoint reaches")
	duration := flags.Duration("duration", time.Second, "how long a round measures, behind a warm-up of 0.3 s")
	requests := flags.Int("n", 0, "measure so many requests instead")
	rounds := flags.Int("rounds", 5, "turns of every endpoint")
	flags.IntVar(&o.drivers, "threads", max(1, runtime.NumCPU()/4), "threads of the load generator")
	against := flags.String("against", "nutcracker,direct", "endpoints that the others are compared with")
	flags.StringVar(&o.berth, "berth", "", "a berth binary; without one it is built")
	berthArgs := flags.String("berth-args", "", "further arguments for berth")
	flags.StringVar(&o.html, "html", "", "write a report with plots to this file")
	flags.StringVar(&o.markdown, "md", "", "write the tables to this file too")
	flags.StringVar(&o.json, "json", "", "write all figures of all rounds to this file")
	flags.BoolVar(&o.check, "check", false, "measure get and set with redis-benchmark as well")
	flags.BoolVar(&o.syscalls, "syscalls", false, "count the proxies' system calls with strace, in a round of its own")
	flags.BoolVar(&o.keep, "keep", false, "keep the directory with the logs of what was started")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("what is %q? Options begin with -", flags.Arg(0))
	}
	o.endpoints = strings.Split(*endpoints, ",")
	o.against = strings.Split(*against, ",")
	o.berthArgs = strings.Fields(*berthArgs)
	usual := scenario{WarmUp: warmUp, Duration: *duration, Requests: int64(*requests), Rounds: *rounds}
	numbers := "/c=" + *clients + "/P=" + *pipeline + "/d=" + *value + "/k=" + *keys + "/on=" + *on
	if *rate != "" {
		numbers += "/rate=" + *rate
	}
	for _, text := range splitScenarios(*scenarios) {
		name, own, _ := strings.Cut(text, "/")
		if own != "" {
			own = "/" + own
		}
		all := numbers
		for word := range strings.SplitSeq(own, "/") {
			// A number of its own takes the place of the option's list.
			key, _, _ := strings.Cut(word, "=")
			all = without(all, key)
		}
		if name == "big" {
			all = without(without(all, "c"), "d")
		}
		parsed, err := parseScenario(name+all+own, usual)
		if err != nil {
			return nil, err
		}
		o.scenarios = append(o.scenarios, parsed...)
	}
	if *rounds < 1 || o.drivers < 1 || *duration <= 0 {
		return nil, errors.New("-rounds, -threads and -duration are above 0")
	}
	return o, nil
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

// splitScenarios cuts a list at the commas in front of a workload's name.
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

// commandLine is how this run was started.
func commandLine() string {
	return "go run ./bench " + strings.Join(os.Args[1:], " ")
}
