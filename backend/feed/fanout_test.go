package feed

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/router"
)

// mutedListener counts the messages that it gets.
type mutedListener struct {
	heard int
	asks  bool
	flush func()
}

func (l *mutedListener) Message([]byte) bool        { l.heard++; return l.asks }
func (l *mutedListener) Flush()                     { l.flush() }
func (l *mutedListener) Moves(_, _ *Feed)           {}
func (l *mutedListener) Subscribed(*Channel, bool)  {}
func (l *mutedListener) Refused(*backend.LostError) {}
func (l *mutedListener) Cut(*backend.LostError)     {}

// noLoop runs nothing: what is posted waits in it.
type noLoop struct {
	backend.Loop
	now    int64
	posted chan func()
}

func (l *noLoop) Now() int64    { return l.now }
func (l *noLoop) Wake()         {}
func (l *noLoop) Enter() int64  { return l.now }
func (l *noLoop) After()        {}
func (l *noLoop) Post(f func()) { l.posted <- f }

// onePlace is a single node.
type onePlace struct{ t *router.Topology }

func (p onePlace) Topology() *router.Topology { return p.t }
func (onePlace) Refresh()                     {}
func (onePlace) Lost()                        {}

// upFeed returns a feed whose link is up, without a socket.
func upFeed(channels ...string) (*Feeds, *Feed, map[string]*Channel) {
	loop := &noLoop{posted: make(chan func(), 1)}
	settings := &backend.LinkSettings{}
	fs := New(loop, settings, onePlace{router.Single("node:1")}, NewAudience(nil))
	set := fs.Of(backend.Identity{})
	f := set.node("node:1")
	f.link.Begin()
	f.link.Opened(settings.Logins.Handshake("node:1", backend.Identity{}), 0)
	set.home = f
	byName := map[string]*Channel{}
	for _, name := range channels {
		ch := set.Claim(PlainChannel, []byte(name)) // somebody is about to listen: it stays
		ch.moveTo(f)
		byName[name] = ch
	}
	return fs, f, byName
}

func TestListenersThatLeaveAndComeDuringADeliveryDisturbNobody(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		fs, _, channels := upFeed("c")
		ch := channels["c"]
		var subs []*Subscription
		listeners := map[*Subscription]*mutedListener{}
		join := func() {
			l := &mutedListener{}
			sub := ch.Join(l)
			subs = append(subs, sub)
			listeners[sub] = l
		}
		for range 1 + rnd.IntN(40) {
			join()
		}
		before := len(subs)
		left := map[*Subscription]bool{}
		ch.pending = len(ch.places)
		for ch.pending > 0 {
			fs.spread(ch, []byte("m"), &budget{1 + rnd.IntN(5), 100})
			for range rnd.IntN(4) {
				if i := rnd.IntN(len(subs)); !left[subs[i]] {
					left[subs[i]] = true
					subs[i].Leave()
				}
			}
			if rnd.IntN(3) == 0 {
				join()
			}
		}
		for i, sub := range subs {
			heard := listeners[sub].heard
			switch {
			case left[sub] && heard > 1, i >= before && heard > 0, i < before && !left[sub] && heard != 1:
				t.Fatalf("seed %d: listener %d of %d (left: %v) heard the message %d times", seed, i, before, left[sub], heard)
			}
		}
		for i, sub := range ch.places {
			if sub.index != i || left[sub] {
				t.Fatalf("seed %d: place %d holds a subscription that is at %d (left: %v)", seed, i, sub.index, left[sub])
			}
		}
	}
}

func message(channel, text string) []byte {
	return fmt.Appendf(nil, "*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(channel), channel, len(text), text)
}

func TestManyDeliveriesAreSlicedAndNoneIsForgotten(t *testing.T) {
	fs, f, channels := upFeed("a", "b")
	loop := fs.loop.(*noLoop)
	const listeners = 3000
	var all []*mutedListener
	flushed := 0
	for i := range listeners {
		l := &mutedListener{asks: true}
		l.flush = func() {
			flushed++
			if flushed%100 == 0 {
				for begin := time.Now(); time.Since(begin) < fanOutSlice/4; { // a slow write holds the loop
				}
			}
		}
		all = append(all, l)
		channels["a"].Join(l)
		if i%2 == 0 {
			channels["b"].Join(l)
		}
	}
	var bytes []byte
	for range 3 {
		bytes = append(bytes, message("a", "to all")...)
		bytes = append(bytes, message("b", "to half")...)
		bytes = append(bytes, message("c", "to nobody")...)
	}
	cut := len(bytes) - 11
	fs.arrived(f, bytes[:cut])
	fs.arrived(f, bytes[cut:])
	slices := 1
	for fs.posted {
		(<-loop.posted)()
		slices++
	}
	for i, l := range all {
		if want := 3 + 3*((i+1)%2); l.heard != want {
			t.Fatalf("listener %d heard %d messages, want %d", i, l.heard, want)
		}
	}
	if slices < 4 {
		t.Errorf("all in %d slices: the loop was held", slices)
	}
	if len(f.in) != 0 || f.inPos != 0 || len(fs.queue) != 0 || len(fs.toFlush) != 0 {
		t.Errorf("left over: %d bytes, %d feeds, %d listeners", len(f.in), len(fs.queue), len(fs.toFlush))
	}
}

func TestABacklogIsDeliveredBeforeItGrowsWithoutBound(t *testing.T) {
	fs, f, channels := upFeed("a")
	l := &mutedListener{asks: true, flush: func() {}}
	channels["a"].Join(l)
	fs.posted = true // a later visit that never comes
	one := message("a", string(make([]byte, 1<<20)))
	for range 40 {
		fs.arrived(f, one)
		if len(f.in)-f.inPos > maxFeedBacklog+len(one) {
			t.Fatalf("%d bytes wait", len(f.in)-f.inPos)
		}
	}
	if l.heard < 20 {
		t.Errorf("%d messages were delivered", l.heard)
	}
}

func TestDeliveringCostsNoAllocation(t *testing.T) {
	fs, f, channels := upFeed("channel")
	for range 100 {
		channels["channel"].Join(&mutedListener{})
	}
	m := message("channel", "some text of some length")
	if n := testing.AllocsPerRun(100, func() { fs.arrived(f, m) }); n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

func BenchmarkDelivery(b *testing.B) {
	fs, f, channels := upFeed("channel")
	for range 100 {
		channels["channel"].Join(&mutedListener{})
	}
	m := message("channel", "some text of some length")
	for b.Loop() {
		fs.arrived(f, m)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/delivery")
}
