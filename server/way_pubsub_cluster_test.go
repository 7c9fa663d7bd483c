package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

func TestShardedSubscriptionsFollowTheirSlot(t *testing.T) {
	parallel(t)
	c := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(c))
	sub, publisher := dial(t, b.Addr()), dial(t, b.Addr())
	const channel = "{moving}news"
	slot := int(router.Slot([]byte(channel)))
	if got := fmt.Sprint(sub.Do("SSUBSCRIBE", channel)); got != "[ssubscribe "+channel+" 1]" {
		t.Fatal(got)
	}
	from := c.Owner(slot)
	for move := range 3 {
		to := (from + 1) % 3
		c.MoveSlot(t, slot, from, to)
		from = to
		subscribedAt := func(i int) bool {
			return fmt.Sprint(c.Node(i).Do(t, "PUBSUB", "SHARDNUMSUB", channel)) != "["+channel+" 0]"
		}
		eventually(t, "the subscription to follow", func() bool { return subscribedAt(to) && !subscribedAt((to+2)%3) })
		for i := range 5 {
			text := fmt.Sprint(move, "-", i)
			if got := fmt.Sprint(publisher.Do("SPUBLISH", channel, text)); got != "1" {
				t.Errorf("SPUBLISH: %s", got)
			}
			if got := fmt.Sprint(sub.Recv()); got != "[smessage "+channel+" "+text+"]" {
				t.Errorf("got %s, want %s: the client must not see that the slot moves", got, text)
			}
		}
	}
	if got := fmt.Sprint(sub.Do("SUNSUBSCRIBE")); got != "[sunsubscribe "+channel+" 0]" {
		t.Error(got)
	}
	if got := fmt.Sprint(sub.Do("SSUBSCRIBE", "a", "b")); got != "CROSSSLOT Keys in request don't hash to the same slot" {
		t.Error(got)
	}
	for i := range 3 {
		eventually(t, "no node to know the channel", func() bool {
			return fmt.Sprint(c.Node(i).Do(t, "PUBSUB", "SHARDCHANNELS")) == "[]"
		})
	}
}

func TestShardedChannelsOfOneClientLieOnAllNodes(t *testing.T) {
	c := sharedCluster(t)
	b := startBerth(t, clusterURL(c), "--loops", "2")
	var subs []*redistest.Conn
	for range 10 {
		sub := dial(t, b.Addr())
		for i := range 12 {
			if got := fmt.Sprint(sub.Do("SSUBSCRIBE", fmt.Sprint("shards:", i))); got != fmt.Sprintf("[ssubscribe shards:%d %d]", i, i+1) {
				t.Fatal(got)
			}
		}
		if got := fmt.Sprint(sub.Do("SUBSCRIBE", "shards:0")); got != "[subscribe shards:0 1]" {
			t.Fatal(got)
		}
		subs = append(subs, sub)
	}
	for i := range 3 {
		if n := nodeSubscribers(t, c.Node(i)); n < 1 || n > 2 {
			t.Errorf("node %d has %d connections of subscribers, with 2 loops", i, n)
		}
	}
	publisher := dial(t, b.Addr())
	for i := range 12 {
		publisher.Do("SPUBLISH", fmt.Sprint("shards:", i), i)
	}
	for _, sub := range subs {
		seen := map[string]bool{}
		for range 12 {
			seen[fmt.Sprint(sub.Recv())] = true
		}
		if len(seen) != 12 {
			t.Errorf("%d different messages of 12", len(seen))
		}
		if got := fmt.Sprint(sub.Do("PING")); got != "[pong ]" {
			t.Error(got)
		}
		sub.Send("SUNSUBSCRIBE")
		for i := range 12 {
			if got := fmt.Sprint(sub.Recv()); got != fmt.Sprintf("[sunsubscribe shards:%d %d]", i, 11-i) {
				t.Error(got)
			}
		}
	}
}

func TestSubscribersGoToAnotherNodeWhenTheirsDies(t *testing.T) {
	parallel(t)
	c := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(c), "--loops", "1")
	sub := dial(t, b.Addr())
	sub.Do("SUBSCRIBE", "a")
	sub.Do("PSUBSCRIBE", "b*")
	home := -1
	for i := range 3 {
		if nodeSubscribers(t, c.Node(i)) > 0 {
			if home >= 0 {
				t.Errorf("nodes %d and %d both have a connection", home, i)
			}
			home = i
		}
	}
	c.Node(home).Kill()
	other := c.Node((home + 1) % 3)
	sub.SetTimeout(50 * time.Millisecond)
	for _, channel := range []string{"a", "bb"} {
		eventually(t, "a message to come by another node", func() bool {
			other.Do(t, "PUBLISH", channel, "x")
			_, err := sub.TryRecv()
			return err == nil
		})
		for err := error(nil); err == nil; _, err = sub.TryRecv() { // the rest of them
		}
	}
	sub.SetTimeout(10 * time.Second)
	if got := fmt.Sprint(sub.Do("SUBSCRIBE", "c")); got != "[subscribe c 3]" {
		t.Error(got)
	}
}

func TestClusterKeepsTheOrderOfWhatSeveralClientsPublish(t *testing.T) {
	c := sharedCluster(t)
	b := startBerth(t, clusterURL(c), "--loops", "2")
	subs := []*redistest.Conn{dial(t, b.Addr()), dial(t, b.Addr())}
	if got := fmt.Sprint(subs[0].Do("PSUBSCRIBE", "order:*")); got != "[psubscribe order:* 1]" {
		t.Fatal(got)
	}
	subs[1].Send("SUBSCRIBE", "order:0", "order:1", "order:2", "order:3")
	for range 4 {
		subs[1].Recv()
	}
	var publishers []*redistest.Conn
	for range 4 {
		publishers = append(publishers, dial(t, b.Addr()))
	}
	const messages = 200
	for i := range messages {
		p, channel := publishers[i%len(publishers)], fmt.Sprint("order:", i/3%4)
		if i%5 < 4 {
			p.Do("PUBLISH", channel, i)
		} else {
			p.Do("MULTI")
			p.Do("PUBLISH", channel, i)
			p.Do("EXEC")
		}
	}
	for _, sub := range subs {
		for i := range messages {
			heard := sub.Recv().([]any)
			if got := fmt.Sprint(heard[len(heard)-1]); got != fmt.Sprint(i) {
				t.Fatalf("message %s came as number %d", got, i)
			}
		}
	}
}

// heard is how many messages a subscriber gets before the answer to a PING.
func heard(sub *redistest.Conn) (n int) {
	sub.Send("PING")
	for fmt.Sprint(sub.Recv()) != "[pong ]" {
		n++
	}
	return n
}

func TestKeyEventsComeFromAllPrimaries(t *testing.T) {
	parallel(t)
	c := redistest.StartCluster(t, 3, 0, "--notify-keyspace-events", "KEA")
	b := startBerth(t, clusterURL(c), "--loops", "2")
	var subs []*redistest.Conn
	for _, words := range [][]any{
		{"PSUBSCRIBE", "__keyevent@0__:s*"}, {"SUBSCRIBE", "__keyevent@0__:set"}, {"PSUBSCRIBE", "*"},
		{"SUBSCRIBE", "__keyspace@0__:k0", "__keyspace@0__:k1", "__keyspace@0__:k2", "__keyspace@0__:k3"},
	} {
		sub := dial(t, b.Addr())
		sub.Send(words...)
		for range len(words) - 1 {
			sub.Recv()
		}
		subs = append(subs, sub)
	}
	client := dial(t, b.Addr())
	const keys = 12
	for i := range keys {
		client.Do("SET", fmt.Sprint("k", i), "v")
	}
	if got := client.Do("PUBLISH", "last", "once"); got != int64(1) {
		t.Errorf("%v hear what is published to all", got)
	}
	if got := fmt.Sprint(client.Do("PUBSUB", "NUMSUB", "__keyevent@0__:set"), client.Do("PUBSUB", "NUMPAT")); got != "[__keyevent@0__:set 1] 2" {
		t.Error(got)
	}
	for i, want := range []int{keys, keys, 2*keys + 1, 4} {
		if got := heard(subs[i]); got != want {
			t.Errorf("subscriber %d heard %d messages, want %d", i, got, want)
		}
	}

	const moving = "{moving}key"
	slot, joined := int(router.Slot([]byte(moving))), c.Join(t)
	c.MoveSlot(t, slot, c.Owner(slot), joined)
	eventually(t, "the events of a primary that has come later", func() bool {
		client.Do("SET", moving, "v")
		return heard(subs[0]) == 1 && fmt.Sprint(c.Node(joined).Do(t, "PUBSUB", "NUMPAT")) == "2"
	})
	for _, sub := range subs {
		sub.Close()
	}
	for i := range c.Len() {
		eventually(t, "no node to be subscribed to", func() bool {
			return fmt.Sprint(c.Node(i).Do(t, "PUBSUB", "NUMPAT"), c.Node(i).Do(t, "PUBSUB", "CHANNELS")) == "0 []"
		})
	}
}
