//go:build linux

package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestScenariosTakeMissingNumbersFromTheOptions(t *testing.T) {
	o, err := parseOptions([]string{"-scenario", "get,set/P=1,16/d=1k,mixed/c=7/on=cluster,get/rate=50%", "-clients", "5", "-rounds", "2"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, s := range o.scenarios {
		titles = append(titles, s.String())
		if s.Rounds != 2 {
			t.Errorf("%s has %d rounds", s.String(), s.Rounds)
		}
	}
	want := "get c=5 P=1 d=64; set c=5 P=1 d=1k; set c=5 P=16 d=1k; mixed c=7 P=1 d=64 on cluster; get c=5 P=1 d=64 rate=50%"
	if got := strings.Join(titles, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestListsOfNumbersMakeEveryCombination(t *testing.T) {
	all, err := parseScenario("get/c=1,2/P=3,4", scenario{Value: 64, Keys: 100})
	if err != nil || len(all) != 4 || all[3].Clients != 2 || all[3].Pipeline != 4 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestLongValuesHaveFewerKeys(t *testing.T) {
	all, err := parseScenario("get/d=1m/k=100000", scenario{Clients: 1, Pipeline: 1})
	if err != nil || all[0].Keys != 256 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestMistakesInScenariosAreNamed(t *testing.T) {
	for text, says := range map[string]string{
		"gett":          "no such workload",
		"get/c":         "not name=value",
		"get/c=0":       "not between",
		"get/c=x":       "invalid syntax",
		"get/d=8":       "at least 16 bytes",
		"get/d=2000m":   "above 1024m",
		"get/on=moon":   "standalone or cluster",
		"get/z=1":       "not one of",
		"get/rate=-1":   "above 0",
		"churn/rate=10": "no open loop",
	} {
		_, err := parseScenario(text, scenario{Clients: 1, Pipeline: 1, Value: 64, Keys: 10, Duration: time.Second})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}
