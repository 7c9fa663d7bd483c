package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestGoRedisWorksUnchanged(t *testing.T) {
	onBoth(t, func(t *testing.T, b *berth) {
		for _, protocol := range []int{2, 3} {
			t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
				goRedisSingle(t, b, protocol)
			})
		}
		if b.kind != "cluster" {
			return
		}
		for _, protocol := range []int{2, 3} {
			t.Run(fmt.Sprintf("ClusterClient RESP%d", protocol), func(t *testing.T) {
				r := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{b.addr()}, Protocol: protocol, TLSConfig: b.tls})
				defer r.Close()
				goRedisCourse(t, r)
				var masters []string
				err := r.ForEachMaster(t.Context(), func(_ context.Context, c *redis.Client) error {
					masters = append(masters, c.Options().Addr)
					return nil
				})
				if err != nil || !slices.Equal(masters, []string{b.addr()}) {
					t.Errorf("masters %v, %v", masters, err)
				}
			})
		}
	})
}

// goRedisSingle runs all checks on a client.
func goRedisSingle(t *testing.T, b *berth, protocol int) {
	r := redis.NewClient(&redis.Options{
		Addr: b.addr(), Protocol: protocol, ClientName: "course", PoolSize: 20, TLSConfig: b.tls,
	})
	defer r.Close()
	goRedisCourse(t, r)
}

// goRedisCourse runs all checks on a client or a cluster client.
func goRedisCourse(t *testing.T, r redis.UniversalClient) {
	key := unique(t)
	for name, part := range map[string]func(*testing.T, redis.UniversalClient, string){
		"pipelines": goRedisPipelines, "large value": goRedisLargeValue, "transactions": goRedisTransactions,
		"blocking": goRedisBlocking, "streams": goRedisStreams, "channels": goRedisChannels, "scripts": goRedisScripts,
		"killed": goRedisKilled,
	} {
		t.Run(name, func(t *testing.T) { part(t, r, key+name) })
	}
}

func goRedisPipelines(t *testing.T, r redis.UniversalClient, key string) {
	ctx := t.Context()
	const n = 1000
	set, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range n {
			p.Set(ctx, fmt.Sprint(key, i), i, 0)
		}
		return nil
	})
	want(t, "pipeline of SET", []any{len(set), err}, []any{n, nil})
	got, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range n {
			p.Get(ctx, fmt.Sprint(key, i))
		}
		return nil
	})
	want(t, "pipeline of GET", err, nil)
	for i, c := range got {
		want(t, "GET", c.(*redis.StringCmd).Val(), fmt.Sprint(i))
	}
	seen := map[string]bool{}
	scan := r.Scan(ctx, 0, key+"*", 100).Iterator()
	for scan.Next(ctx) {
		seen[scan.Val()] = true
	}
	want(t, "SCAN", []any{len(seen), scan.Err()}, []any{n, nil})
}

func goRedisLargeValue(t *testing.T, r redis.UniversalClient, key string) {
	value := strings.Repeat("0123456789abcdef", 1<<18)
	want(t, "SET", r.Set(t.Context(), key, value, 0).Err(), nil)
	got, err := r.Get(t.Context(), key).Result()
	want(t, "GET of 4 MB", []any{got == value, err}, []any{true, nil})
	want(t, "DEL", r.Del(t.Context(), key).Val(), int64(1))
}

func goRedisTransactions(t *testing.T, r redis.UniversalClient, key string) {
	ctx, a, b := t.Context(), "{"+key+"}a", "{"+key+"}b"
	incr := func(tx *redis.Tx) error {
		n, err := tx.Get(ctx, a).Int()
		if err != nil && err != redis.Nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, a, n+1, 0)
			p.Incr(ctx, b)
			return nil
		})
		return err
	}
	const clients, times = 8, 10
	done := make(chan error, clients)
	for range clients {
		go func() {
			for range times {
				err := r.Watch(ctx, incr, a)
				for err == redis.TxFailedErr {
					err = r.Watch(ctx, incr, a)
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range clients {
		want(t, "WATCH, GET, MULTI, EXEC until it succeeds", <-done, nil)
	}
	want(t, "both counters", []any{r.Get(ctx, a).Val(), r.Get(ctx, b).Val()}, []any{"80", "80"})
	conflict := r.Watch(ctx, func(tx *redis.Tx) error {
		want(t, "SET by another", r.Set(ctx, a, "other", 0).Err(), nil)
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, a, "mine", 0).Err() })
		return err
	}, a)
	want(t, "a conflict", []any{conflict, r.Get(ctx, a).Val()}, []any{redis.TxFailedErr, "other"})
}

func goRedisBlocking(t *testing.T, r redis.UniversalClient, key string) {
	ctx, q := t.Context(), "{"+key+"}q"
	want(t, "BLPOP that times out", r.BLPop(ctx, time.Second, q).Err(), redis.Nil)
	got := make(chan []string, 2)
	for range 2 {
		go func() { got <- r.BLPop(ctx, 0, q, q+"2").Val() }()
	}
	want(t, "RPUSH", r.RPush(ctx, q, "x").Err(), nil)
	want(t, "BLPOP for ever", <-got, []string{q, "x"})
	want(t, "RPUSH", r.RPush(ctx, q+"2", "y").Err(), nil)
	want(t, "BLPOP of another key", <-got, []string{q + "2", "y"})
}

func goRedisStreams(t *testing.T, r redis.UniversalClient, key string) {
	ctx := t.Context()
	want(t, "XGROUP CREATE", r.XGroupCreateMkStream(ctx, key, "g", "$").Err(), nil)
	type read struct {
		streams []redis.XStream
		err     error
	}
	got := make(chan read)
	go func() {
		s, err := r.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{key, ">"}, Block: 0}).Result()
		got <- read{s, err}
	}()
	id := r.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []string{"f", "v"}}).Val()
	entry := <-got
	if entry.err != nil || len(entry.streams) != 1 || entry.streams[0].Messages[0].ID != id {
		t.Fatalf("XREADGROUP: %v, want %s", entry, id)
	}
	want(t, "XPENDING", r.XPending(ctx, key, "g").Val().Count, int64(1))
	want(t, "XACK", r.XAck(ctx, key, "g", id).Val(), int64(1))
	err := r.XRead(ctx, &redis.XReadArgs{Streams: []string{key, "$"}, Block: 20 * time.Millisecond}).Err()
	want(t, "XREAD that times out", err, redis.Nil)
}

func goRedisChannels(t *testing.T, r redis.UniversalClient, key string) {
	ctx := t.Context()
	plain := r.Subscribe(ctx, key)
	defer plain.Close()
	want(t, "PSUBSCRIBE", plain.PSubscribe(ctx, key+"*"), nil)
	shard := r.SSubscribe(ctx, key+"shard")
	defer shard.Close()
	for _, confirmed := range []*redis.PubSub{plain, plain, shard} {
		if m, err := confirmed.Receive(ctx); err != nil {
			t.Fatalf("confirmation %v, %v", m, err)
		}
	}
	want(t, "PUBLISH", r.Publish(ctx, key, "hello").Err(), nil)
	want(t, "SPUBLISH", r.SPublish(ctx, key+"shard", "hello").Err(), nil)
	for _, from := range []*redis.PubSub{plain, plain, shard} {
		m, err := from.ReceiveMessage(ctx)
		if err != nil || m.Payload != "hello" {
			t.Fatalf("message %v, %v", m, err)
		}
	}
}

func goRedisScripts(t *testing.T, r redis.UniversalClient, key string) {
	ctx := t.Context()
	add := redis.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1]) -- " + key)
	want(t, "EVALSHA, NOSCRIPT, EVAL", add.Run(ctx, r, []string{key}, 5).Val(), int64(5))
	want(t, "EVALSHA", add.EvalSha(ctx, r, []string{key}, 2).Val(), int64(7))
	never := redis.NewScript("return 1 -- " + key)
	if err := never.EvalSha(ctx, r, []string{key}).Err(); !redis.HasErrorPrefix(err, "NOSCRIPT") {
		t.Errorf("EVALSHA of an unknown script: %v", err)
	}
	want(t, "SCRIPT LOAD", never.Load(ctx, r).Val(), never.Hash())
	want(t, "SCRIPT EXISTS", never.Exists(ctx, r).Val(), []bool{true})
	lib := "l" + strings.TrimPrefix(never.Hash(), "_")
	code := "#!lua name=" + lib + "\nredis.register_function('" + lib + "', function(k, a) return k[1] end)"
	want(t, "FUNCTION LOAD", r.FunctionLoad(ctx, code).Val(), lib)
	for i := range 8 {
		k := fmt.Sprint(key, i)
		want(t, "FCALL", r.FCall(ctx, lib, []string{k}).Val(), any(k))
	}
	want(t, "FUNCTION DELETE", r.FunctionDelete(ctx, lib).Val(), "OK")
}

// goRedisKilled kills all connections of the client, which must reconnect by itself.
func goRedisKilled(t *testing.T, r redis.UniversalClient, key string) {
	ctx := t.Context()
	const parallel = 10
	atOnce := func(what string) {
		done := make(chan error, parallel)
		for i := range parallel {
			go func() { done <- r.Set(ctx, fmt.Sprint(key, i), "v", 0).Err() }()
		}
		for range parallel {
			want(t, what, <-done, nil)
		}
	}
	atOnce("SET")
	old, err := r.Do(ctx, "CLIENT", "ID").Int64()
	want(t, "CLIENT ID", err, nil)
	killed, err := r.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no").Int64()
	want(t, "CLIENT KILL of all", []any{killed > 0, err}, []any{true, nil})
	atOnce("SET after CLIENT KILL")
	if id, err := r.Do(ctx, "CLIENT", "ID").Int64(); id <= old {
		t.Errorf("CLIENT ID %d, %v after %d", id, err, old)
	}
}

// want fails the test unless got equals want. It compares errors with errors.Is.
func want(t *testing.T, what string, got, want any) {
	t.Helper()
	gotErr, failed := got.(error)
	wantErr, expected := want.(error)
	if failed && expected && errors.Is(gotErr, wantErr) {
		return
	}
	if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}
