package main

import (
	"io"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/config"
)

// defaults returns the settings of a berth that was told nothing.
func defaults(t testing.TB) *config.Settings {
	t.Helper()
	s, exit := config.Read(nil, nil, io.Discard, io.Discard)
	if s == nil {
		t.Fatalf("defaults: exit code %d", exit)
	}
	return s
}

// answer is what berth replies to a CONFIG request, name and subcommand included.
func answer(s *config.Settings, args ...string) string {
	var rest [][]byte
	for _, a := range args[2:] {
		rest = append(rest, []byte(a))
	}
	switch strings.ToLower(args[1]) {
	case "get":
		return string(appendSettings(nil, s.Match(rest), 2))
	case "set":
		return string(appendConfigSet(nil, s, rest))
	case "rewrite":
		return string(appendConfigRewrite(nil, s))
	}
	panic("no reply of CONFIG's own: " + args[1])
}

// Options that berth shares with Redis answer byte for byte what redis-server answers.
func TestConfigAnswersAsRedis(t *testing.T) {
	server := redistest.Start(t)
	conn := redistest.Dial(t, server.Addr())
	s := defaults(t)
	for _, request := range [][]string{
		{"CONFIG", "REWRITE"},
		{"CONFIG", "SET", "maxclients", "200"},
		{"CONFIG", "GET", "maxclients"},
		{"CONFIG", "GET", "MaxClients"},
		{"CONFIG", "GET", "no-such-option", "not-this*"},
		{"CONFIG", "SET", "maxclients", "abc"},
		{"CONFIG", "SET", "maxclients", ""},
		{"CONFIG", "SET", "maxclients", "0"},
		{"CONFIG", "SET", "maxclients", "-1"},
		{"CONFIG", "SET", "maxclients", "010"},
		{"CONFIG", "SET", "maxclients", "+10"},
		{"CONFIG", "SET", "maxclients", " 10"},
		{"CONFIG", "SET", "maxclients", "4294967296"},
		{"CONFIG", "SET", "maxclients", "99999999999999999999999"},
		{"CONFIG", "SET", "timeout", "5", "TIMEOUT", "6"},
		{"CONFIG", "SET", "timeout", "5", "timeout"},
		{"CONFIG", "SET", "timeout", "5", "nope", "3"},
		{"CONFIG", "SET", "nope", "3", "nope2", "4"},
		{"CONFIG", "SET", "nope", "3", "tcp-backlog", "4"},
		{"CONFIG", "SET", "tcp-backlog", "4", "nope", "4"},
		{"CONFIG", "SET", "timeout", "77", "tcp-backlog", "4"},
		{"CONFIG", "SET", "timeout", "77", "maxclients", "nine"},
		{"CONFIG", "GET", "timeout"},
		{"CONFIG", "SET", "TimeOut", "300", "tcp-keepalive", "20", "loglevel", "WARNING"},
		{"CONFIG", "GET", "loglevel"},
		{"CONFIG", "SET", "loglevel", "foo"},
		{"CONFIG", "SET", "loglevel", "verbose"},
		{"CONFIG", "GET", "loglevel"},
		{"CONFIG", "GET", "tcp-keep*"},
		{"CONFIG", "GET", "TCP-KEEPALIV?"},
		{"CONFIG", "GET", "tcp-keepalive", "tcp-keepal[a-i]ve"},
		{"CONFIG", "SET", "proto-max-bulk-len", "1xb"},
		{"CONFIG", "SET", "proto-max-bulk-len", "-1"},
		{"CONFIG", "SET", "proto-max-bulk-len", "1"},
		{"CONFIG", "SET", "proto-max-bulk-len", "2Gb"},
		{"CONFIG", "GET", "proto-max-bulk-len"},
		{"CONFIG", "SET", "client-query-buffer-limit", "1g"},
		{"CONFIG", "GET", "client-query-buffer-limit"},
		{"CONFIG", "SET", "client-output-buffer-limit", "normal 1"},
		{"CONFIG", "SET", "client-output-buffer-limit", "foo 1 2 3"},
		{"CONFIG", "SET", "client-output-buffer-limit", "normal a 2mb 3"},
		{"CONFIG", "SET", "client-output-buffer-limit", "normal 1 2mb -3"},
		{"CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 2mb 3 pubsub 1 2 3"},
		{"CONFIG", "SET", "client-output-buffer-limit", "PubSub 1kb 2k 4"},
	} {
		want := conn.DoRaw(anys(request)...)
		want = strings.Replace(want, "notice, warning\r\n", "notice, warning, nothing\r\n", 1) // which Redis before 7.2 does not have
		if got := answer(s, request...); got != want {
			t.Errorf("%q:\n redis %q\n berth %q", request, want, got)
		}
	}
}

func anys(words []string) []any {
	all := make([]any, len(words))
	for i, w := range words {
		all[i] = w
	}
	return all
}

func TestConfigGetIsAMapInRESP3(t *testing.T) {
	s := defaults(t)
	got := string(appendSettings(nil, s.Match([][]byte{[]byte("port"), []byte("loglevel")}), 3))
	if want := "%2\r\n$4\r\nport\r\n$4\r\n7379\r\n$8\r\nloglevel\r\n$6\r\nnotice\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := string(appendSettings(nil, s.Match([][]byte{[]byte("none")}), 3)); got != "%0\r\n" {
		t.Errorf("an unknown name gives %q", got)
	}
}

func TestConnectTimeoutSetWhileRunningHoldsForBerthsOwnQuestions(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	berth := startBerth(t, node.Addr(), "--backend-connect-timeout-ms", "3600000")
	c := dial(t, berth.Addr())
	if got := c.Do("CONFIG", "SET", "backend-connect-timeout-ms", "50"); got != "OK" {
		t.Fatal(got)
	}
	node.Pause()
	defer node.Resume()
	berth.srv.nodes.Refresh()
	eventually(t, "berth to give up a silent node", func() bool { return !berth.srv.nodes.Ready() })
}
