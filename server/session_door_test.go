package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/config"
)

// A client of a unix socket has the socket's path, in the forms of Redis: in CLIENT LIST, as a filter,
// in MONITOR, and in what berth alone shows.
func TestClientOfAUnixSocketIsShownByItsPath(t *testing.T) {
	logged := filepath.Join(t.TempDir(), "berth.log")
	useLog(t, logged, config.LevelDebug)
	dir := t.TempDir()
	node := redistest.Start(t, "--unixsocket", filepath.Join(dir, "redis"))
	startBerth(t, node.Addr(), "--unixsocket", filepath.Join(dir, "berth"))
	var seen [2]string
	for i, path := range []string{filepath.Join(dir, "redis"), filepath.Join(dir, "berth")} {
		c, watcher := dial(t, path), dial(t, path)
		var lines []string
		for field := range strings.FieldsSeq(fmt.Sprint(c.Do("CLIENT", "INFO"))) {
			if name, _, _ := strings.Cut(field, "="); name == "addr" || name == "laddr" || name == "flags" {
				lines = append(lines, field)
			}
		}
		if got := watcher.Do("MONITOR"); got != "OK" {
			t.Fatal(got)
		}
		c.Do("ECHO", "hi")
		line := ""
		for !strings.HasSuffix(line, `"ECHO" "hi"`) { // berth asks the node as well
			_, line, _ = strings.Cut(fmt.Sprint(watcher.Recv()), " ")
		}
		lines = append(lines, line, fmt.Sprint(c.Do("CLIENT", "KILL", "ADDR", path+":0", "TYPE", "normal")))
		lines = append(lines, fmt.Sprint(c.Do("CLIENT", "KILL", "LADDR", path+":0", "SKIPME", "no", "TYPE", "pubsub")))
		seen[i] = strings.ReplaceAll(strings.Join(lines, "\n"), path, "PATH")
		watcher.Close()
	}
	if seen[0] != seen[1] {
		t.Errorf("Redis:\n%s\nberth:\n%s", seen[0], seen[1])
	}

	path := filepath.Join(dir, "berth")
	c, blocked := dial(t, path), dial(t, path)
	blocked.Send("BLPOP", "k", 0)
	eventually(t, "the client to be blocked", func() bool {
		pins := fmt.Sprint(c.Do("PROXY", "PINS"))
		return strings.Contains(pins, "addr "+path+":0 ")
	})
	if got := clientFields(t, c)["addr"]; got != path+":0" {
		t.Errorf("PROXY CLIENTS: %s", got)
	}
	c.Do("AUTH", "nobody", "x")
	if log := readLog(t, logged); !strings.Contains(log, `msg="authentication failed" addr=`+path+":0 ") {
		t.Errorf("the log:\n%s", log)
	}
}
