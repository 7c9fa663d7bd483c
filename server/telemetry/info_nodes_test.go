package telemetry

import (
	"fmt"
	"testing"
)

func TestKeyspaceLinesAreAdded(t *testing.T) {
	var w NodesSaid
	w.AddKeyspace("# Keyspace\r\ndb0:keys=10,expires=1,avg_ttl=1000,subexpiry=2\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n")
	w.AddKeyspace("# Keyspace\r\ndb0:keys=5,expires=3,avg_ttl=5000,subexpiry=1\r\n")
	w.AddKeyspace("# Keyspace\r\n")
	if got := w.keyspace[0].String(); got != "keys=15,expires=4,avg_ttl=4000,subexpiry=3" {
		t.Errorf("db0: %s", got)
	}
	if got := w.keyspace[3].String(); got != "keys=1,expires=0,avg_ttl=0" || len(w.keyspace) != 2 {
		t.Errorf("db3: %s, %d databases", got, len(w.keyspace))
	}
}

func TestFiguresOfSeveralNodesBecomeOne(t *testing.T) {
	var f nodeFigures
	f.Add("# Persistence\r\na:1\r\nstatus:ok\r\nshare:0.50\r\nb:7\r\n", Greater)
	f.Add("# Persistence\r\na:0\r\nstatus:err\r\nshare:0.75\r\nb:9\r\nc:1\r\n", Greater)
	f.Add("a:0\r\nstatus:ok\r\n", Greater)
	if got := fmt.Sprint(f.names, f.values); got != "[a status share b c] map[a:1 b:9 c:1 share:0.50 status:err]" {
		t.Error(got)
	}
}

func TestCallsOfSeveralNodesBecomeOneMean(t *testing.T) {
	var n nodeCalls
	n.Add("# Commandstats\r\ncmdstat_get:calls=2,usec=10,usec_per_call=5.00,rejected_calls=0,failed_calls=0\r\n")
	n.Add("cmdstat_get:calls=2,usec=20,usec_per_call=10.00,rejected_calls=0,failed_calls=0\r\ncmdstat_set:calls=0,usec=0\r\n")
	for _, v := range []struct {
		old  bool
		name string
		of   commandStats
		want string
	}{
		{false, "get", commandStats{ok: 3, failed: 3, rejected: 2}, "calls=4,usec=30,usec_per_call=7.50,rejected_calls=2,failed_calls=1"},
		{false, "get", commandStats{failed: 2, rejected: 2}, "calls=0,usec=0,usec_per_call=0.00,rejected_calls=2,failed_calls=0"},
		{false, "proxy|stats", commandStats{ok: 1}, "calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0"},
		{true, "get", commandStats{ok: 2}, "calls=2,usec=15,usec_per_call=7.50"},
	} {
		n.old = v.old
		if got := n.line(v.name, v.of); got != v.want {
			t.Errorf("%s: %s, want %s", v.name, got, v.want)
		}
	}
	var old nodeCalls
	if old.Add("cmdstat_get:calls=2,usec=10,usec_per_call=5.00\r\n"); !old.old {
		t.Error("a node before 6.2 is not known")
	}
}
