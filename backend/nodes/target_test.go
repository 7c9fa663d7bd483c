package nodes

import (
	"bytes"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func TestTargetIsReadFromItsURL(t *testing.T) {
	for _, test := range []struct {
		url    string
		want   Target
		string string
	}{
		{"redis://localhost", Target{Addrs: []string{"localhost:6379"}}, "redis://localhost:6379"},
		{"REDIS://localhost/", Target{Addrs: []string{"localhost:6379"}}, "redis://localhost:6379"},
		{"redis://10.0.0.1:7001/3", Target{Addrs: []string{"10.0.0.1:7001"}, DB: 3}, "redis://10.0.0.1:7001/3"},
		{"redis://h?db=4", Target{Addrs: []string{"h:6379"}, DB: 4}, "redis://h:6379/4"},
		{"redis://a:7001,b:7002, c", Target{Addrs: []string{"a:7001", "b:7002", "c:6379"}}, "redis://a:7001,b:7002,c:6379"},
		{"redis://[::1]:7001,[fe80::2]", Target{Addrs: []string{"[::1]:7001", "[fe80::2]:6379"}}, "redis://[::1]:7001,[fe80::2]:6379"},
		{"redis://:secret@h", Target{Addrs: []string{"h:6379"}, Password: "secret"}, "redis://:***@h:6379"},
		{"redis://app:secret@h:1/2", Target{Addrs: []string{"h:1"}, User: "app", Password: "secret", DB: 2}, "redis://app:***@h:1/2"},
		{"redis://app@h", Target{Addrs: []string{"h:6379"}, User: "app"}, "redis://app@h:6379"},
		{"redis://app:s%40e%2Fc%3Ar+t@h", Target{Addrs: []string{"h:6379"}, User: "app", Password: "s@e/c:r+t"}, "redis://app:***@h:6379"},
		{"redis://app:a@b:c@h", Target{Addrs: []string{"h:6379"}, User: "app", Password: "a@b:c"}, "redis://app:***@h:6379"},
		{"rediss://app:secret@h/2", Target{TLS: true, Addrs: []string{"h:6379"}, User: "app", Password: "secret", DB: 2}, "rediss://app:***@h:6379/2"},
		{"rediss+sentinel://a/m", Target{TLS: true, Addrs: []string{"a:26379"}, Master: "m"}, "rediss+sentinel://a:26379/m"},
		{"redis+sentinel://a/m", Target{Addrs: []string{"a:26379"}, Master: "m"}, "sentinel://a:26379/m"},
		{"sentinel://a,b:7002/mymaster", Target{Addrs: []string{"a:26379", "b:7002"}, Master: "mymaster"}, "sentinel://a:26379,b:7002/mymaster"},
		{"Sentinel://app:secret@a/my%2Fmaster/2", Target{Addrs: []string{"a:26379"}, Master: "my/master", User: "app", Password: "secret", DB: 2},
			"sentinel://app:***@a:26379/my%2Fmaster/2"},
		{"unix:///run/redis.sock", Target{Addrs: []string{"/run/redis.sock"}}, "unix:///run/redis.sock"},
		{"unix:///run/my%20redis.sock?db=2", Target{Addrs: []string{"/run/my redis.sock"}, DB: 2}, "unix:///run/my redis.sock?db=2"},
		{"unix://app:secret@/run/redis.sock", Target{Addrs: []string{"/run/redis.sock"}, User: "app", Password: "secret"}, "unix://app:***@/run/redis.sock"},
	} {
		got, err := ParseTarget(test.url)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v (%v), want %v", test.url, got, err, test.want)
		}
		if got.String() != test.string {
			t.Errorf("%s: prints as %s, want %s", test.url, got, test.string)
		}
	}
}

func TestWrongTargetsAreRefusedInWordsWithoutThePassword(t *testing.T) {
	for _, test := range []struct{ url, words string }{
		{"localhost:6379", "redis://host:port"},
		{"app:secret@localhost:6379", "redis://host:port"},
		{"http://app:secret@h", "begins with redis://"},
		{"secret://h", "begins with redis://"},
		{"redis://", "names no host"},
		{"sentinel://h", "the name under which they watch"},
		{"sentinel://h/", "the name under which they watch"},
		{"sentinel:///mymaster", "names no host"},
		{"sentinel://h/my#master", "no #fragment"},
		{"sentinel://h/mymaster/db", "number of a database"},
		{"redis://:6379", "names no host"},
		{"redis://:secret@", "names no host"},
		{"redis://h,", "names no host"},
		{"redis://my host", "names no host"},
		{"redis://::1", "in brackets"},
		{"redis://:secret@::1:6379", "in brackets"},
		{"redis://h:0", "no port between"},
		{"redis://h:65536", "no port between"},
		{"redis://h:port", "no port between"},
		{"redis://h:", "no port between"},
		{"redis://h/first", "number of a database"},
		{"redis://h/-1", "number of a database"},
		{"redis://h/1/2", "number of a database"},
		{"redis://h/99999999999", "number of a database"},
		{"redis://h?db=x", "number of a database"},
		{"redis://h?password=secret", "the option db only"},
		{"redis://h#db", "no #fragment"},
		{"redis://app:secret%@h", "write % as %25"},
		{"redis://app:sec%zzret@h", "write % as %25"},
		{"redis://app:secret/more@h", "write / as %2F"},
		{"redis://app:secret#more@h", "write / as %2F"},
		{"unix://redis.sock", "unix:///path"},
		{"unix:///", "unix:///path"},
		{"unix:///run/redis.sock?password=secret", "the option db only"},
	} {
		got, err := ParseTarget(test.url)
		if err == nil {
			t.Errorf("%s: is accepted as %v", test.url, got)
			continue
		}
		if !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q and no password", test.url, err, test.words)
		}
	}
	if _, err := ParseTarget("redisss://:secret@h"); err == nil {
		t.Error("redisss:// is taken")
	}
}

func TestTargetNeverPrintsItsPassword(t *testing.T) {
	target, err := ParseTarget("redis://app:secret@h:1/2")
	if err != nil {
		t.Fatal(err)
	}
	var logs bytes.Buffer
	slog.New(slog.NewJSONHandler(&logs, nil)).Info("x", "target", target)
	slog.New(slog.NewTextHandler(&logs, nil)).Info("x", "target", target)
	printed := fmt.Sprintf("%v %+v %#v %s %q", target, target, target, target, target) + logs.String()
	if strings.Contains(printed, "secret") {
		t.Fatal(printed)
	}
	if n := strings.Count(printed, "app:***@h:1/2"); n != 7 {
		t.Fatalf("printed %d of 7 times: %s", n, printed)
	}
}
