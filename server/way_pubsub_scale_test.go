package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/telemetry"
)

func TestThousandsOfSubscribersNeedAConnectionPerLoop(t *testing.T) {
	parallel(t)
	const channels, messages = 20, 50
	subscribers := sized(500, 2000)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "2")
	conns := make([]*redistest.Conn, subscribers)
	for i := range conns {
		conns[i] = dial(t, b.Addr())
		conns[i].Send("SUBSCRIBE", fmt.Sprint("scale:", i%channels))
	}
	for _, c := range conns {
		c.Recv()
	}
	if n := nodeSubscribers(t, node); n > 2 {
		t.Errorf("%d subscribers have %d connections to the node, with 2 loops", subscribers, n)
	}
	publisher := dial(t, b.Addr())
	var readers sync.WaitGroup
	for i, c := range conns {
		readers.Go(func() {
			for m := range messages {
				want := fmt.Sprintf("[message scale:%d %d]", i%channels, m)
				if got, err := c.TryRecv(); err != nil || fmt.Sprint(got) != want {
					t.Errorf("subscriber %d got %v (%v), want %s", i, got, err, want)
					return
				}
			}
		})
	}
	for m := range messages {
		for ch := range channels {
			publisher.Send("PUBLISH", fmt.Sprint("scale:", ch), m)
		}
	}
	for range messages * channels {
		if got := publisher.Recv(); got != int64(subscribers/channels) {
			t.Fatalf("PUBLISH counts %v clients, want %d", got, subscribers/channels)
		}
	}
	readers.Wait()
	var delivered int64
	for _, l := range b.srv.eachLoop() {
		done := make(chan bool)
		l.Post(func() { delivered += l.feeds.Stats().Deliveries; close(done) })
		<-done
	}
	if want := int64(subscribers * messages); delivered != want {
		t.Errorf("%d deliveries were counted, want %d", delivered, want)
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "the node to be left alone", func() bool { return nodeSubscribers(t, node) == 0 })
}

func TestASlowSubscriberIsCutAndTheOthersHearAll(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1")
	b.set("client-output-buffer-limit", "pubsub 8mb 0 0")
	slow, fast, publisher := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	for _, c := range []*redistest.Conn{slow, fast} {
		c.Do("SUBSCRIBE", "slow:c")
	}
	text := strings.Repeat("m", 1<<20)
	slow.Narrow()
	const messages = 16 // more than the kernel holds for such a client
	var reader sync.WaitGroup
	reader.Go(func() {
		for range messages {
			got, err := fast.TryRecv()
			if list, _ := got.([]any); err != nil || len(list) != 3 || list[2] != text {
				t.Errorf("%v: %.80v", err, got)
				return
			}
		}
	})
	for range messages {
		publisher.Do("PUBLISH", "slow:c", text)
	}
	reader.Wait()
	eventually(t, "the slow one to be closed", func() bool { return b.srv.clients.Load() == 2 })
	limits := int64(0)
	for _, l := range b.srv.look(0).Loops {
		limits += l.Counters.LimitHits[telemetry.LimitOutputBuffer]
	}
	if limits != 1 {
		t.Errorf("%d clients were counted as too slow, want 1", limits)
	}
}
