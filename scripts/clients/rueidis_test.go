package clients

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

func TestRueidisWorksUnchanged(t *testing.T) {
	onBoth(t, func(t *testing.T, b *berth) {
		for _, alwaysResp2 := range []bool{true, false} {
			t.Run(fmt.Sprintf("RESP2 %t", alwaysResp2), func(t *testing.T) {
				rueidisCourse(t, rueidis.ClientOption{
					InitAddress: []string{b.addr()}, AlwaysRESP2: alwaysResp2, DisableCache: true, ClientName: "course",
				})
			})
		}
	})
}

// What is cached on the client's side is forgotten when somebody else changes it.
func TestRueidisCachesWhatItReads(t *testing.T) {
	onBoth(t, func(t *testing.T, b *berth) {
		r, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{b.addr()}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ctx := t.Context()
		for _, key := range []string{unique(t) + "a", unique(t) + "b", unique(t) + "c"} {
			cached := func() (value string, hit bool) {
				said := r.DoCache(ctx, r.B().Get().Key(key).Cache(), time.Hour)
				value, err := said.ToString()
				want(t, "GET through the cache", err, nil)
				return value, said.IsCacheHit()
			}
			b.cli(t, "", "SET", key, "old")
			value, hit := cached()
			want(t, "first GET", []any{value, hit}, []any{"old", false})
			value, hit = cached()
			want(t, "second GET", []any{value, hit}, []any{"old", true})
			b.cli(t, "", "SET", key, "new")
			for late := time.After(patience); value != "new"; value, _ = cached() {
				select {
				case <-late:
					t.Fatal("the cache is not told that the value has changed")
				default:
				}
			}
			_, hit = cached()
			want(t, "GET of the new value from the cache", hit, true)
		}
	})
}

// rueidisCourse: over a Cluster NewClient finds out that there is one, and is a cluster client.
func rueidisCourse(t *testing.T, option rueidis.ClientOption) {
	r, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, key := t.Context(), unique(t)
	do := func(c rueidis.Completed) rueidis.RedisResult { t.Helper(); return r.Do(ctx, c) }

	var many rueidis.Commands
	for i := range 1000 {
		many = append(many, r.B().Set().Key(fmt.Sprint(key, i)).Value(fmt.Sprint(i)).Build())
	}
	for _, said := range r.DoMulti(ctx, many...) {
		want(t, "pipeline of SET", said.Error(), nil)
	}
	got, err := rueidis.MGet(r, ctx, []string{key + "1", key + "999"})
	want(t, "MGET", err, nil)
	last := got[key+"999"]
	text, _ := last.ToString()
	want(t, "MGET", text, "999")

	value := strings.Repeat("0123456789abcdef", 1<<20)
	want(t, "SET of 16 MB", do(r.B().Set().Key(key).Value(value).Build()).Error(), nil)
	back, err := do(r.B().Get().Key(key).Build()).ToString()
	want(t, "GET of 16 MB", []any{back == value, err}, []any{true, nil})
	want(t, "DEL", do(r.B().Del().Key(key).Build()).Error(), nil)

	err = r.Dedicated(func(c rueidis.DedicatedClient) error {
		watched := "{" + key + "}w"
		want(t, "WATCH", c.Do(ctx, c.B().Watch().Key(watched).Build()).Error(), nil)
		want(t, "SET by another", do(r.B().Set().Key(watched).Value("other").Build()).Error(), nil)
		said := c.DoMulti(ctx, c.B().Multi().Build(), c.B().Set().Key(watched).Value("mine").Build(), c.B().Exec().Build())
		want(t, "EXEC after a conflict", rueidis.IsRedisNil(said[2].Error()), true)
		return nil
	})
	want(t, "Dedicated", err, nil)

	q := "{" + key + "}q"
	want(t, "BLPOP that times out", rueidis.IsRedisNil(do(r.B().Blpop().Key(q).Timeout(0.05).Build()).Error()), true)
	popped := make(chan []string)
	go func() {
		got, _ := r.Do(ctx, r.B().Blpop().Key(q).Timeout(0).Build()).AsStrSlice()
		popped <- got
	}()
	want(t, "RPUSH", do(r.B().Rpush().Key(q).Element("x").Build()).Error(), nil)
	want(t, "BLPOP for ever", <-popped, []string{q, "x"})

	script := rueidis.NewLuaScript("return redis.call('INCRBY', KEYS[1], ARGV[1]) -- " + key)
	sum, err := script.Exec(ctx, r, []string{key + "n"}, []string{"5"}).AsInt64()
	want(t, "EVALSHA, NOSCRIPT, EVAL", []any{sum, err}, []any{int64(5), nil})
	rueidisChannels(t, r, key)
}

func rueidisChannels(t *testing.T, r rueidis.Client, key string) {
	c, cancel := r.Dedicate()
	defer cancel()
	heard := make(chan rueidis.PubSubMessage, 2)
	confirmed := make(chan rueidis.PubSubSubscription, 2)
	lost := c.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { heard <- m },
		OnSubscription: func(s rueidis.PubSubSubscription) { confirmed <- s },
	})
	want(t, "SUBSCRIBE", c.Do(t.Context(), c.B().Subscribe().Channel(key).Build()).Error(), nil)
	select {
	case <-confirmed:
	case err := <-lost:
		t.Fatalf("SUBSCRIBE: %v", err)
	case <-time.After(patience):
		t.Fatal("SUBSCRIBE is not confirmed")
	}
	want(t, "PUBLISH", r.Do(t.Context(), r.B().Publish().Channel(key).Message("hello").Build()).Error(), nil)
	select {
	case m := <-heard:
		want(t, "message", []string{m.Channel, m.Message}, []string{key, "hello"})
	case err := <-lost:
		t.Fatalf("subscription: %v", err)
	case <-time.After(patience):
		t.Fatal("the message does not come")
	}
}
