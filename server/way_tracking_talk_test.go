package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// trackingTalks are conversations of a client that tracks and of another one that writes, "o:" in front of its commands.
var trackingTalks = map[string][]string{
	"reads are remembered until they change, once": {
		"HELLO 3", "CLIENT TRACKING ON", "GET {t}a", "o:SET {t}a 1", "GET {t}x", "o:SET {t}a 2", "GET {t}x", "GET {t}a", "o:DEL {t}a", "PING",
		"CLIENT TRACKINGINFO", "CLIENT GETREDIR",
	},
	"opt in": {
		"HELLO 3", "CLIENT TRACKING ON OPTIN", "GET {t}a", "o:SET {t}a 1", "PING", "CLIENT CACHING YES", "GET {t}a", "GET {t}b", "o:SET {t}b 1",
		"o:SET {t}a 2", "PING", "CLIENT CACHING NO", "CLIENT CACHING maybe", "CLIENT TRACKINGINFO",
	},
	"opt in, a transaction at a time": {
		"HELLO 3", "CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES", "MULTI", "PTTL {t}a", "GET {t}a", "EXEC", "o:SET {t}a 1", "PING",
		"MULTI", "GET {t}b", "EXEC", "o:SET {t}b 1", "PING",
	},
	"opt out": {
		"HELLO 3", "CLIENT TRACKING ON OPTOUT", "CLIENT CACHING NO", "GET {t}a", "GET {t}b", "o:MSET {t}a 1 {t}b 1", "PING", "CLIENT CACHING YES",
	},
	"own writes count unless they shall not": {
		"HELLO 3", "CLIENT TRACKING ON", "GET {t}a", "SET {t}a 1", "PING", "CLIENT TRACKING OFF", "CLIENT TRACKING ON NOLOOP", "GET {t}a",
		"SET {t}a 2", "PING", "GET {t}a", "o:SET {t}a 3", "PING",
	},
	"watching and blocking go on": {
		"HELLO 3", "CLIENT TRACKING ON", "WATCH {t}a", "GET {t}a", "o:SET {t}a 1", "PING", "MULTI", "SET {t}a 2", "EXEC", "WATCH {t}a", "GET {t}a",
		"MULTI", "GET {t}a", "EXEC", "o:RPUSH {t}l 1 2", "BLPOP {t}l 1", "LRANGE {t}l 0 -1", "o:DEL {t}l", "PING", "BLPOP {t}l 0.01",
		"WATCH {t}a", "UNWATCH", "GET {t}c", "o:SET {t}c 1", "PING",
	},
	"errors": {
		"CLIENT TRACKING ON OPTIN OPTOUT", "CLIENT TRACKING ON PREFIX a", "CLIENT TRACKING perhaps", "CLIENT TRACKING ON perhaps",
		"CLIENT CACHING YES", "CLIENT TRACKINGINFO", "CLIENT GETREDIR", "CLIENT TRACKING ON", "CLIENT TRACKING ON OPTIN", "CLIENT TRACKINGINFO",
		"CLIENT TRACKING OFF", "CLIENT TRACKING OFF",
	},
	"RESP2 hears nothing, until it is RESP3": {
		"CLIENT TRACKING ON", "GET {t}a", "o:SET {t}a 1", "PING", "HELLO 3", "GET {t}a", "o:SET {t}a 2", "PING", "HELLO 2", "GET {t}a", "o:SET {t}a 3", "PING",
	},
	"RESET and OFF end it": {
		"HELLO 3", "CLIENT TRACKING ON", "GET {t}a", "RESET", "HELLO 3", "o:SET {t}a 1", "PING", "CLIENT TRACKINGINFO",
		"CLIENT TRACKING ON", "GET {t}a", "CLIENT TRACKING OFF", "o:SET {t}a 2", "PING", "CLIENT GETREDIR",
	},
}

// broadcastTalks are those that one node alone can hold.
var broadcastTalks = map[string][]string{
	"all keys with a prefix": {
		"HELLO 3", "CLIENT TRACKING ON BCAST PREFIX {t}user: PREFIX {t}item:", "o:SET {t}user:1 a", "o:SET {t}other 1", "PING", "o:SET {t}item:1 b", "PING",
		"CLIENT TRACKINGINFO", "CLIENT TRACKING ON BCAST PREFIX {t}us", "CLIENT TRACKING ON", "CLIENT TRACKING ON BCAST PREFIX {t}more:", "CLIENT TRACKINGINFO",
		"o:SET {t}more:1 c", "PING",
	},
	"another database": {
		"HELLO 3", "CLIENT TRACKING ON", "SELECT 1", "GET {t}a", "o:SET {t}a 1", "PING", "GET {t}b", "SELECT 0", "o:FLUSHALL", "PING",
	},
}

// holdTalk has a conversation and returns every line of it, pushes and replies, in order.
func holdTalk(t *testing.T, tracker, other *redistest.Conn, talk []string) (lines []string) {
	t.Helper()
	for _, line := range talk {
		if command, ok := strings.CutPrefix(line, "o:"); ok {
			other.Do(strings.Fields(command))
			continue
		}
		tracker.Send(strings.Fields(line))
		for {
			reply := tracker.RecvRaw()
			if strings.HasPrefix(line, "HELLO") {
				reply = reply[:1] // its numbers differ
			}
			lines = append(lines, fmt.Sprintf("%s: %q", line, reply))
			if reply[0] != '>' {
				break
			}
		}
	}
	return lines
}

func TestTrackingClientsHearWhatRedisWouldTellThem(t *testing.T) {
	node := redistest.Start(t, "--hz", "100")
	behind := redistest.Start(t, "--hz", "100")
	cluster := clusterURL(sharedCluster(t))
	over := map[string]string{"one node": startBerth(t, behind.Addr()).Addr(), "a Cluster": startBerth(t, cluster).Addr()}
	hold := func(name string, talk []string, kinds ...string) {
		flush := func(addr string) { dial(t, addr).Do("FLUSHALL") }
		flush(node.Addr())
		want := holdTalk(t, dial(t, node.Addr()), dial(t, node.Addr()), talk)
		for _, kind := range kinds {
			flush(over[kind])
			got := holdTalk(t, dial(t, over[kind]), dial(t, over[kind]), talk)
			if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
				t.Errorf("%s, over %s:\n%s\nwant\n%s", name, kind, g, w)
			}
		}
	}
	for name, talk := range trackingTalks {
		hold(name, talk, "one node", "a Cluster")
	}
	for name, talk := range broadcastTalks {
		hold(name, talk, "one node")
	}
}

func TestTrackingOverAClusterFollowsTheKeysToTheirNodes(t *testing.T) {
	b := startBerth(t, clusterURL(sharedCluster(t)))
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	other.Do("FLUSHALL")
	c.Do("HELLO", "3")
	script(t, c, "CLIENT TRACKING ON → OK")
	for i := range 30 {
		c.Do("GET", fmt.Sprint("k", i))
	}
	heard := map[string]bool{}
	for i := range 30 {
		key := fmt.Sprint("k", i)
		other.Do("SET", key, "1")
		push := c.RecvRaw()
		if !strings.HasPrefix(push, ">2\r\n$10\r\ninvalidate\r\n") || heard[push] {
			t.Fatalf("%s changed: %q", key, push)
		}
		heard[push] = true
		if !strings.Contains(push, "\r\n"+key+"\r\n") {
			t.Errorf("%s changed: %q", key, push)
		}
	}
	// What was cut by slot no node remembers: the client forgets it at once.
	if got := c.DoRaw("MGET", "k1", "k2", "k3"); got != "*3\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n" {
		t.Errorf("%q", got)
	}
	if got := c.RecvRaw(); got != forgetAll {
		t.Errorf("behind a command that was cut: %q", got)
	}
	mget := append([]any{"MGET"}, manyKeys("none", 2*sliceKeys)...)
	if got := c.DoRaw(mget...); len(got) < 2*sliceKeys {
		t.Errorf("%.100q", got)
	}
	if got := c.RecvRaw(); got != forgetAll {
		t.Errorf("after a command that was joined in slices: %q", got)
	}
}

func TestTrackingConnectionIsNobodyElsesAfterwards(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "100")
	b := startBerth(t, node.Addr(), "--loops", "1", "--private-conn-pool-max-total", "1")
	for _, leave := range []func(c *redistest.Conn){
		func(c *redistest.Conn) { c.Do("QUIT") },
		func(c *redistest.Conn) { c.Close() },
		func(c *redistest.Conn) { c.Reset() },
		func(c *redistest.Conn) { c.Do("RESET") },
		func(c *redistest.Conn) { c.Do("CLIENT", "TRACKING", "OFF") },
	} {
		c := dial(t, b.Addr())
		c.Do("HELLO", "3")
		script(t, c, "CLIENT TRACKING ON → OK", "GET k → <nil>")
		if list := fmt.Sprint(node.Do(t, "CLIENT", "LIST")); !strings.Contains(list, "flags=t") {
			t.Fatal(list)
		}
		leave(c)
		eventually(t, "the connection is gone", func() bool {
			return !strings.Contains(fmt.Sprint(node.Do(t, "CLIENT", "LIST")), "flags=t")
		})
		next := dial(t, b.Addr())
		script(t, next, "WATCH k → OK", "MULTI → OK", "GET k → QUEUED", "EXEC → [<nil>]")
	}
}
