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
