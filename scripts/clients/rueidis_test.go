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
			t.Run(fmt.Sprintf("RESP2 %t", alwaysResp2), func(t *testing.T) { rueidisCourse(t, b, alwaysResp2) })
		}
	})
}

// A value in the client's cache is invalidated when another client changes it.
func TestRueidisCachesWhatItReads(t *testing.T) {
	onBoth(t, func(t *testing.T, b *berth) {
		r, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{b.addr()}, TLSConfig: b.tls})
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
					t.Fatal("the cache still has the old value")
				default:
				}
			}
			_, hit = cached()
			want(t, "GET of the new value from the cache", hit, true)
		}
	})
}

// rueidisCourse runs all checks. With a Cluster, NewClient detects the Cluster and returns a
// cluster client.
func rueidisCourse(t *testing.T, b *berth, alwaysResp2 bool) {
	r, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{b.addr()}, AlwaysRESP2: alwaysResp2, DisableCache: true, ClientName: "course", TLSConfig: b.tls,
	})
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

	value := strings.Repeat("0123456789abcdef", 1<<18)
	want(t, "SET of 4 MB", do(r.B().Set().Key(key).Value(value).Build()).Error(), nil)
	back, err := do(r.B().Get().Key(key).Build()).ToString()
	want(t, "GET of 4 MB", []any{back == value, err}, []any{true, nil})
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
	rueidisStreams(t, r, key+"s")
	rueidisFunctions(t, r, key)
	rueidisScan(t, r, key+"scan")
	rueidisChannels(t, r, key)
	rueidisKilled(t, r, key)
}

func rueidisStreams(t *testing.T, r rueidis.Client, key string) {
	ctx := t.Context()
	want(t, "XGROUP CREATE", r.Do(ctx, r.B().XgroupCreate().Key(key).Group("g").Id("$").Mkstream().Build()).Error(), nil)
	read := make(chan map[string][]rueidis.XRangeEntry, 1)
	go func() {
		entries, err := r.Do(ctx, r.B().Xreadgroup().Group("g", "c").Block(0).Streams().Key(key).Id(">").Build()).AsXRead()
		want(t, "XREADGROUP", err, nil)
		read <- entries
	}()
	id, err := r.Do(ctx, r.B().Xadd().Key(key).Id("*").FieldValue().FieldValue("f", "v").Build()).ToString()
	want(t, "XADD", err, nil)
	got := (<-read)[key]
	want(t, "entry", []any{len(got), got[0].ID, got[0].FieldValues["f"]}, []any{1, id, "v"})
	acked, err := r.Do(ctx, r.B().Xack().Key(key).Group("g").Id(id).Build()).AsInt64()
	want(t, "XACK", []any{acked, err}, []any{int64(1), nil})
	err = r.Do(ctx, r.B().Xread().Block(20).Streams().Key(key).Id("$").Build()).Error()
	want(t, "XREAD that times out", rueidis.IsRedisNil(err), true)
}

func rueidisFunctions(t *testing.T, r rueidis.Client, key string) {
	ctx, lib := t.Context(), fmt.Sprintf("l%x", key)
	code := "#!lua name=" + lib + "\nredis.register_function('" + lib + "', function(k, a) return k[1] end)"
	got, err := r.Do(ctx, r.B().FunctionLoad().FunctionCode(code).Build()).ToString()
	want(t, "FUNCTION LOAD", []any{got, err}, []any{lib, nil})
	for i := range 8 {
		k := fmt.Sprint(key, i)
		got, err := r.Do(ctx, r.B().Fcall().Function(lib).Numkeys(1).Key(k).Build()).ToString()
		want(t, "FCALL", []any{got, err}, []any{k, nil})
	}
	want(t, "FUNCTION DELETE", r.Do(ctx, r.B().FunctionDelete().LibraryName(lib).Build()).Error(), nil)
}

// rueidisScan runs SCAN on each node that the client knows. There is only one: berth.
func rueidisScan(t *testing.T, r rueidis.Client, key string) {
	const n = 500
	var many rueidis.Commands
	for i := range n {
		many = append(many, r.B().Set().Key(fmt.Sprint(key, i)).Value("v").Build())
	}
	for _, said := range r.DoMulti(t.Context(), many...) {
		want(t, "SET", said.Error(), nil)
	}
	seen := map[string]bool{}
	for _, node := range r.Nodes() {
		for cursor, done := uint64(0), false; !done; done = cursor == 0 {
			page, err := node.Do(t.Context(), node.B().Scan().Cursor(cursor).Match(key+"*").Count(100).Build()).AsScanEntry()
			want(t, "SCAN", err, nil)
			for _, k := range page.Elements {
				seen[k] = true
			}
			cursor = page.Cursor
		}
	}
	want(t, "keys that SCAN finds", len(seen), n)
}

// rueidisKilled kills all connections of the client, which must reconnect by itself.
func rueidisKilled(t *testing.T, r rueidis.Client, key string) {
	ctx := t.Context()
	// The reply to CLIENT KILL may be lost with the connection. A SET at that moment may fail too,
	// because the client does not repeat writes.
	_ = r.Do(ctx, r.B().ClientKill().TypeNormal().SkipmeNo().Build()).Error()
	for late := time.After(patience); r.Do(ctx, r.B().Set().Key(key).Value("v").Build()).Error() != nil; {
		select {
		case <-late:
			t.Fatal("the client does not reconnect")
		default:
		}
	}
	for range 100 {
		got, err := r.Do(ctx, r.B().Get().Key(key).Build()).ToString()
		want(t, "GET after CLIENT KILL", []any{got, err}, []any{"v", nil})
	}
}

func rueidisChannels(t *testing.T, r rueidis.Client, key string) {
	rueidisChannel(t, r, key, r.B().Subscribe().Channel(key).Build(), r.B().Publish().Channel(key).Message("hello").Build())
	rueidisChannel(t, r, key, r.B().Ssubscribe().Channel(key).Build(), r.B().Spublish().Channel(key).Message("hello").Build())
}

func rueidisChannel(t *testing.T, r rueidis.Client, key string, subscribe, publish rueidis.Completed) {
	c, cancel := r.Dedicate()
	defer cancel()
	heard := make(chan rueidis.PubSubMessage, 2)
	confirmed := make(chan rueidis.PubSubSubscription, 2)
	lost := c.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { heard <- m },
		OnSubscription: func(s rueidis.PubSubSubscription) { confirmed <- s },
	})
	name := subscribe.Commands()[0]
	want(t, name, c.Do(t.Context(), subscribe).Error(), nil)
	select {
	case <-confirmed:
	case err := <-lost:
		t.Fatalf("%s: %v", name, err)
	case <-time.After(patience):
		t.Fatal(name, "is not confirmed")
	}
	want(t, "publication", r.Do(t.Context(), publish).Error(), nil)
	select {
	case m := <-heard:
		want(t, "message", []string{m.Channel, m.Message}, []string{key, "hello"})
	case err := <-lost:
		t.Fatalf("subscription: %v", err)
	case <-time.After(patience):
		t.Fatal("the message does not arrive")
	}
}
