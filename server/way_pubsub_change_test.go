package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/telemetry"
)

// subscriptionRun is what a client sends one behind the other. It ends with the last channel it asks for.
var subscriptionRun = []string{
	"SUBSCRIBE run:a", "PSUBSCRIBE run:p* run:q*", "UNSUBSCRIBE run:a", "SUBSCRIBE run:b run:c run:b", "UNSUBSCRIBE run:b run:x",
	"SUBSCRIBE run:a run:d", "PUNSUBSCRIBE run:p*", "UNSUBSCRIBE run:d", "UNSUBSCRIBE run:x", "SUBSCRIBE run:e",
}

// What the run is about, and what is left of it, as PUBSUB NUMSUB tells it.
var (
	runChannels = []string{"run:a", "run:b", "run:c", "run:d", "run:e", "run:x"}
	runLeft     = "[run:a 1 run:b 0 run:c 1 run:d 0 run:e 1 run:x 0] 1"
	runNothing  = "[run:a 0 run:b 0 run:c 0 run:d 0 run:e 0 run:x 0] 0"
)

// runAt is how a node sees the channels and patterns of the run.
func runAt(t *testing.T, node *redistest.Server) string {
	return fmt.Sprint(node.Do(t, "PUBSUB", "NUMSUB", runChannels), " ", node.Do(t, "PUBSUB", "NUMPAT"))
}

// oneBehindTheOther is the bytes of requests.
func oneBehindTheOther(requests ...string) string {
	var b strings.Builder
	for _, r := range requests {
		b.Write(redistest.Command(strings.Fields(r)))
	}
	return b.String()
}

// confirmations is how many a client gets of requests that name their channels.
func confirmations(requests ...string) (n int) {
	for _, r := range requests {
		n += len(strings.Fields(r)) - 1
	}
	return n
}

// feedAnswers is how many things a node says to them on a feed: one PONG to all that an UNSUBSCRIBE names.
func feedAnswers(requests ...string) (n int) {
	for _, r := range requests {
		if strings.Contains(r, "UNSUBSCRIBE") {
			n++
		} else {
			n += confirmations(r)
		}
	}
	return n
}

// afterAnswers holds back what a feed's node says from the answer behind so many on.
func afterAnswers(n int) func(reply string) bool {
	return func(reply string) bool {
		answer := isPong(reply) || strings.HasPrefix(reply, "*3\r\n$9\r\nsubscribe") || strings.HasPrefix(reply, "*3\r\n$10\r\npsubscribe")
		if answer {
			n--
		}
		return answer && n < 0
	}
}

// isPong tells the answer to a PING on a feed.
func isPong(reply string) bool { return strings.HasPrefix(reply, "*2\r\n$4\r\npong\r\n") }

// compareRaw reads so many replies of a client and of one of a Redis, and tells where they differ.
func compareRaw(t *testing.T, n int, got, want *redistest.Conn) {
	t.Helper()
	for i := range n {
		if g, w := got.RecvRaw(), want.RecvRaw(); g != w {
			t.Fatalf("reply %d of %d: %q, want %q", i+1, n, g, w)
		}
	}
}

// compareToPing sends both PING and compares all that comes up to its answer.
func compareToPing(t *testing.T, got, want *redistest.Conn) {
	t.Helper()
	got.Send("PING")
	want.Send("PING")
	const pong = "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
	if g, w := got.ReadUntil(pong), want.ReadUntil(pong); g != w {
		t.Fatalf("got  %q\nwant %q", g, w)
	}
}

func TestSubscriptionsSentTogetherAreAskedBeforeTheFirstIsConfirmed(t *testing.T) {
	node, reference := redistest.Start(t), sharedNode(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr)
	c, direct := dial(t, b.Addr()), dial(t, reference.Addr())
	l.holdFrom(afterAnswers(0))
	c.WriteString(oneBehindTheOther(subscriptionRun...))
	eventually(t, "the node to have been asked for all", func() bool {
		return strings.HasPrefix(runAt(t, node), "[run:a 1 run:b 1 run:c 1 run:d 1 run:e 1 ")
	})
	l.release()
	direct.WriteString(oneBehindTheOther(subscriptionRun...))
	compareToPing(t, c, direct)
}

// An UNSUBSCRIBE ends what is not even confirmed yet, but not before what was published until it came.
func TestMessageBetweenASubscriptionAndItsEndIsHeardThoughBothAreUnderWay(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr)
	c := dial(t, b.Addr())
	l.holdFrom(afterAnswers(0))
	c.Send("SUBSCRIBE", "a")
	eventually(t, "the node to have subscribed", func() bool { return node.Do(t, "PUBLISH", "a", "x") == int64(1) })
	b.feed(c, oneBehindTheOther("UNSUBSCRIBE"))
	l.release()
	for _, want := range []string{"[subscribe a 1]", "[message a x]", "[unsubscribe a 0]"} {
		if got := fmt.Sprint(c.Recv()); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// The node has read all of a run and executed it, but its words are lost from the one behind so many on.
func TestFeedLostInTheMidstOfSubscriptionsIsNotNoticed(t *testing.T) {
	node, reference := redistest.Start(t), sharedNode(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr, "--loops", "1")
	dial(t, b.Addr()).Do("SUBSCRIBE", "witness") // the feed outlives the rounds, and is dialled again at once
	for heard := range feedAnswers(subscriptionRun...) + 1 {
		t.Run(fmt.Sprint(heard, " answers heard"), func(t *testing.T) {
			c, direct := dial(t, b.Addr()), dial(t, reference.Addr())
			answered := 0 // requests
			for answered < len(subscriptionRun) && feedAnswers(subscriptionRun[:answered+1]...) <= heard {
				answered++
			}
			l.holdFrom(afterAnswers(heard))
			c.WriteString(oneBehindTheOther(subscriptionRun...))
			direct.WriteString(oneBehindTheOther(subscriptionRun...))
			eventually(t, "the node to have read all", func() bool { return strings.Contains(runAt(t, node), "run:e 1") })
			compareRaw(t, confirmations(subscriptionRun[:answered]...), c, direct)
			lost := oldestSubscriber(t, node)
			l.cut()
			compareRaw(t, confirmations(subscriptionRun[answered:]...), c, direct)
			eventually(t, "the new connection to have all that is left", func() bool {
				return oldestSubscriber(t, node) != lost && runAt(t, node) == runLeft
			})
			for _, channel := range append(runChannels, "run:p1", "run:q1") {
				node.Do(t, "PUBLISH", channel, "x")
				reference.Do(t, "PUBLISH", channel, "x")
			}
			compareToPing(t, c, direct)
			c.Close()
			direct.Close()
			eventually(t, "the node to be rid of all", func() bool { return runAt(t, node) == runNothing })
		})
	}
}

func TestNodeLostInTheMidstOfSubscriptionsIsSaidToEachInItsTurn(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr, "--loops", "1")
	c := dial(t, b.Addr())
	c.Do("SUBSCRIBE", "left")
	l.holdFrom(afterAnswers(1))
	c.WriteString(oneBehindTheOther("SUBSCRIBE a", "SUBSCRIBE b", "UNSUBSCRIBE a b", "SUBSCRIBE c", "UNSUBSCRIBE left", "SUBSCRIBE d", "ECHO behind"))
	if got := fmt.Sprint(c.Recv()); got != "[subscribe a 2]" {
		t.Error(got)
	}
	node.Kill()
	l.cut()
	for _, want := range []string{"TRYAGAIN", "[unsubscribe a 1]", "[unsubscribe b 1]", "TRYAGAIN", "[unsubscribe left 0]", "TRYAGAIN", "behind"} {
		if got := fmt.Sprint(c.Recv()); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %s", got, want)
		}
	}
}

// oldestSubscriber names the oldest connection of a node that is subscribed to anything.
func oldestSubscriber(t *testing.T, node *redistest.Server) string {
	list, _ := node.Do(t, "CLIENT", "LIST", "TYPE", "pubsub").(string)
	id, _, _ := strings.Cut(list, " ")
	return id
}

// A client with subscriptions as two users has two feeds, and what it sends behind may be answered on the other one first.
func TestSubscriptionConfirmedTooEarlyBeginsInItsTurn(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "other", "on", ">pw", "+@all", "~*", "&*")
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr, "--loops", "1")
	c, witness := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, witness, "AUTH other pw → OK", "SUBSCRIBE b → [subscribe b 1]")
	c.Do("HELLO", "3")
	c.Do("SUBSCRIBE", "a")
	c.Do("AUTH", "other", "pw")
	l.holdFrom(isPong) // the UNSUBSCRIBE waits for it, on the feed of the user who subscribed to a
	c.WriteString(oneBehindTheOther("UNSUBSCRIBE a", "SUBSCRIBE b"))
	asked := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprint(n, " SUBSCRIBEs at the node"), func() bool {
			return strings.Contains(node.Do(t, "INFO", "commandstats").(string), fmt.Sprintf("cmdstat_subscribe:calls=%d,", n))
		})
	}
	asked(3)
	node.Do(t, "PUBLISH", "b", "early")
	if got := fmt.Sprint(witness.Recv()); got != "[message b early]" { // it came behind the confirmation
		t.Fatal(got)
	}
	l.release()
	for _, want := range []string{"unsubscribe a 0", "subscribe b 1"} {
		if got, _ := isPush(c.Recv()); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	asked(4)
	node.Do(t, "PUBLISH", "b", "late")
	if got, _ := isPush(c.Recv()); got != "message b late" {
		t.Errorf("%q", got)
	}
}

// A refusal waits for its turn as a confirmation does. berth may not ask about rights, so that the node refuses.
func TestSubscriptionRefusedTooEarlyIsAnsweredInItsTurn(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	setUsers(t, node, "other on >pw +@all ~* resetchannels", "control on >pw +@all -acl ~* &*")
	l := startLink(t, node.Addr())
	b := startBerth(t, "redis://control:pw@"+l.addr, "--loops", "1")
	c := dial(t, b.Addr())
	c.Do("HELLO", "3")
	c.Do("SUBSCRIBE", "a")
	script(t, c, "AUTH other pw → OK", "PING → PONG")
	l.holdFrom(isPong)
	c.WriteString(oneBehindTheOther("UNSUBSCRIBE a", "SUBSCRIBE b", "ECHO behind"))
	eventually(t, "the node to have refused", func() bool {
		_, of, _ := strings.Cut(node.Do(t, "INFO", "commandstats").(string), "cmdstat_subscribe:")
		of, _, _ = strings.Cut(of, "\r\n")
		return strings.Contains(of, "rejected_calls=1")
	})
	l.release()
	if got, _ := isPush(c.Recv()); got != "unsubscribe a 0" {
		t.Errorf("%q", got)
	}
	if got := c.RecvRaw(); !strings.HasPrefix(got, "-NOPERM ") {
		t.Errorf("%q", got)
	}
	if got := c.Recv(); got != "behind" {
		t.Errorf("%v", got)
	}
}

func TestClientThatLeavesInTheMidstOfItsSubscriptionsLeavesNothing(t *testing.T) {
	node, reference := redistest.Start(t), sharedNode(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr, "--loops", "1")
	admin := dial(t, b.Addr())
	ways := []struct {
		name  string
		leave func(c *redistest.Conn)
	}{
		{"FIN", (*redistest.Conn).Close},
		{"RST", (*redistest.Conn).Reset},
		{"CLIENT KILL", func(c *redistest.Conn) { admin.Do("CLIENT", "KILL", "ADDR", c.LocalAddr()) }},
	}
	ends := map[string]func(){"confirmed": l.release, "lost": l.cut}
	for _, way := range ways {
		for end, pauseNone := range ends {
			t.Run(way.name+", and then "+end, func(t *testing.T) {
				goes, stays, direct := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, reference.Addr())
				stays.Do("SUBSCRIBE", "witness")
				direct.Do("SUBSCRIBE", "witness")
				l.holdFrom(afterAnswers(confirmations(subscriptionRun[:2]...)))
				run := oneBehindTheOther(subscriptionRun...)
				half := oneBehindTheOther(subscriptionRun[:5]...)
				b.feed(goes, run[:len(half)])
				b.feed(stays, run[:len(half)])
				b.feed(goes, run[len(half):])
				b.feed(stays, run[len(half):])
				direct.WriteString(run)
				for range confirmations(subscriptionRun[:2]...) {
					goes.Recv()
				}
				way.leave(goes)
				if way.name != "FIN" { // it may wait for the rest of its replies
					b.awaitClients(t, 2)
				}
				pauseNone()
				b.awaitClients(t, 2)
				compareToPing(t, stays, direct)
				eventually(t, "the node to have what is left of the other's", func() bool { return runAt(t, node) == runLeft })
				stays.Close()
				b.awaitClients(t, 1)
				eventually(t, "the node to be rid of all", func() bool { return runAt(t, node) == runNothing })
			})
		}
	}
}

// QUIT and RESET wait for what is under way.
func TestQuitAndResetBehindSubscriptionsLeaveNothing(t *testing.T) {
	node, reference := redistest.Start(t), sharedNode(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr)
	for _, behind := range [][]string{
		{"QUIT", "SUBSCRIBE run:x"},
		{"RESET", "GET run:nothing", "SUBSCRIBE run:a", "UNSUBSCRIBE run:a", "QUIT"},
	} {
		t.Run(behind[0], func(t *testing.T) {
			c, direct := dial(t, b.Addr()), dial(t, reference.Addr())
			all := oneBehindTheOther(append(slices.Clone(subscriptionRun), behind...)...)
			l.holdFrom(afterAnswers(2))
			b.feed(c, all)
			direct.WriteString(all)
			l.release()
			if got, want := c.ReadAll(), direct.ReadAll(); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			eventually(t, "the node to be rid of all", func() bool { return runAt(t, node) == runNothing })
		})
	}
}

func TestClientListCountsWhatIsConfirmed(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr)
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	counts := func(want string) {
		t.Helper()
		list, _ := other.Do("CLIENT", "LIST").(string)
		_, line, _ := strings.Cut(list, "addr="+c.LocalAddr()+" ")
		if line, _, _ = strings.Cut(line, "\n"); !strings.Contains(line, " "+want+" ") {
			t.Errorf("%q, want %s", line, want)
		}
	}
	l.holdFrom(afterAnswers(2))
	b.feed(c, oneBehindTheOther("SUBSCRIBE a", "PSUBSCRIBE p*", "SUBSCRIBE b c", "PUNSUBSCRIBE p*"))
	c.Recv()
	c.Recv()
	counts("sub=1 psub=1")
	l.release()
	for range 3 {
		c.Recv()
	}
	counts("sub=3 psub=0")
}

// Its own confirmations are more than the client may leave unread.
func TestOutputLimitHitInTheMidstOfSubscriptionsLeavesNothing(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr, "--loops", "1")
	b.set("client-output-buffer-limit", "pubsub 1mb 0 0")
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	name := strings.Repeat("n", 64<<10)
	c.Narrow()
	const heard = 120 // more than the kernel holds for such a client
	l.holdFrom(afterAnswers(0))
	b.feed(c, oneBehindTheOther("SUBSCRIBE"+strings.Repeat(" "+name, heard))+oneBehindTheOther(subscriptionRun...))
	l.holdFrom(afterAnswers(heard))
	b.awaitClients(t, 1)
	if n := b.figures(t).Counters.LimitHits[telemetry.LimitOutputBuffer]; n != 1 {
		t.Errorf("%d clients were counted as too slow, want 1", n)
	}
	other.WriteString(oneBehindTheOther("SUBSCRIBE run:a", "UNSUBSCRIBE"))
	l.release()
	if got := fmt.Sprint(other.Recv(), other.Recv()); got != "[subscribe run:a 1] [unsubscribe run:a 0]" {
		t.Error(got)
	}
	eventually(t, "the node to be rid of all", func() bool {
		return runAt(t, node) == runNothing && fmt.Sprint(node.Do(t, "PUBSUB", "CHANNELS")) == "[]"
	})
}

// manyChannels is a request about that many channels, and their names.
func manyChannels(word string, n int) (request []any, names []string) {
	request = append(request, word)
	for i := range n {
		names = append(names, fmt.Sprint("many:", i))
		request = append(request, names[i])
	}
	return request, names
}

// awaitNothing waits until a node knows of no channel.
func awaitNothing(t *testing.T, node *redistest.Server) {
	t.Helper()
	eventually(t, "the node to be rid of all", func() bool { return len(node.Do(t, "PUBSUB", "CHANNELS").([]any)) == 0 })
}

// What one client does to very many channels is no visit of the loop's that others would have to wait for.
func TestVeryManySubscriptionsBeginAndEndInSlices(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1")
	c := dial(t, b.Addr())
	const slices, n = 10, 10*sliceChannels + 3
	subscribe, names := manyChannels("SUBSCRIBE", n)
	unsubscribe, _ := manyChannels("UNSUBSCRIBE", n)
	inSlices := func(what string, do func()) {
		t.Helper()
		before := b.sliceTurns()
		do()
		if made := b.sliceTurns() - before; made < slices {
			t.Errorf("%s was made in %d turns, want at least %d", what, made, slices)
		}
	}
	begin := func() {
		t.Helper()
		c.Send(subscribe...)
		for i, name := range names {
			if got, want := fmt.Sprint(c.Recv()), fmt.Sprintf("[subscribe %s %d]", name, i+1); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		}
		node.Do(t, "PUBLISH", names[n-1], "x")
		if got, want := fmt.Sprint(c.Recv()), "[message "+names[n-1]+" x]"; got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	inSlices("SUBSCRIBE", begin)
	inSlices("UNSUBSCRIBE by name", func() {
		c.Send(unsubscribe...)
		for i, name := range names {
			if got, want := fmt.Sprint(c.Recv()), fmt.Sprintf("[unsubscribe %s %d]", name, n-1-i); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		}
	})
	awaitNothing(t, node)
	begin()
	inSlices("UNSUBSCRIBE of all", func() {
		c.Send("UNSUBSCRIBE")
		left := map[any]bool{}
		for i := range n {
			got := c.Recv().([]any)
			if left[got[1]] = true; got[0] != "unsubscribe" || got[2] != int64(n-1-i) {
				t.Fatal(got)
			}
		}
		if len(left) != n {
			t.Errorf("%d different channels were left, want %d", len(left), n)
		}
	})
	awaitNothing(t, node)
	begin()
	inSlices("RESET", func() {
		c.WriteString(oneBehindTheOther("RESET", "ECHO behind"))
		if got := c.Recv(); got != "RESET" {
			t.Error(got)
		}
		for _, name := range names[:100] {
			node.Do(t, "PUBLISH", name, "unheard")
		}
		if got := c.Recv(); got != "behind" {
			t.Error(got)
		}
		awaitNothing(t, node)
	})
	if got := c.Do("PING"); got != "PONG" {
		t.Error(got)
	}
	begin()
	inSlices("leaving", func() {
		c.Close()
		awaitNothing(t, node)
	})
}

// One channel that the user may not have is the end of the whole request, however long.
func TestVeryManySubscriptionsAreRefusedAsOne(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "half", "on", ">pw", "+@all", "~*", "resetchannels", "&many:*")
	b := startBerth(t, node.Addr(), "--loops", "1")
	c := dial(t, b.Addr())
	c.Do("AUTH", "half", "pw")
	subscribe, _ := manyChannels("SUBSCRIBE", 5*sliceChannels)
	c.Send(append(subscribe, "other")...)
	c.Send("ECHO", "behind")
	if got := fmt.Sprint(c.Recv()); !strings.HasPrefix(got, "NOPERM ") {
		t.Error(got)
	}
	if got := c.Recv(); got != "behind" {
		t.Error(got)
	}
	awaitNothing(t, node)
}

func TestClientThatLeavesInTheMidstOfVeryManySubscriptionsLeavesNothing(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr, "--loops", "1")
	const n = 5 * sliceChannels
	subscribe, _ := manyChannels("SUBSCRIBE", n)
	request := string(redistest.Command(subscribe...))
	dial(t, b.Addr()).Do("SUBSCRIBE", "witness")
	rid := func() {
		t.Helper()
		b.awaitClients(t, 1)
		eventually(t, "the node to be rid of all", func() bool { return fmt.Sprint(node.Do(t, "PUBSUB", "CHANNELS")) == "[witness]" })
	}
	t.Run("before the node is asked", func(t *testing.T) {
		c := dial(t, b.Addr())
		b.feed(c, request)
		c.Reset()
		rid()
	})
	for _, confirmed := range []int{0, 1, n / 2, n - 1} {
		t.Run(fmt.Sprint(confirmed, " confirmed"), func(t *testing.T) {
			c := dial(t, b.Addr())
			l.holdFrom(afterAnswers(confirmed))
			b.feed(c, request)
			for range confirmed {
				c.Recv()
			}
			c.Reset()
			b.awaitClients(t, 1)
			l.release()
			rid()
		})
	}
	t.Run("while it unsubscribes", func(t *testing.T) {
		c := dial(t, b.Addr())
		c.Send(subscribe...)
		for range n {
			c.Recv()
		}
		c.Send("UNSUBSCRIBE")
		c.Recv()
		c.Reset()
		rid()
	})
}

// What the node has begun to confirm it has allowed as a whole: that its connection is lost in between is not noticed.
func TestSubscriptionConfirmedInPartOutlivesItsNode(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	l := startLink(t, node.Addr())
	b := startBerth(t, l.addr, "--loops", "1")
	c := dial(t, b.Addr())
	l.holdFrom(afterAnswers(1))
	c.Send("SUBSCRIBE", "a", "b", "c")
	if got := fmt.Sprint(c.Recv()); got != "[subscribe a 1]" {
		t.Error(got)
	}
	node.Kill()
	l.cut()
	for _, want := range []string{"[subscribe b 2]", "[subscribe c 3]"} {
		if got := fmt.Sprint(c.Recv()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	node.Restart(t)
	eventually(t, "all to be subscribed anew", func() bool {
		return fmt.Sprint(node.Do(t, "PUBSUB", "NUMSUB", "a", "b", "c")) == "[a 1 b 1 c 1]"
	})
	node.Do(t, "PUBLISH", "c", "x")
	if got := fmt.Sprint(c.Recv()); got != "[message c x]" {
		t.Error(got)
	}
}
