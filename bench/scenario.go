//go:build linux

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// scenario is a workload and its numbers.
type scenario struct {
	Name     string        // of the workload
	Bed      bed           // nodes of the endpoints
	Clients  int           // connections
	Pipeline int           // requests sent at once
	Value    int           // bytes of a value
	Keys     uint32        // number of keys
	Channels int           // channels of pubsub, or lists of workers, that are used in turn
	Rate     float64       // requests per second of all clients; 0: closed loop
	Share    float64       // instead of Rate: share of the rate that the slowest endpoint reaches in a closed loop
	WarmUp   time.Duration // time before the measurement
	Duration time.Duration // time of the measurement
	Requests int64         // instead of Duration, if > 0: requests of the measurement
	Rounds   int           // rounds of every endpoint
}

// bed is the kind of nodes that an endpoint has.
type bed string

const (
	standalone bed = "standalone" // one redis-server
	cluster    bed = "cluster"    // three primaries; for a proxy that shards by itself, three standalone servers
)

const (
	warmUp    = 300 * time.Millisecond
	bigBeside = 64        // bytes of the small values in the workload big
	keepUnder = 256 << 20 // bytes of all values together: longer values mean fewer keys
	fewestKey = 16
)

// stored returns the size of the values that the keys have before the scenario begins.
func (s *scenario) stored() int {
	if s.Name == "big" {
		return bigBeside
	}
	return s.Value
}

// limit corrects numbers that the workload does not support or that need too much memory.
func (s *scenario) limit() {
	s.Keys = max(fewestKey, min(s.Keys, uint32(keepUnder/s.stored())))
	if s.Name == "queue" || s.Name == "workers" || s.Name == "pubsub" || s.Name == "big" || s.Name == "hog" {
		s.Clients = max(2, s.Clients)
	}
	s.Channels = max(1, min(s.Channels, s.Clients-1))
	if s.Name == "queue" || s.Name == "workers" || s.Name == "churn" || s.Name == "txn-watch" || s.Name == "big" || s.Name == "hog" || s.Rate > 0 || s.Share > 0 {
		s.Pipeline = 1
	}
}

// String returns the scenario's title in tables.
func (s *scenario) String() string {
	text := fmt.Sprintf("%s c=%d", s.Name, s.Clients)
	if s.Name != "idle" && s.Name != "churn" {
		text += fmt.Sprintf(" P=%d d=%s", s.Pipeline, sizeText(s.Value))
	}
	if (s.Name == "pubsub" || s.Name == "workers") && s.Channels > 1 {
		text += fmt.Sprintf(" ch=%d", s.Channels)
	}
	switch {
	case s.Share > 0:
		text += fmt.Sprintf(" rate=%g%%", 100*s.Share)
	case s.Rate > 0:
		text += fmt.Sprintf(" rate=%g/s", s.Rate)
	}
	if s.Bed != standalone {
		text += " on " + string(s.Bed)
	}
	return text
}

// parseScenario reads "get" or "get/c=50/P=16/d=1k/on=cluster". Numbers that are missing come from
// usual. Several values for one number, such as "P=1,16,128", make one scenario for each.
func parseScenario(text string, usual scenario) ([]scenario, error) {
	words := strings.Split(text, "/")
	usual.Name = words[0]
	if !knownWorkload(usual.Name) {
		return nil, fmt.Errorf("scenario %q: no such workload; there are %s", text, strings.Join(workloadNames(), ", "))
	}
	if usual.Name == "big" {
		usual.Value, usual.Clients = 256<<20, 21
	}
	all := []scenario{usual}
	for _, word := range words[1:] {
		name, values, found := strings.Cut(word, "=")
		if !found {
			return nil, fmt.Errorf("scenario %q: %q is not name=value", text, word)
		}
		var more []scenario
		for _, s := range all {
			for value := range strings.SplitSeq(values, ",") {
				if err := s.set(name, value); err != nil {
					return nil, fmt.Errorf("scenario %q: %w", text, err)
				}
				more = append(more, s)
			}
		}
		all = more
	}
	for i := range all {
		if (all[i].Rate > 0 || all[i].Share > 0) && closedOnly(all[i].Name) {
			return nil, fmt.Errorf("scenario %q: %s has no open loop", text, all[i].Name)
		}
		all[i].limit()
	}
	return all, nil
}

// set changes one number of a scenario.
func (s *scenario) set(name, value string) error {
	var err error
	switch name {
	case "c":
		s.Clients, err = positive(value)
	case "P":
		s.Pipeline, err = positive(value)
	case "d":
		s.Value, err = parseSize(value)
		if err == nil && s.Value < keySize {
			err = fmt.Errorf("a value contains its key, so it needs at least %d bytes", keySize)
		}
	case "k":
		var n int
		n, err = positive(value)
		s.Keys = uint32(n)
	case "ch":
		s.Channels, err = positive(value)
	case "n":
		var n int
		n, err = positive(value)
		s.Requests = int64(n)
	case "r":
		s.Rounds, err = positive(value)
	case "t":
		s.Duration, err = time.ParseDuration(value)
	case "rate":
		if share, percent := strings.CutSuffix(value, "%"); percent {
			s.Share, err = strconv.ParseFloat(share, 64)
			s.Share /= 100
		} else {
			s.Rate, err = strconv.ParseFloat(value, 64)
		}
		if err == nil && s.Rate+s.Share <= 0 {
			err = errors.New("a rate must be above 0")
		}
	case "on":
		s.Bed = bed(value)
		if s.Bed != standalone && s.Bed != cluster {
			err = fmt.Errorf("must be %s or %s", standalone, cluster)
		}
	default:
		err = errors.New("not one of c P d k ch n r t rate on")
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", name, value, err)
	}
	return nil
}

// positive reads a number from 1 to 2^30.
func positive(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err == nil && (n < 1 || n > 1<<30) {
		err = errors.New("not between 1 and 2^30")
	}
	return n, err
}

// parseSize reads a number of bytes. The suffixes k and m mean 2^10 and 2^20.
func parseSize(text string) (int, error) {
	unit := 1
	switch {
	case strings.HasSuffix(text, "k"):
		unit = 1 << 10
	case strings.HasSuffix(text, "m"):
		unit = 1 << 20
	}
	n, err := positive(strings.TrimRight(text, "km"))
	if err == nil && n > 1<<30/unit {
		err = errors.New("above 1024m")
	}
	return n * unit, err
}

// sizeText formats a number of bytes as parseSize reads it.
func sizeText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.Itoa(n>>20) + "m"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.Itoa(n>>10) + "k"
	}
	return strconv.Itoa(n)
}
