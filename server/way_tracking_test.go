package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// bothPush sends the same commands to both, and compares replies and pushes. When a push comes between replies that berth
// makes itself is not the node's to say.
func bothPush(t *testing.T, ours, theirs *redistest.Conn, lines string) {
	t.Helper()
	say := func(c *redistest.Conn) (replies, pushes string) {
		c.WriteString(strings.ReplaceAll(lines, "; ", "\r\n") + "\r\nCLIENT REPLY ON\r\nGET no:mark\r\nGETRANGE no:mark 0 0\r\n")
		for !strings.HasSuffix(replies, "$0\r\n\r\n") {
			if reply := c.RecvRaw(); reply[0] == '>' {
				pushes += reply
			} else {
				replies += reply
			}
		}
		return ownID.ReplaceAllString(replies, "id:n"), pushes
	}
	got, gotPushes := say(ours)
	want, wantPushes := say(theirs)
	if got != want || gotPushes != wantPushes {
		t.Errorf("%s:\n got %q\nwant %q\nheard %q\n want %q", lines, got, want, gotPushes, wantPushes)
	}
}

func TestTrackingCommandsAnswerAsRedis(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, redistest.Start(t).Addr())
	for _, resp := range []string{"2", "3"} {
		for _, lines := range []string{
			"CLIENT TRACKING ON; CLIENT TRACKINGINFO; CLIENT GETREDIR; CLIENT CACHING YES; CLIENT CACHING x; CLIENT TRACKING ON OPTIN; CLIENT CACHING YES; CLIENT CACHING NO; CLIENT TRACKING OFF; CLIENT TRACKING OFF; CLIENT CACHING YES",
			"CLIENT TRACKING ON BCAST; CLIENT TRACKING ON; CLIENT TRACKING ON BCAST PREFIX a; CLIENT TRACKINGINFO; CLIENT TRACKING ON BCAST OPTIN; CLIENT TRACKING ON PREFIX a; CLIENT TRACKING ON REDIRECT x",
			"CLIENT TRACKING ON OPTIN OPTOUT; CLIENT TRACKING ON OPTIN; CLIENT TRACKING ON OPTOUT; CLIENT TRACKING ON NOLOOP; CLIENT TRACKINGINFO; HELLO 2; CLIENT TRACKINGINFO; HELLO 3; CLIENT TRACKINGINFO; CLIENT TRACKING OFF PREFIX a; CLIENT TRACKINGINFO",
			"CLIENT TRACKING ON; WATCH k; MULTI; SET k 1; GET k; EXEC; WATCH k; UNWATCH; SET k 2; MULTI; EXEC; MULTI; GET k; EXEC; BLPOP l 0.01; SELECT 1; GET k; SELECT 0; MGET k l; RESET; CLIENT TRACKINGINFO",
			"CLIENT TRACKING ON; SET k 1; GET k; SET k 2; GET k; SET k 3; MULTI; GET k; SET k 4; EXEC",
			"CLIENT TRACKING ON NOLOOP; GET k; SET k 2; BLPOP k 1; GET k",
			"CLIENT TRACKING ON OPTIN; GET k; SET k 1; CLIENT CACHING YES; GET k; SET k 2; CLIENT CACHING YES; ECHO x; GET k; SET k 3; CLIENT CACHING YES; MULTI; GET k; EXEC; SET k 4",
			"CLIENT TRACKING ON OPTOUT; CLIENT CACHING NO; GET k; SET k 1; GET k; SET k 2; FLUSHALL",
			"CLIENT REPLY OFF; CLIENT TRACKING ON; GET k; SET k 1",
			"MULTI; CLIENT TRACKING ON OPTIN; CLIENT CACHING YES; EXEC; CLIENT TRACKINGINFO; CLIENT TRACKING OFF",
		} {
			ours, theirs := dial(t, b.Addr()), dial(t, node.Addr())
			bothSay(t, ours, theirs, "HELLO "+resp)
			bothPush(t, ours, theirs, lines)
			ours.Close()
			theirs.Close()
		}
	}
}

func TestTrackingClientHearsOfOthersWritesAndItsLeaseIsNotPooled(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("HELLO", 3)
	c.Do("CLIENT", "TRACKING", "ON")
	c.Do("GET", "seen")
	if line := fmt.Sprint(c.Do("CLIENT", "INFO")); field(line, "flags") != "t" || field(line, "redir") != "0" {
		t.Errorf("CLIENT INFO: %s", line)
	}
	other.Do("SET", "unseen", 1)
	other.Do("SET", "seen", 1)
	if got := c.RecvRaw(); got != ">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\nseen\r\n" {
		t.Errorf("heard %q", got)
	}
	for _, end := range []string{"CLIENT TRACKING OFF", "RESET"} {
		if s := b.leases(); s.Leased != 1 {
			t.Errorf("while it tracks: %+v", s)
		}
		c.Do(strings.Fields(end))
		eventually(t, "the lease to be closed", func() bool { s := b.leases(); return s.Leased+s.Idle == 0 })
		c.Do("HELLO", 3)
		c.Do("CLIENT", "TRACKING", "ON")
	}
	c.Close()
	eventually(t, "the lease to be closed", func() bool { s := b.leases(); return s.Leased+s.Idle == 0 })
}

func TestTrackingClientIsClosedWithItsConnection(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c := dial(t, b.Addr())
	c.Do("HELLO", 3)
	c.Do("CLIENT", "TRACKING", "ON")
	c.Do("GET", "k")
	for line := range strings.Lines(node.Do(t, "CLIENT", "LIST").(string)) {
		if strings.Contains(field(line, "flags"), "t") {
			node.Do(t, "CLIENT", "KILL", "ID", field(line, "id"))
		}
	}
	if rest := c.ReadAll(); rest != "" {
		t.Errorf("got %q before the end", rest)
	}
}

func TestCachedReadsOfRueidisEndWithTheNextWrite(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr())
	dialled := rueidis.ClientOption{InitAddress: []string{b.Addr()}, ForceSingleClient: true}
	dialled.Dialer = net.Dialer{Timeout: 5 * time.Second}
	client, err := rueidis.NewClient(dialled)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	read := func() (string, bool) {
		got := client.DoCache(ctx, client.B().Get().Key("cached").Cache(), time.Minute)
		value, err := got.ToString()
		if err != nil {
			t.Fatal(err)
		}
		return value, got.IsCacheHit()
	}
	other := dial(t, b.Addr())
	other.Do("SET", "cached", "old")
	if v, hit := read(); v != "old" || hit {
		t.Errorf("first: %q, from the cache %v", v, hit)
	}
	if v, hit := read(); v != "old" || !hit {
		t.Errorf("second: %q, from the cache %v", v, hit)
	}
	other.Do("SET", "cached", "new")
	eventually(t, "the client to see the new value", func() bool { v, _ := read(); return v == "new" })
}

// What berth itself says to a node is nobody's request, and yet the client's next command, for
// another node, waits for the reply.
func TestClientThatTracksGoesOnAfterAnUnwatchAtAnotherNode(t *testing.T) {
	cluster := sharedCluster(t)
	b := startBerth(t, clusterURL(cluster))
	keys := map[int]string{}
	for i := 0; len(keys) < 2; i++ {
		key := unique("tracked")
		keys[cluster.Owner(int(router.Slot([]byte(key))))] = key
	}
	var all []string
	for _, key := range keys {
		all = append(all, key)
	}
	for _, end := range []string{"UNWATCH", "DISCARD"} {
		c := dial(t, b.Addr())
		c.Do("HELLO", 3)
		script(t, c, "CLIENT TRACKING ON → OK", "WATCH "+all[0]+" → OK", "MULTI → OK")
		if end == "UNWATCH" {
			script(t, c, "DISCARD → OK", "WATCH "+all[0]+" → OK")
		}
		c.WriteString(pipeline(end, "GET "+all[1], "GET "+all[0]))
		if got := fmt.Sprint([]any{c.Recv(), c.Recv(), c.Recv()}); got != "[OK <nil> <nil>]" {
			t.Errorf("%s: %s", end, got)
		}
	}
}

// What berth keeps to tell each new node is bounded, counts as memory of the client, and can be switched off.
func TestTrackingPrefixesOfAClientAreBounded(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr())
	c := dial(t, b.Addr())
	c.Do("HELLO", 3)
	took := 0
	for i := range 200 {
		prefix := fmt.Sprintf("%03d:%s", i, strings.Repeat("x", 1<<10))
		got := fmt.Sprint(c.Do("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix))
		if got == errTrackingPrefixes {
			break
		}
		if got != "OK" {
			t.Fatal(got)
		}
		took++
	}
	if took < 50 || took > 64 {
		t.Errorf("%d prefixes of 1 KB were taken", took)
	}
	if n := b.count(func(s *session) bool { return s.weight() > took<<10 }); n != 1 {
		t.Errorf("%d clients weigh more than their prefixes", n)
	}
	script(t, c, "CLIENT TRACKING OFF → OK")
	script(t, c, "CLIENT TRACKING ON → OK")
}
