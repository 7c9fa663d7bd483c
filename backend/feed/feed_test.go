package feed

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/looptest"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// feedListener notes what it is told, one line for each call. It joins every channel that is
// confirmed.
type feedListener struct {
	*looptest.Receiver
	subs map[string]*Subscription // of the loop
	news []string                 // confirmed, and not noted yet; of the loop
	on   map[*Feed]int            // subscriptions, by what Moves has said; of the loop
}

func newFeedListener() *feedListener {
	return &feedListener{Receiver: looptest.NewReceiver(), subs: map[string]*Subscription{}, on: map[*Feed]int{}}
}

func (l *feedListener) Message(array []byte) bool {
	l.Note(strings.Join(strings.Fields(string(array)), " "))
	return false
}
func (l *feedListener) Flush() {}
func (l *feedListener) Moves(from, to *Feed) {
	l.on[from]--
	l.on[to]++
}
func (l *feedListener) Subscribed(ch *Channel, last bool) {
	if l.subs[ch.Name()] == nil {
		l.subs[ch.Name()] = ch.Join(l)
	}
	if l.news = append(l.news, ch.Name()); last {
		l.Note("subscribed " + strings.Join(l.news, " "))
		l.news = nil
	}
}
func (l *feedListener) Refused(err *backend.LostError) { l.Note("refused " + err.Error()) }
func (l *feedListener) Cut(why *backend.LostError) {
	for name, sub := range l.subs {
		sub.Leave()
		delete(l.subs, name)
	}
	l.Note("cut " + why.Refusal)
}

// checkFeeds checks that Moves has told the listener on which feeds its subscriptions are.
func (l *feedListener) checkFeeds(t *testing.T, loop *feedLoop) {
	t.Helper()
	loop.Do(func() {
		on := map[*Feed]int{}
		for _, sub := range l.subs {
			on[sub.channel.feed]++
			l.on[sub.channel.feed] += 0
		}
		for f, n := range l.on {
			if f != nil && on[f] != n {
				t.Errorf("told of %d subscriptions on %s, there are %d", n, f.Addr(), on[f])
			}
		}
		if len(on) == 0 {
			t.Error("there are no subscriptions")
		}
	})
}

// fakePlaces is a topology that a test changes.
type fakePlaces struct {
	mu sync.Mutex // guards t
	t  *router.Topology
}

func (p *fakePlaces) Topology() *router.Topology {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.t
}

// moved makes the topology say that the slot belongs to one node, and all others to another one.
func (p *fakePlaces) moved(t *testing.T, slot uint16, owner, others *looptest.Node) {
	t.Helper()
	entry := func(from, to int, of *looptest.Node) string {
		host, port, _ := net.SplitHostPort(of.Addr())
		return fmt.Sprintf("*3\r\n:%d\r\n:%d\r\n*2\r\n$%d\r\n%s\r\n:%s\r\n", from, to, len(host), host, port)
	}
	topology, err := router.ParseClusterSlots([]byte("*2\r\n"+entry(0, router.Slots-1, others)+entry(int(slot), int(slot), owner)), "")
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t = topology
}
func (p *fakePlaces) Refresh() {}
func (p *fakePlaces) Lost()    {}

// feedLoop is a loop with feeds.
type feedLoop struct {
	*looptest.Loop
	feeds *Feeds
}

// startFeeds returns a loop with feeds to the nodes of t.
func startFeeds(t *testing.T, places backend.Places) *feedLoop {
	t.Helper()
	l := looptest.Start(t)
	feeds := New(l, l.Set, places, NewAudience(nil))
	l.Flush = append(l.Flush, feeds.Flush)
	t.Cleanup(func() { l.Do(feeds.Close) })
	return &feedLoop{l, feeds}
}

// subscribe calls Set.Subscribe on the loop.
func (l *feedLoop) subscribe(t *testing.T, id backend.Identity, kind ChannelKind, to Subscriber, names ...string) {
	t.Helper()
	l.Do(func() {
		set := l.feeds.Of(id)
		request := subscribeRequest(append([]string{subscribeWords[kind]}, names...)...)
		var channels []*Channel
		for _, n := range names {
			channels = append(channels, set.Claim(kind, []byte(n)))
		}
		if err := set.Subscribe(channels, []byte(request), to); err != nil {
			to.Refused(err)
		}
	})
}

func subscribeRequest(words ...string) string { return string(redistest.Command(toAny(words)...)) }

func toAny(words []string) (all []any) {
	for _, w := range words {
		all = append(all, w)
	}
	return all
}

func confirmation(kind, name string, n int) string {
	return fmt.Sprintf("*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n", len(kind), kind, len(name), name, n)
}

const pingBytes = "*1\r\n$4\r\nPING\r\n"

func TestListenersOfOneUserShareAConnectionAndEachMessageOnIt(t *testing.T) {
	node := looptest.StartNode(t)
	l := startFeeds(t, onePlace{router.Single(node.Addr())})
	x, y := newFeedListener(), newFeedListener()
	l.subscribe(t, backend.Identity{}, PlainChannel, x, "a", "b")
	c := looptest.Accept(t, node)
	c.Expect(t, subscribeRequest("SUBSCRIBE", "a", "b"))
	c.Say(t, confirmation("subscribe", "a", 1)+confirmation("subscribe", "b", 2))
	looptest.WantLines(t, x.Wait(t, 1), "subscribed a b")
	l.subscribe(t, backend.Identity{DB: 3, RESP: 3}, PlainChannel, y, "a")
	c.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
	// What comes before the confirmation is not for the new listener, though the channel is there.
	c.Say(t, string(message("a", "1"))+confirmation("subscribe", "a", 2)+string(message("a", "2"))+string(message("b", "3")))
	looptest.WantLines(t, x.Wait(t, 4), "subscribed a b", "*3 $7 message $1 a $1 1", "*3 $7 message $1 a $1 2", "*3 $7 message $1 b $1 3")
	looptest.WantLines(t, y.Wait(t, 2), "subscribed a", "*3 $7 message $1 a $1 2")
	l.Do(func() { x.subs["a"].Leave(); x.subs["b"].Leave() })
	c.Expect(t, subscribeRequest("UNSUBSCRIBE", "b")) // a has another listener
	l.Do(func() { y.subs["a"].Leave() })
	c.Expect(t, subscribeRequest("UNSUBSCRIBE", "a"))
	c.Say(t, confirmation("unsubscribe", "b", 1)+string(message("a", "late"))+confirmation("unsubscribe", "a", 0))
	l.Do(func() { l.Ahead = time.Minute })
	redistest.Eventually(t, 10*time.Second, "the idle feed to end", func() bool {
		counts := map[string]Count{}
		l.Do(func() { l.feeds.Tick(); l.feeds.Count(counts) })
		return len(counts) == 0
	})
	if n, err := c.R.Read(make([]byte, 1)); err == nil {
		t.Fatalf("the node got %d more bytes", n)
	}
}

func TestAChannelAskedForAgainOutlivesItsLastListener(t *testing.T) {
	node := looptest.StartNode(t)
	l := startFeeds(t, onePlace{router.Single(node.Addr())})
	x, y := newFeedListener(), newFeedListener()
	l.subscribe(t, backend.Identity{}, PatternChannel, x, "a*")
	c := looptest.Accept(t, node)
	c.Expect(t, subscribeRequest("PSUBSCRIBE", "a*"))
	c.Say(t, confirmation("psubscribe", "a*", 1))
	x.Wait(t, 1)
	l.subscribe(t, backend.Identity{}, PatternChannel, y, "a*")
	c.Expect(t, subscribeRequest("PSUBSCRIBE", "a*"))
	l.Do(func() { x.subs["a*"].Leave() }) // y's request is on its way: no PUNSUBSCRIBE may follow it
	synced := make(chan bool, 1)
	l.Do(func() { l.feeds.Of(backend.Identity{}).home.Sync(func() { synced <- true }) })
	c.Expect(t, pingBytes)
	c.Say(t, confirmation("psubscribe", "a*", 1)+"*2\r\n$4\r\npong\r\n$0\r\n\r\n")
	<-synced
	looptest.WantLines(t, y.Wait(t, 1), "subscribed a*")
}

func TestAUserWhoMayNotIsToldAndNobodyElse(t *testing.T) {
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "half", "on", ">pw", "+@all", "resetchannels", "&a*")
	l := startFeeds(t, onePlace{router.Single(node.Addr())})
	half, all := newFeedListener(), newFeedListener()
	l.Set.Logins.Accepted("half", "pw", false, nil)
	l.subscribe(t, backend.Identity{User: "half"}, PlainChannel, half, "a1", "b1")
	if said := half.Wait(t, 1); !strings.HasPrefix(said[0], "refused "+node.Addr()+" refused the connection: NOPERM") {
		t.Fatal(said)
	}
	l.subscribe(t, backend.Identity{User: "half"}, PlainChannel, half, "a1", "a2")
	l.subscribe(t, backend.Identity{}, PlainChannel, all, "a1", "b1")
	looptest.WantLines(t, half.Wait(t, 2)[1:], "subscribed a1 a2")
	looptest.WantLines(t, all.Wait(t, 1), "subscribed a1 b1")
	wrong := newFeedListener()
	l.Set.Logins.Accepted("nobody", "wrong", false, nil)
	l.subscribe(t, backend.Identity{User: "nobody"}, PlainChannel, wrong, "a1")
	if said := wrong.Wait(t, 1); !strings.Contains(said[0], "WRONGPASS") {
		t.Fatal(said)
	}
	// The node closes a connection that has lost the right to a channel, and refuses the channel
	// after that.
	node.Do(t, "ACL", "SETUSER", "half", "resetchannels", "&a2")
	if said := half.Wait(t, 3); !strings.HasPrefix(said[2], "cut NOPERM") {
		t.Fatal(said)
	}
	node.Do(t, "PUBLISH", "a1", "x")
	looptest.WantLines(t, all.Wait(t, 2)[1:], "*3 $7 message $2 a1 $1 x")
}

func TestRefusedChannelsAreForgottenHoweverMany(t *testing.T) {
	node := looptest.StartNode(t)
	l := startFeeds(t, onePlace{router.Single(node.Addr())})
	x, y := newFeedListener(), newFeedListener()
	var names []string
	for i := range 3*disclaimSlice + 1 {
		names = append(names, fmt.Sprint("c", i))
	}
	l.subscribe(t, backend.Identity{}, PlainChannel, x, names...)
	c := looptest.Accept(t, node)
	c.Expect(t, subscribeRequest(append([]string{"SUBSCRIBE"}, names...)...))
	l.subscribe(t, backend.Identity{}, PlainChannel, y, names[len(names)-1])
	c.Expect(t, subscribeRequest("SUBSCRIBE", names[len(names)-1]))
	c.Say(t, "-NOPERM no\r\n"+confirmation("subscribe", names[len(names)-1], 1))
	looptest.WantLines(t, x.Wait(t, 1), "refused "+node.Addr()+" refused the connection: NOPERM no")
	looptest.WantLines(t, y.Wait(t, 1), "subscribed "+names[len(names)-1])
	redistest.Eventually(t, 10*time.Second, "only the other's channel to be left", func() (forgotten bool) {
		l.Do(func() { forgotten = l.feeds.Of(backend.Identity{}).channelCount() == 1 })
		return forgotten
	})
	c.Say(t, string(message(names[len(names)-1], "1")))
	looptest.WantLines(t, y.Wait(t, 2)[1:], "*3 $7 message $5 "+names[len(names)-1]+" $1 1")
}

// A round of gathering is bounded whatever the node sends.
func TestVeryManyConfirmationsAreTakenInRounds(t *testing.T) {
	fs, f, _ := upFeed("a")
	x := newFeedListener()
	set := fs.Of(backend.Identity{})
	asked := []*Channel{set.Claim(PlainChannel, []byte("b")), set.Claim(PlainChannel, []byte("c")), set.Claim(PlainChannel, []byte("d"))}
	if err := set.Subscribe(asked, []byte(subscribeRequest("SUBSCRIBE", "b", "c", "d")), x); err != nil {
		t.Fatal(err)
	}
	said := []byte(confirmation("subscribe", "b", 1) + confirmation("subscribe", "c", 2) + confirmation("subscribe", "d", 3))
	n, blocked := f.take(said, &budget{deliveries: 2, bytes: 100})
	if n != 2*len(said)/3 || !blocked || len(x.subs) != 2 {
		t.Errorf("%d bytes of %d were taken, blocked %v, with %d subscriptions", n, len(said), blocked, len(x.subs))
	}
	n, blocked = f.take(said[n:], &budget{deliveries: 2, bytes: 100})
	if n != len(said)/3 || blocked || len(x.subs) != 3 {
		t.Errorf("then %d bytes were taken, blocked %v, with %d subscriptions", n, blocked, len(x.subs))
	}
}

func TestLostFeedIsReplacedAndItsChannelsAskedForAnew(t *testing.T) {
	node := redistest.Start(t)
	l := startFeeds(t, onePlace{router.Single(node.Addr())})
	x := newFeedListener()
	l.subscribe(t, backend.Identity{}, PlainChannel, x, "a")
	l.subscribe(t, backend.Identity{}, PatternChannel, x, "b*")
	l.subscribe(t, backend.Identity{}, ShardChannel, x, "c")
	x.Wait(t, 3)
	node.Do(t, "CLIENT", "KILL", "TYPE", "pubsub")
	numsub := func() string {
		return fmt.Sprint(node.Do(t, "PUBSUB", "NUMSUB", "a"), node.Do(t, "PUBSUB", "SHARDNUMSUB", "c"), node.Do(t, "PUBSUB", "NUMPAT"))
	}
	redistest.Eventually(t, 10*time.Second, "all to be subscribed anew", func() bool { return numsub() == "[a 1] [c 1] 1" })
	node.Kill()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for range 5 {
		<-ticks.C
		l.Do(l.feeds.Tick)
	}
	y := newFeedListener()
	l.subscribe(t, backend.Identity{}, PlainChannel, y, "new")
	if said := y.Wait(t, 1); !strings.HasPrefix(said[0], "refused connection to "+node.Addr()) {
		t.Fatal(said)
	}
	node.Restart(t)
	redistest.Eventually(t, 10*time.Second, "the restarted node to be asked", func() bool {
		l.Do(l.feeds.Tick)
		return numsub() == "[a 1] [c 1] 1"
	})
	for _, p := range [][]any{{"PUBLISH", "a", "1"}, {"PUBLISH", "bb", "2"}, {"SPUBLISH", "c", "3"}} {
		node.Do(t, p...)
	}
	looptest.WantLines(t, x.Wait(t, 6)[3:], "*3 $7 message $1 a $1 1", "*4 $8 pmessage $2 b* $2 bb $1 2", "*3 $8 smessage $1 c $1 3")
	x.checkFeeds(t, l)
}

func TestAnOrderOnALostConnectionIsGivenToTheNext(t *testing.T) {
	node := looptest.StartNode(t)
	l := startFeeds(t, onePlace{router.Single(node.Addr())})
	x := newFeedListener()
	l.subscribe(t, backend.Identity{}, PlainChannel, x, "a")
	c := looptest.Accept(t, node)
	c.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
	c.Say(t, confirmation("subscribe", "a", 1))
	x.Wait(t, 1)
	l.subscribe(t, backend.Identity{}, PlainChannel, x, "b")
	synced := make(chan bool, 1)
	l.Do(func() { x.subs["a"].channel.feed.Sync(func() { synced <- true }) })
	c.Expect(t, subscribeRequest("SUBSCRIBE", "b")+pingBytes)
	c.Close()
	<-synced // nothing more can come that was said before
	c = looptest.Accept(t, node)
	c.Expect(t, subscribeRequest("SUBSCRIBE", "a")+subscribeRequest("SUBSCRIBE", "b"))
	c.Say(t, confirmation("subscribe", "a", 1)+confirmation("subscribe", "b", 2))
	looptest.WantLines(t, x.Wait(t, 2), "subscribed a", "subscribed b")
	// A node that closes every connection is not asked without a pause.
	c.Close()
	looptest.Accept(t, node).Close() // the first attempt comes at once
	for range 3 {
		attempted := make(chan *looptest.NodeConn, 1)
		began := time.Now()
		redistest.Eventually(t, 10*time.Second, "the next attempt", func() bool {
			l.Do(l.feeds.Tick)
			select {
			case c := <-node.Conns:
				attempted <- c
				return true
			default:
				return false
			}
		})
		if pause := time.Since(began); pause < backend.BackOffMin/4 {
			t.Errorf("asked again after %s", pause)
		}
		(<-attempted).Close()
	}
}

func TestSilentNodeIsAskedAndGivenUp(t *testing.T) {
	node := looptest.StartNode(t)
	l := startFeeds(t, onePlace{router.Single(node.Addr())})
	l.Set.SetTimeout(30 * time.Second)
	x := newFeedListener()
	l.subscribe(t, backend.Identity{}, PlainChannel, x, "a")
	c := looptest.Accept(t, node)
	c.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
	c.Say(t, confirmation("subscribe", "a", 1))
	x.Wait(t, 1)
	l.Do(func() { l.Ahead += feedSilence + time.Second; l.feeds.Tick() })
	c.Expect(t, pingBytes)
	c.Say(t, "*2\r\n$4\r\npong\r\n$0\r\n\r\n")
	redistest.Eventually(t, 10*time.Second, "the answer to be heard", func() (heard bool) {
		l.Do(func() { heard = x.subs["a"].channel.feed.owed.Len() == 0 })
		return heard
	})
	l.Do(func() { l.Ahead += feedSilence + time.Second; l.feeds.Tick() })
	c.Expect(t, pingBytes)
	l.Do(func() { l.Ahead += 31 * time.Second; l.feeds.Tick() })
	c = looptest.Accept(t, node)
	c.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
}

func TestShardChannelFollowsItsSlot(t *testing.T) {
	from, to := looptest.StartNode(t), looptest.StartNode(t)
	slot := router.Slot([]byte("a"))
	places := &fakePlaces{}
	places.moved(t, slot, from, to)
	l := startFeeds(t, places)
	x := newFeedListener()
	l.subscribe(t, backend.Identity{}, ShardChannel, x, "a")
	c := looptest.Accept(t, from)
	c.Expect(t, subscribeRequest("SSUBSCRIBE", "a"))
	c.Say(t, confirmation("ssubscribe", "a", 1))
	x.Wait(t, 1)

	// The node itself ends the subscription, and it is not known yet where the slot has gone.
	c.Say(t, confirmation("sunsubscribe", "a", 0))
	c.Expect(t, subscribeRequest("SSUBSCRIBE", "a"))
	c.Say(t, fmt.Sprintf("-MOVED %d %s\r\n", slot, to.Addr()))
	d := looptest.Accept(t, to)
	d.Expect(t, subscribeRequest("SSUBSCRIBE", "a"))
	d.Say(t, confirmation("ssubscribe", "a", 1)+"*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\n1\r\n")
	looptest.WantLines(t, x.Wait(t, 2), "subscribed a", "*3 $8 smessage $1 a $1 1")

	// And back, because the topology says so: the new owner is asked before the old one is told.
	l.Do(l.feeds.TopologyChanged)
	c.Expect(t, subscribeRequest("SSUBSCRIBE", "a"))
	d.Expect(t, subscribeRequest("SUNSUBSCRIBE", "a"))
	d.Say(t, "*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\n2\r\n")
	x.Wait(t, 3)
	// The old owner's own sunsubscribe crosses the feed's, which is then answered by an error.
	d.Say(t, confirmation("sunsubscribe", "a", 0)+fmt.Sprintf("-MOVED %d %s\r\n", slot, from.Addr()))
	c.Say(t, confirmation("ssubscribe", "a", 1)+"*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\n3\r\n")
	looptest.WantLines(t, x.Wait(t, 4)[2:], "*3 $8 smessage $1 a $1 2", "*3 $8 smessage $1 a $1 3")
	x.checkFeeds(t, l)
	var feeds int
	l.Do(func() { feeds = len(l.feeds.Of(backend.Identity{}).byAddr) })
	if feeds != 2 {
		t.Errorf("%d feeds: the stray error has ended one", feeds)
	}
}

func TestPlainChannelsLeaveANodeThatIsNoLongerAPrimary(t *testing.T) {
	x, y := looptest.StartNode(t), looptest.StartNode(t)
	places := &fakePlaces{t: router.Even([]string{x.Addr()})}
	l := startFeeds(t, places)
	who := newFeedListener()
	l.subscribe(t, backend.Identity{}, PlainChannel, who, "a")
	c := looptest.Accept(t, x)
	c.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
	c.Say(t, confirmation("subscribe", "a", 1))
	who.Wait(t, 1)
	places.mu.Lock()
	places.t = router.Even([]string{y.Addr()})
	places.mu.Unlock()
	l.Do(l.feeds.TopologyChanged)
	d := looptest.Accept(t, y)
	d.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
	c.Expect(t, subscribeRequest("UNSUBSCRIBE", "a"))
	// Both nodes deliver the message, and it counts once.
	c.Say(t, string(message("a", "1"))+confirmation("unsubscribe", "a", 0))
	d.Say(t, confirmation("subscribe", "a", 1)+string(message("a", "1")))
	l.Do(func() { l.Ahead = feedIdle + time.Second })
	redistest.Eventually(t, 10*time.Second, "the old feed to be retired", func() bool {
		var feeds int
		l.Do(func() { l.feeds.Tick(); feeds = len(l.feeds.Of(backend.Identity{}).byAddr) })
		return feeds == 1
	})
	looptest.WantLines(t, who.Wait(t, 2), "subscribed a", "*3 $7 message $1 a $1 1")
	who.checkFeeds(t, l)
}

func TestANodeThatSaysNonsenseLosesItsFeed(t *testing.T) {
	for _, nonsense := range []string{"+OK\r\n", "*2\r\n$4\r\npong\r\n$0\r\n\r\n", confirmation("subscribe", "z", 1), "!\r\n",
		confirmation("unsubscribe", "a", 0)} {
		node := looptest.StartNode(t)
		l := startFeeds(t, onePlace{router.Single(node.Addr())})
		x := newFeedListener()
		l.subscribe(t, backend.Identity{}, PlainChannel, x, "a")
		c := looptest.Accept(t, node)
		c.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
		c.Say(t, confirmation("subscribe", "a", 1))
		x.Wait(t, 1)
		c.Say(t, nonsense+string(message("a", "after nonsense")))
		d := looptest.Accept(t, node)
		d.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
		looptest.WantLines(t, x.Wait(t, 1), "subscribed a")
	}
}

func TestFeedCountsUntilItsNodeHasConfirmedTheEnd(t *testing.T) {
	node := looptest.StartNode(t)
	l := startFeeds(t, onePlace{router.Single(node.Addr())})
	want := func(listeners, feeds int) {
		t.Helper()
		if n, f := l.feeds.audience.Of(PlainChannel, []byte("a")); n != listeners || f != feeds {
			t.Errorf("%d listeners and %d feeds, want %d and %d", n, f, listeners, feeds)
		}
	}
	want(0, 0)
	x := newFeedListener()
	l.subscribe(t, backend.Identity{}, PlainChannel, x, "a")
	c := looptest.Accept(t, node)
	c.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
	want(0, 1)
	c.Say(t, confirmation("subscribe", "a", 1))
	x.Wait(t, 1)
	want(1, 1)
	l.Do(func() { x.subs["a"].Leave() })
	c.Expect(t, subscribeRequest("UNSUBSCRIBE", "a"))
	want(0, 1)

	y := newFeedListener()
	l.subscribe(t, backend.Identity{}, PlainChannel, y, "a")
	c.Say(t, confirmation("unsubscribe", "a", 0)+confirmation("subscribe", "a", 1))
	y.Wait(t, 1)
	want(1, 1)
	c.Close()
	looptest.Accept(t, node).Expect(t, subscribeRequest("SUBSCRIBE", "a"))
	want(1, 1)
	l.Do(func() { y.subs["a"].Leave() })
	want(0, 1)
	l.Do(l.feeds.Close)
	want(0, 0)
	if !l.feeds.audience.Empty(PlainChannel) {
		t.Error("something is left of the channel")
	}
}

func TestPlainChannelsGoToTheirHomeWhenItAnswers(t *testing.T) {
	home, other := looptest.StartNode(t), looptest.StartNode(t)
	places := &fakePlaces{}
	places.moved(t, 0, home, other)
	l := startFeeds(t, places)
	x := newFeedListener()
	l.subscribe(t, backend.Identity{}, PlainChannel, x, "a")
	looptest.Accept(t, home).Close()
	at := looptest.Accept(t, other)
	at.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
	at.Say(t, confirmation("subscribe", "a", 1))
	x.Wait(t, 1)
	l.Do(func() { l.Ahead += feedIdle / 2; l.feeds.Tick() })
	c := looptest.Accept(t, home)
	c.Expect(t, pingBytes)
	l.Do(l.feeds.Tick)
	c.Expect(t, subscribeRequest("SUBSCRIBE", "a"))
	at.Expect(t, subscribeRequest("UNSUBSCRIBE", "a"))
}

func TestPrimaryThatRefusesKeyEventsIsAskedAgain(t *testing.T) {
	home, other := looptest.StartNode(t), looptest.StartNode(t)
	places := &fakePlaces{}
	places.moved(t, 0, home, other)
	l := startFeeds(t, places)
	x := newFeedListener()
	l.subscribe(t, backend.Identity{}, PatternChannel, x, "*")
	request := subscribeRequest("PSUBSCRIBE", "*")
	d := looptest.Accept(t, other)
	d.Expect(t, request)
	d.Say(t, "-LOADING not yet\r\n")
	c := looptest.Accept(t, home)
	c.Expect(t, request)
	c.Say(t, confirmation("psubscribe", "*", 1))
	x.Wait(t, 1)
	l.Do(func() { l.Ahead += feedIdle / 2; l.feeds.Tick() })
	d.Expect(t, request)
	const event, news = "*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$18\r\n__keyevent@0__:set\r\n$1\r\nk\r\n", "*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$4\r\nnews\r\n$1\r\nk\r\n"
	d.Say(t, confirmation("psubscribe", "*", 1)+news+event)
	looptest.WantLines(t, x.Wait(t, 2)[1:], "*4 $8 pmessage $1 * $18 __keyevent@0__:set $1 k")
	if n, feeds := l.feeds.audience.Of(PatternChannel, []byte("*")); n != 1 || feeds != 2 {
		t.Errorf("%d listeners and %d feeds, want 1 and 2", n, feeds)
	}

	// The other becomes the home, and the home a primary like any other; then it is none any more.
	places.moved(t, 0, other, home)
	l.Do(func() { l.feeds.TopologyChanged(); l.feeds.Tick() })
	d.Expect(t, request)
	c.Say(t, news+event)
	looptest.WantLines(t, x.Wait(t, 3)[2:], "*4 $8 pmessage $1 * $18 __keyevent@0__:set $1 k")
	places.moved(t, 0, other, other)
	l.Do(l.feeds.TopologyChanged)
	c.Expect(t, subscribeRequest("PUNSUBSCRIBE", "*"))
	x.checkFeeds(t, l)
}

func TestShardMessagesOfADemotedPrimaryAreDropped(t *testing.T) {
	old, next := looptest.StartNode(t), looptest.StartNode(t)
	places := &fakePlaces{}
	places.moved(t, 0, old, old)
	l := startFeeds(t, places)
	x := newFeedListener()
	l.subscribe(t, backend.Identity{}, ShardChannel, x, "a")
	c := looptest.Accept(t, old)
	c.Expect(t, subscribeRequest("SSUBSCRIBE", "a"))
	c.Say(t, confirmation("ssubscribe", "a", 1))
	x.Wait(t, 1)

	places.moved(t, 0, next, next)
	l.Do(l.feeds.TopologyChanged)
	c.Expect(t, subscribeRequest("SUNSUBSCRIBE", "a"))
	d := looptest.Accept(t, next)
	d.Expect(t, subscribeRequest("SSUBSCRIBE", "a"))
	message := func(text string) string { return "*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\n" + text + "\r\n" }
	c.Say(t, message("1"))
	x.Wait(t, 2)
	d.Say(t, confirmation("ssubscribe", "a", 1)+message("2"))
	x.Wait(t, 3)
	c.Say(t, message("2")+fmt.Sprintf("-MOVED %d %s\r\n", router.Slot([]byte("a")), next.Addr()))
	l.Do(func() { l.Ahead -= time.Hour }) // it does not end because it is idle
	redistest.Eventually(t, 10*time.Second, "the feed to the old primary to end", func() bool {
		feeds := 0
		l.Do(func() { l.feeds.Tick(); feeds = len(l.feeds.Of(backend.Identity{}).byAddr) })
		return feeds == 1
	})
	d.Say(t, message("3"))
	looptest.WantLines(t, x.Wait(t, 4)[1:], "*3 $8 smessage $1 a $1 1", "*3 $8 smessage $1 a $1 2", "*3 $8 smessage $1 a $1 3")
}
