package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/feed"
	"github.com/berth-proxy/berth/backend/redistest"
)

// counts is what a client reads of the subscribers of a channel, of a shard channel and of
// patterns.
func counts(c *redistest.Conn, prefix string) string {
	var all []string
	for _, words := range [][]any{
		{"PUBLISH", prefix + "a", "m"}, {"PUBLISH", prefix + "b", "m"}, {"SPUBLISH", prefix + "s", "m"},
		{"PUBSUB", "NUMSUB", prefix + "a", prefix + "b", prefix + "a"}, {"PUBSUB", "SHARDNUMSUB", prefix + "s", prefix + "a"},
		{"PUBSUB", "CHANNELS", prefix + "*"}, {"PUBSUB", "SHARDCHANNELS", prefix + "*"},
		{"PUBSUB", "NUMPAT"},
	} {
		all = append(all, strings.ReplaceAll(fmt.Sprint(c.Do(words...)), prefix, ""))
	}
	c.Do("MULTI")
	c.Do("PUBLISH", prefix+"a", "m")
	c.Do("SET", prefix+"s", "v")
	c.Do("SPUBLISH", prefix+"s", "m")
	all = append(all, fmt.Sprint(c.Do("EXEC")))
	return strings.Join(all, " ")
}

func TestPublishAndPubsubCountClients(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	c := redistest.StartCluster(t, 3, 0)
	for name, backend := range map[string]string{"node": node.Addr(), "cluster": clusterURL(c)} {
		t.Run(name, func(t *testing.T) {
			b := startBerth(t, backend, "--loops", "2")
			asker := dial(t, b.Addr())
			var subs []*redistest.Conn
			for range 5 {
				sub := dial(t, b.Addr())
				sub.Do("SUBSCRIBE", "{n}a")
				sub.Do("SSUBSCRIBE", "{n}s")
				subs = append(subs, sub)
			}
			for _, sub := range subs[:2] {
				sub.Do("PSUBSCRIBE", "{n}[ab]")
				sub.Do("PSUBSCRIBE", "{n}\\a")
				sub.Do("PSUBSCRIBE", "{n}A*")
			}
			const want = "9 2 5 [a 5 b 0 a 5] [s 5 a 0] [a] [s] 3 [9 OK 5]"
			if got := counts(asker, "{n}"); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			for _, sub := range subs {
				sub.Do("HELLO", "3") // in RESP2 a subscriber may send no ECHO
			}
			for i, sub := range subs[:4] {
				for _, word := range []string{"UNSUBSCRIBE", "SUNSUBSCRIBE", "PUNSUBSCRIBE"} {
					sub.Send(word)
				}
				sub.Send("ECHO", "last")
				for sub.Recv() != "last" {
				}
				left := fmt.Sprintf("[a %d", 4-i)
				if got := fmt.Sprint(asker.Do("PUBSUB", "NUMSUB", "{n}a")); !strings.Contains(got, strings.Replace(left, "a", "{n}a", 1)) {
					t.Errorf("%s after %d have gone", got, i+1)
				}
			}
			if got, want := counts(asker, "{n}"), "1 0 1 [a 1 b 0 a 1] [s 1 a 0] [a] [s] 0 [1 OK 1]"; got != want {
				t.Errorf("%s, want %s", got, want)
			}
			subs[4].Close()
			const nobody = "0 0 0 [a 0 b 0 a 0] [s 0 a 0] [] [] 0 [0 OK 0]"
			eventually(t, "all to be gone", func() bool { return counts(asker, "{n}") == nobody })
		})
	}
}

func TestSubscribersBesideBerthAreCounted(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	one, other := startBerth(t, node.Addr(), "--loops", "1"), startBerth(t, node.Addr(), "--loops", "1")
	direct := redistest.Dial(t, node.Addr())
	direct.Do("SUBSCRIBE", "a")
	direct.Do("PSUBSCRIBE", "a*")
	for _, b := range []*berthServer{one, other} {
		for range 3 {
			sub := dial(t, b.Addr())
			sub.Do("SUBSCRIBE", "a")
			sub.Do("PSUBSCRIBE", "a*")
		}
	}
	// 6 subscriptions of its own, 2 of the direct client, 2 of the other berth's connection.
	if got := fmt.Sprint(dial(t, one.Addr()).Do("PUBLISH", "a", "m")); got != "10" {
		t.Errorf("%s, want 10", got)
	}
	if got := fmt.Sprint(dial(t, one.Addr()).Do("PUBSUB", "NUMSUB", "a")); got != "[a 5]" {
		t.Errorf("%s, want 5", got)
	}
}

func TestUnsubscribedClientIsNotCountedThoughTheNodeStillCountsItsFeed(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "2")
	sub, asker := dial(t, b.Addr()), dial(t, b.Addr())
	for range 50 {
		sub.Send("SUBSCRIBE", "a")
		sub.Send("UNSUBSCRIBE", "a")
		sub.Recv()
		sub.Recv()
		if got := asker.Do("PUBLISH", "a", "m"); got != int64(0) {
			t.Fatalf("%v hear it", got)
		}
	}
}

// Who begins to listen after a message is not counted for it, even if it listens before the count comes.
func TestWhoListensTooLateIsNotCounted(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr)
	publisher, listener := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, publisher, "SET late 1 → OK")
	for _, addr := range []string{"SUBSCRIBE other", "UNSUBSCRIBE other"} { // so that there is a feed, and the message is counted
		listener.Do(toWords(addr)...)
	}
	listener.Do("SUBSCRIBE", "other")
	l.holdFrom(func(reply string) bool { return reply == ":0\r\n" })
	publisher.Send("PUBLISH", "late", "m")
	eventually(t, "the node to have published", func() bool {
		return strings.Contains(fmt.Sprint(node.Do(t, "INFO", "commandstats")), "cmdstat_publish:calls=1,")
	})
	if got := fmt.Sprint(listener.Do("SUBSCRIBE", "late")); got != "[subscribe late 2]" {
		t.Fatal(got)
	}
	l.release()
	if got := publisher.Recv(); got != int64(0) {
		t.Errorf("it is counted: %v", got)
	}
	script(t, publisher, "PUBLISH late m → 1")
}

// Who leaves a channel is not counted by who publishes afterwards, even before the end is confirmed.
func TestWhoLeavesAChannelIsCountedNoMore(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr, "--loops", "1")
	publisher := dial(t, b.Addr())
	script(t, publisher, "SET left 1 → OK")
	for _, words := range []string{"UNSUBSCRIBE", "UNSUBSCRIBE left:a", "PUNSUBSCRIBE"} {
		c := dial(t, b.Addr())
		c.Do(strings.Replace(strings.Fields(words)[0], "UN", "", 1), "left:a")
		l.holdFrom(func(reply string) bool { return strings.Contains(strings.ToLower(reply), "pong") }) // after which it has left
		c.WriteString(words + "\r\n")
		eventually(t, "berth to have read it", func() bool { return b.listeners("left:a") == 0 })
		script(t, publisher, "PUBLISH left:a m → 0")
		l.release()
		c.Close()
	}
}

// listeners is how many of berth's clients a message of a channel is counted for.
func (b *berthServer) listeners(name string) int {
	n, _ := b.srv.audience.Hears(feed.PlainChannel, []byte(name), "")
	return n
}
