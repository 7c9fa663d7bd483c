package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// Clients choose names, and berth repeats them to others: none is so long that a report of all
// clients could be long.
func TestNamesThatBerthKeepsAreBounded(t *testing.T) { overBackends(t, nil, chooseLongNames) }

func chooseLongNames(t *testing.T, nodes backing) {
	b := startBerth(t, nodes.url(""))
	watcher := startBystander(t, b.Addr())
	long, longest := strings.Repeat("n", sized(1<<20, 5<<20)), strings.Repeat("n", maxClientName)
	channel, longestChannel := strings.Repeat("c", maxChannelName+1), strings.Repeat("c", maxChannelName)
	attacker := dial(t, b.Addr())
	tooLong := [][]any{{"CLIENT", "SETNAME", long}, {"CLIENT", "SETNAME", longest + "n"}, {"HELLO", "2", "SETNAME", long}}
	longEnough := [][]any{{"CLIENT", "SETNAME", longest}}
	if b.has("client|setinfo") {
		tooLong = append(tooLong, []any{"CLIENT", "SETINFO", "LIB-NAME", long}, []any{"CLIENT", "SETINFO", "LIB-VER", long})
		longEnough = append(longEnough, []any{"CLIENT", "SETINFO", "LIB-NAME", longest}, []any{"CLIENT", "SETINFO", "LIB-VER", longest})
	}
	for _, words := range tooLong {
		if got := attacker.Do(words...); got != redistest.Error(errLongName) {
			t.Errorf("%.40v: %.80v", words, got)
		}
	}
	for _, command := range []string{"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"} {
		if got := attacker.Do(command, "short", channel); got != redistest.Error(errLongChannel) {
			t.Errorf("%s: %.80v", command, got)
		}
	}
	for _, words := range longEnough {
		if got := attacker.Do(words...); got != "OK" {
			t.Errorf("%.40v: %.80v", words, got)
		}
	}
	if got := attacker.Do("CLIENT", "GETNAME"); got != longest {
		t.Errorf("name: %.40v", got)
	}
	if got := fmt.Sprint(attacker.Do("PROXY", "CLIENTS")); strings.Contains(got, strings.Repeat("n", maxShownName)) || !strings.Contains(got, "nnn...") {
		t.Errorf("PROXY CLIENTS: %d bytes", len(got))
	}
	if got := attacker.Do("SUBSCRIBE", longestChannel); got.([]any)[1] != longestChannel {
		t.Errorf("SUBSCRIBE: %.80v", got)
	}
	watcher.end()
}

// A pattern is refused before it can keep the loop of others busy.
func TestLongPatternsKeepNobodyWaiting(t *testing.T) { overBackends(t, nil, askForLongPatterns) }

func askForLongPatterns(t *testing.T, nodes backing) {
	b := startBerth(t, nodes.url(""), "--loops", "1")
	watcher := startBystander(t, b.Addr())
	attacker := dial(t, b.Addr())
	for range sized(5, 100) {
		if got := attacker.Do("COMMAND", "LIST", "FILTERBY", "PATTERN", "*["+strings.Repeat("a-", 1<<19)); got != redistest.Error(errLongPattern) {
			t.Errorf("%.80v", got)
		}
		if got := attacker.Do("CONFIG", "GET", "*["+strings.Repeat("a-", 1<<19)); got != redistest.Error(errLongPattern) {
			t.Errorf("CONFIG GET: %.80v", got)
		}
	}
	if got, ok := attacker.Do("COMMAND", "LIST", "FILTERBY", "PATTERN", "x"+strings.Repeat("*", 4000)+"[d-f][d-f]").([]any); !ok || len(got) == 0 {
		t.Errorf("%.80v", got)
	}
	watcher.end()
}
