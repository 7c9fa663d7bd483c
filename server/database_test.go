package main

import (
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestClientsBeginInTheDatabaseOfTheBackendURL(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	berth := startBerth(t, "redis://"+node.Addr()+"/2")
	c := redistest.Dial(t, berth.Addr())
	c.Do("SET", "k", "in 2")
	c.Do("SELECT", "0")
	c.Do("SET", "k", "in 0")
	c.Do("RESET")
	if got := c.Do("GET", "k"); got != "in 2" {
		t.Fatalf("after RESET: %v", got)
	}
	direct := redistest.Dial(t, node.Addr())
	if got := direct.Do("GET", "k"); got != "in 0" {
		t.Fatalf("database 0 has %v", got)
	}
}
