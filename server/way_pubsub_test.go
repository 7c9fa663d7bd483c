package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// pubsubStep is one thing that is done to a Redis in a test, and how many replies and messages it brings the subscriber.
// A command that begins with "publisher:" is another client's, whose answer is not looked at.
type pubsubStep struct {
	line   string
	expect int
}

// pubsubCases are what subscribers do. Each line is split at blanks.
var pubsubCases = []struct {
	name  string
	steps []pubsubStep
}{
	{"channel, pattern and shard channel", []pubsubStep{
		{"SUBSCRIBE ps:a ps:a", 2}, {"PSUBSCRIBE ps:*", 1}, {"publisher:PUBLISH ps:a m", 2}, {"SSUBSCRIBE ps:s", 1},
		{"publisher:SPUBLISH ps:s m", 1}, {"UNSUBSCRIBE", 1}, {"publisher:PUBLISH ps:a n", 1}, {"PUNSUBSCRIBE ps:zz", 1}, {"PUNSUBSCRIBE", 1},
		{"PING", 1}, {"SUNSUBSCRIBE", 1}, {"SUNSUBSCRIBE", 1}, {"PING", 1}}},
	{"several at once, in the order of the request", []pubsubStep{
		{"SUBSCRIBE ps:1 ps:2 ps:3", 3}, {"SUBSCRIBE ps:2 ps:4", 2}, {"UNSUBSCRIBE ps:3 ps:nothing ps:1", 3}, {"PSUBSCRIBE x* y* z*", 3},
		{"PUNSUBSCRIBE", 3}, {"publisher:PUBLISH ps:1 no", 0}, {"publisher:PUBLISH ps:4 yes", 1}}},
	{"unsubscribe without subscriptions", []pubsubStep{
		{"UNSUBSCRIBE", 1}, {"PUNSUBSCRIBE", 1}, {"SUNSUBSCRIBE", 1}, {"UNSUBSCRIBE ps:a ps:b", 2}, {"SET ps:k v", 1}}},
	{"commands of a subscriber", []pubsubStep{
		{"SUBSCRIBE ps:a", 1}, {"PING", 1}, {"PING x", 1}, {"PING x y", 1}, {"GET ps:k", 1}, {"GET", 1}, {"CONFIG GET port", 1}, {"nonsense", 1},
		{"SUBSCRIBE", 1}, {"MULTI", 1}, {"SELECT 0", 1}, {"UNSUBSCRIBE", 1}, {"GET ps:nothing", 1}}},
	{"RESET", []pubsubStep{
		{"SUBSCRIBE ps:a", 1}, {"PSUBSCRIBE ps:*", 1}, {"SSUBSCRIBE ps:s", 1}, {"RESET", 1}, {"publisher:PUBLISH ps:a m", 0}, {"PING", 1}, {"GET ps:nothing", 1},
		{"SUBSCRIBE ps:b", 1}}},
	{"CLIENT REPLY does not hold up pushes", []pubsubStep{
		{"CLIENT REPLY OFF", 0}, {"SUBSCRIBE ps:a ps:b", 2}, {"publisher:PUBLISH ps:a m", 1}, {"PING", 0}, {"UNSUBSCRIBE ps:b", 1}, {"UNSUBSCRIBE", 1},
		{"UNSUBSCRIBE", 1}, {"CLIENT REPLY ON", 1}, {"CLIENT REPLY SKIP", 0}, {"SUBSCRIBE ps:c", 1}}},
	{"empty and binary names", []pubsubStep{
		{"SUBSCRIBE \x00\r\n  {}", 3}, {"publisher:PUBLISH {} \r\n", 1}, {"PSUBSCRIBE [a-c]? \\*", 2}, {"publisher:PUBLISH b1 x", 1}, {"publisher:PUBLISH * x", 1}}},
	{"between WATCH and EXEC", []pubsubStep{
		{"WATCH ps:w", 1}, {"SUBSCRIBE ps:a", 1}, {"UNSUBSCRIBE", 1}, {"publisher:SET ps:w 1", 0}, {"MULTI", 1}, {"PING", 1}, {"EXEC", 1}}},
	{"RESP3", []pubsubStep{
		{"HELLO 3", 1}, {"SUBSCRIBE ps:a", 1}, {"PSUBSCRIBE ps:*", 1}, {"publisher:PUBLISH ps:a m", 2}, {"GET ps:nothing", 1}, {"PING", 1}, {"SET ps:3 1", 1},
		{"PUBLISH ps:a own", 3}, {"SPUBLISH ps:s x", 1}, {"SSUBSCRIBE ps:s", 1}, {"SPUBLISH ps:s own", 2}, {"MULTI", 1}, {"GET ps:3", 1}, {"EXEC", 1},
		{"WATCH ps:3", 1}, {"MULTI", 1}, {"INCR ps:3", 1}, {"EXEC", 1}, {"BLPOP ps:list 0.01", 1}, {"UNSUBSCRIBE", 1}, {"UNSUBSCRIBE", 1}, {"PUNSUBSCRIBE", 1},
		{"SUNSUBSCRIBE", 1}, {"SUNSUBSCRIBE", 1}}},
	{"from RESP3 to RESP2 and back", []pubsubStep{
		{"HELLO 3", 1}, {"SUBSCRIBE ps:a", 1}, {"HELLO 2", 1}, {"publisher:PUBLISH ps:a m", 1}, {"GET ps:3", 1}, {"HELLO 3", 1}, {"PING", 1},
		{"UNSUBSCRIBE", 1}, {"HELLO 3", 1}, {"SUBSCRIBE ps:b", 1}, {"publisher:PUBLISH ps:b m", 1}, {"RESET", 1}, {"SUBSCRIBE ps:b", 1},
		{"publisher:PUBLISH ps:b m", 1}}},
	{"QUIT", []pubsubStep{{"SUBSCRIBE ps:a", 1}, {"QUIT", 1}}},
}

// runPubsub plays a case to a Redis and returns what came back, a line for each step.
func runPubsub(t *testing.T, addr string, steps []pubsubStep) []string {
	c, publisher := dial(t, addr), dial(t, addr)
	defer c.Close()
	defer publisher.Close()
	var got []string
	for _, step := range steps {
		words := strings.Split(step.line, " ")
		if other, ok := strings.CutPrefix(words[0], "publisher:"); ok {
			words[0] = other
			publisher.Do(words)
		} else {
			c.Send(words)
		}
		line := step.line + " →"
		for range step.expect {
			line += " " + hideID(c.RecvRaw())
		}
		got = append(got, line)
	}
	// Nothing more has come: the answer to a last word is next.
	if steps[len(steps)-1].line != "QUIT" {
		c.Send("sentinel")
		got = append(got, c.RecvRaw())
	} else {
		got = append(got, c.ReadAll())
	}
	return got
}

// hideID takes a client's number out of HELLO's reply.
func hideID(reply string) string {
	before, after, found := strings.Cut(reply, "$2\r\nid\r\n:")
	if !found {
		return reply
	}
	_, after, _ = strings.Cut(after, "\r\n")
	return before + after
}

// ownMessageFirst puts the reply to a subscriber's own PUBLISH after its messages, where berth sends
// it. Redis does so before 7.2.
func ownMessageFirst(srv *server, line, got string) string {
	before, replies, _ := strings.Cut(got, " → ")
	reply, messages, found := strings.Cut(replies, "\r\n ")
	if srv.isBefore(7, 2) || !found || !strings.HasPrefix(line, "PUBLISH ") && !strings.HasPrefix(line, "SPUBLISH ") || reply[0] != ':' {
		return got
	}
	return before + " → " + messages + " " + reply + "\r\n"
}

// unorderedNames sorts the words of what ends all subscriptions to patterns, which later versions
// than 7.0 end in the order of a hash table.
func unorderedNames(srv *server, line, got string) string {
	if srv.isBefore(7, 2) || line != "PUNSUBSCRIBE" {
		return got
	}
	words := strings.Split(got, "\r\n")
	slices.Sort(words)
	return strings.Join(words, "\r\n")
}

func TestSubscribersAreAnsweredAsByRedis(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	shared := startBerth(t, node.Addr())
	own := startBerth(t, node.Addr(), "--pubsub-sharing", "no")
	for _, c := range pubsubCases {
		t.Run(c.name, func(t *testing.T) {
			want := runPubsub(t, node.Addr(), c.steps)
			for i, s := range c.steps {
				want[i] = unorderedNames(shared.srv, s.line, ownMessageFirst(shared.srv, s.line, want[i]))
			}
			for name, b := range map[string]*berthServer{"shared": shared, "own": own} {
				got := runPubsub(t, b.Addr(), c.steps)
				for i := range want {
					if i < len(c.steps) {
						got[i] = unorderedNames(b.srv, c.steps[i].line, got[i])
					}
					if got[i] != want[i] {
						if name == "own" && strings.Contains(c.steps[i].line, "PUBLISH") { // its own message may come behind the reply
							continue
						}
						t.Errorf("%s: %q, want %q", name, got[i], want[i])
					}
				}
			}
		})
	}
}

func TestSubscribersOfTheEmbeddedBackend(t *testing.T) {
	parallel(t)
	b := startBerth(t, "", "--loops", "2")
	for i := range 4 {
		c, publisher := dial(t, b.Addr()), dial(t, b.Addr())
		if i%2 == 0 {
			c.Do("HELLO", "3")
		}
		for _, step := range []struct{ line, want string }{
			{"SUBSCRIBE a", "[subscribe a 1]"}, {"PSUBSCRIBE b*", "[psubscribe b* 2]"}, {"SUBSCRIBE a", "[subscribe a 2]"},
			{"UNSUBSCRIBE a", "[unsubscribe a 1]"},
		} {
			if got := fmt.Sprint(c.Do(strings.Fields(step.line))); got != step.want {
				t.Errorf("%s: %s, want %s", step.line, got, step.want)
			}
		}
		publisher.Do("PUBLISH", "bb", "x")
		if got := fmt.Sprint(c.Recv()); got != "[pmessage b* bb x]" {
			t.Error(got)
		}
	}
}

func TestSubscriptionFromInsideMultiHearsWhatIsPublishedAfterExec(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	c, publisher := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, c, "MULTI → OK", "SUBSCRIBE inside:a → QUEUED", "EXEC → [[subscribe inside:a 1]]")
	publisher.Do("PUBLISH", "inside:a", "x")
	if got := fmt.Sprint(c.Recv()); got != "[message inside:a x]" {
		t.Error(got)
	}
}

// nodeSubscribers counts a node's connections that are subscribed to anything.
func nodeSubscribers(t testing.TB, node *redistest.Server) int {
	list, _ := node.Do(t, "CLIENT", "LIST", "TYPE", "pubsub").(string)
	return strings.Count(list, "id=")
}

func TestWhatWasPublishedBeforeComesBeforeTheAnswer(t *testing.T) {
	node := sharedNode(t)
	b := startBerth(t, node.Addr(), "--loops", "2")
	publisher, witness := dial(t, b.Addr()), dial(t, b.Addr())
	witness.Do("SUBSCRIBE", "order:c") // the channel stays
	for i := range 500 {
		c := dial(t, b.Addr())
		publisher.Do("PUBLISH", "order:c", fmt.Sprint("before ", i))
		if got := fmt.Sprint(c.Do("SUBSCRIBE", "order:c")); got != "[subscribe order:c 1]" {
			t.Fatal(got)
		}
		publisher.Do("PUBLISH", "order:c", fmt.Sprint("first ", i))
		if got := fmt.Sprint(c.Do("PING")); got != fmt.Sprintf("[message order:c first %d]", i) {
			t.Fatal(got)
		}
		c.Recv()
		publisher.Do("PUBLISH", "order:c", fmt.Sprint("second ", i))
		if got := fmt.Sprint(c.Do("UNSUBSCRIBE")); got != fmt.Sprintf("[message order:c second %d]", i) {
			t.Fatal(got)
		}
		c.Recv()
		publisher.Do("PUBLISH", "order:c", fmt.Sprint("after ", i))
		if got := fmt.Sprint(c.Do("PING")); got != "PONG" {
			t.Fatal(got)
		}
		c.Close()
		for range 4 {
			witness.Recv()
		}
	}
}

func TestPushesComeBetweenRepliesNeverInside(t *testing.T) {
	node := sharedNode(t)
	b := startBerth(t, node.Addr())
	c, publisher := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("HELLO", "3")
	c.Do("SUBSCRIBE", "inside:c")
	big := strings.Repeat("x", 300<<10)
	c.Do("SET", "inside:big", big)
	done := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case done <- n:
				return
			default:
				if _, err := publisher.TryDo("PUBLISH", "inside:c", n); err != nil {
					return
				}
				n++
			}
		}
	}()
	next, replies := 0, 0
	for round := range 20 {
		for range 3 {
			c.Send("GET", "inside:big")
			c.Send("MGET", "inside:big", "inside:none")
			c.Send("ECHO", round)
		}
		for want := 9; want > 0; {
			got := c.Recv()
			if message, ok := isPush(got); ok {
				if message != fmt.Sprint("message inside:c ", next) {
					t.Fatalf("got %q, want message %d", message, next)
				}
				next++
				continue
			}
			want--
			replies++
			if text, _ := got.(string); len(text) != len(big) && text != fmt.Sprint(round) {
				if list, _ := got.([]any); len(list) != 2 || list[0] != big {
					t.Fatalf("reply %d: %.100v", replies, got)
				}
			}
		}
	}
	published := <-done
	for ; next < published; next++ {
		if message, _ := isPush(c.Recv()); message != fmt.Sprint("message inside:c ", next) {
			t.Fatalf("got %q, want message %d", message, next)
		}
	}
}

// isPush is the words of a push.
func isPush(reply any) (string, bool) {
	p, ok := reply.(redistest.Push)
	return strings.Trim(fmt.Sprint([]any(p)), "[]"), ok
}

func TestPermissionIsTheAskersOwn(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "half", "on", ">pw", "+@all", "~*", "resetchannels", "&may:*")
	b := startBerth(t, node.Addr())
	direct, half, all := dial(t, node.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	for _, c := range []*redistest.Conn{direct, half} {
		c.Do("AUTH", "half", "pw")
	}
	all.Do("SUBSCRIBE", "not")
	for _, line := range []string{"SUBSCRIBE may:1 not", "SUBSCRIBE may:1", "PSUBSCRIBE m*", "PSUBSCRIBE may:*", "SSUBSCRIBE other", "UNSUBSCRIBE other"} {
		want, got := direct.DoRaw(strings.Fields(line)), half.DoRaw(strings.Fields(line))
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	// Who loses the permission is closed, nobody else.
	node.Do(t, "ACL", "SETUSER", "half", "resetchannels")
	if got := half.ReadAll(); got != "" {
		t.Errorf("before it was closed it got %q", got)
	}
	all.Do("PING") // berth has seen what the node closed
	if b.srv.clients.Load() != 1 {
		t.Errorf("%d clients are left", b.srv.clients.Load())
	}
}

func TestUserOfASubscriptionIsTheOneWhoMadeIt(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "other", "on", ">pw", "+@all", "~*", "&*")
	b := startBerth(t, node.Addr())
	c, publisher := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("HELLO", "3")
	c.Do("SUBSCRIBE", "a")
	c.Do("AUTH", "other", "pw")
	c.Do("SUBSCRIBE", "b")
	users := fmt.Sprint(node.Do(t, "CLIENT", "LIST", "TYPE", "pubsub"))
	if !strings.Contains(users, "user=default") || !strings.Contains(users, "user=other") {
		t.Errorf("at the node: %s", users)
	}
	for _, ch := range []string{"a", "b"} {
		publisher.Do("PUBLISH", ch, "x")
		if got, _ := isPush(c.Recv()); got != "message "+ch+" x" {
			t.Errorf("%q", got)
		}
	}
	c.Send("UNSUBSCRIBE")
	for _, want := range []string{"unsubscribe a 1", "unsubscribe b 0"} {
		if got, _ := isPush(c.Recv()); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMonitorAndSubscriptionsSideBySide(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	direct := dial(t, node.Addr())
	for _, args := range [][]string{{"--pubsub-sharing", "yes"}, {"--pubsub-sharing", "no"}} {
		b.set(strings.TrimPrefix(args[0], "--"), args[1])
		c := dial(t, b.Addr())
		c.Do("HELLO", "3")
		c.Do("SUBSCRIBE", "a")
		if got := c.Do("MONITOR"); got != "OK" {
			t.Fatalf("%v: MONITOR: %v", args, got)
		}
		direct.Do("SET", "seen", "1")
		for line := ""; !strings.Contains(line, `"SET" "seen" "1"`); {
			line = fmt.Sprint(c.Recv())
		}
		direct.Do("PUBLISH", "a", "x")
		for got := ""; got != "message a x"; {
			got, _ = isPush(c.Recv())
		}
		if got := fmt.Sprint(c.Do("GET", "k")); !strings.Contains(got, "Replica can't interact with the keyspace") {
			for ; !strings.Contains(got, "Replica can't"); got = fmt.Sprint(c.Recv()) {
			}
		}
		c.Close()
	}
	eventually(t, "the node to be rid of them", func() bool {
		list, _ := node.Do(t, "CLIENT", "LIST").(string)
		return !strings.Contains(list, "flags=O")
	})
}

func TestSharingCanBeSwitchedWhileClientsAreSubscribed(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1")
	var all []*redistest.Conn
	join := func() {
		c := dial(t, b.Addr())
		c.Do("SUBSCRIBE", "c")
		all = append(all, c)
	}
	for range 5 {
		join()
	}
	if n := nodeSubscribers(t, node); n != 1 {
		t.Errorf("5 subscribers have %d connections", n)
	}
	b.set("pubsub-sharing", "no")
	for range 5 {
		join()
	}
	if n := nodeSubscribers(t, node); n != 6 {
		t.Errorf("5 shared and 5 other subscribers have %d connections", n)
	}
	b.set("pubsub-sharing", "yes")
	join()
	node.Do(t, "PUBLISH", "c", "x")
	for _, c := range all {
		if got := fmt.Sprint(c.Recv()); got != "[message c x]" {
			t.Error(got)
		}
		c.Do("SUBSCRIBE", "more")
		if got := fmt.Sprint(c.Do("UNSUBSCRIBE", "c")); got != "[unsubscribe c 1]" {
			t.Error(got)
		}
		c.Close()
	}
	eventually(t, "the node to hear of no channel", func() bool {
		return fmt.Sprint(node.Do(t, "PUBSUB", "CHANNELS")) == "[]" && nodeSubscribers(t, node) == 0
	})
}

func TestSubscribersOutliveTheirNodesConnection(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	c, watcher := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("SUBSCRIBE", "a")
	c.Do("PSUBSCRIBE", "b*")
	watcher.Do("SUBSCRIBE", "a")
	for range 3 {
		node.Do(t, "CLIENT", "KILL", "TYPE", "pubsub")
		eventually(t, "all to be subscribed anew", func() bool {
			return fmt.Sprint(node.Do(t, "PUBSUB", "NUMPAT")) == "1" && node.Do(t, "PUBLISH", "probe", "") != nil &&
				fmt.Sprint(node.Do(t, "PUBSUB", "NUMSUB", "a")) == fmt.Sprintf("[a %d]", nodeSubscribers(t, node))
		})
	}
	eventually(t, "a message to arrive", func() bool {
		node.Do(t, "PUBLISH", "a", "x")
		c.SetTimeout(100 * time.Millisecond)
		got, err := c.TryRecv()
		return err == nil && fmt.Sprint(got) == "[message a x]"
	})
	node.Kill()
	fresh := dial(t, b.Addr())
	eventually(t, "the refusal", func() bool {
		return strings.HasPrefix(fmt.Sprint(fresh.Do("SUBSCRIBE", "a")), "TRYAGAIN berth: no connection to ")
	})
	if got := fmt.Sprint(fresh.Do("GET", "a")); strings.Contains(got, "Can't execute") {
		t.Errorf("a refused subscriber counts as one: %s", got)
	}
	node.Restart(t)
	watcher.SetTimeout(100 * time.Millisecond)
	eventually(t, "a message after the restart", func() bool {
		node.Do(t, "PUBLISH", "a", "again")
		got, err := watcher.TryRecv()
		return err == nil && fmt.Sprint(got) == "[message a again]"
	})
}

func TestSubscribersComeAndGoAndNothingStays(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "2")
	stop := make(chan bool)
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			p, err := redistest.TryDial(t, b.Addr())
			for i := 0; err == nil; i++ {
				select {
				case <-stop:
					return
				default:
					_, err = p.TryDo("PUBLISH", fmt.Sprint("churn:", i%7), i)
				}
			}
		})
	}
	var clients sync.WaitGroup
	for who := range 20 {
		clients.Go(func() {
			for round := range 30 {
				c, err := redistest.TryDial(t, b.Addr())
				if err != nil {
					t.Error(err)
					return
				}
				if (who+round)%2 == 0 {
					_ = c.TrySend("HELLO", "3")
				}
				channel, other := fmt.Sprint("churn:", (who+round)%7), fmt.Sprint("churn:", (who*round)%7)
				_ = c.TrySend("SUBSCRIBE", channel, other)
				_ = c.TrySend("PSUBSCRIBE", "churn:*")
				switch round % 4 {
				case 0:
					_ = c.TrySend("UNSUBSCRIBE", other)
				case 1:
					_ = c.TrySend("UNSUBSCRIBE")
					_ = c.TrySend("PUNSUBSCRIBE")
				case 2:
					_ = c.TrySend("RESET")
				}
				for heard := 0; heard < round%5; heard++ {
					if _, err := c.TryRecv(); err != nil {
						t.Error(err)
					}
				}
				if round%3 == 0 {
					c.Reset()
				} else {
					c.Close()
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	others.Wait()
	eventually(t, "the node to hear of no channel and the feeds to end", func() bool {
		return fmt.Sprint(node.Do(t, "PUBSUB", "CHANNELS"), node.Do(t, "PUBSUB", "NUMPAT")) == "[] 0" && nodeSubscribers(t, node) == 0
	})
}

// A client that has subscribed as two users has two feeds. What answers behind the messages waits for both.
func TestAnswerOfASubscriberComesBehindTheMessagesOfAllItsFeeds(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "other", "on", ">pw", "+@all", "~*", "&*")
	for _, late := range []string{"a", "b"} {
		for _, test := range []struct{ request, answer string }{
			{"PING", "PONG"}, {"PUBLISH " + late + " x", "1"}, {"UNSUBSCRIBE none", "[unsubscribe none 2]"},
		} {
			t.Run(test.request+" behind a message to "+late, func(t *testing.T) {
				l := startLink(t, node.Addr())
				b := startBerth(t, l.addr, "--loops", "1")
				c := dial(t, b.Addr())
				c.Do("HELLO", "3")
				c.Do("SUBSCRIBE", "a")
				c.Do("AUTH", "other", "pw")
				c.Do("SUBSCRIBE", "b")
				l.holdFrom(func(reply string) bool { return strings.HasSuffix(reply, "\r\n"+late+"\r\n$1\r\nx\r\n") })
				if !strings.HasPrefix(test.request, "PUBLISH") {
					node.Do(t, "PUBLISH", late, "x")
				}
				c.Send(strings.Fields(test.request))
				eventually(t, "both feeds to be asked whether that is all", func() bool {
					list, _ := node.Do(t, "CLIENT", "LIST", "TYPE", "pubsub").(string)
					return strings.Count(list, " cmd=ping ") == 2
				})
				l.release()
				for _, want := range []string{"[message " + late + " x]", test.answer} {
					if got := fmt.Sprint(c.Recv()); got != want {
						t.Errorf("%s, want %s", got, want)
					}
				}
				c.Close()
				b.Stop()
				eventually(t, "the node to be left alone", func() bool { return nodeSubscribers(t, node) == 0 })
			})
		}
	}
}
