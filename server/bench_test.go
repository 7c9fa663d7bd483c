package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// benchmarkPipeline measures one request's whole way through a berth, client's socket to node's and back, so many to a
// write. The allocations are those of the whole process, and the client makes none: what is left is one small task for each
// turn of the loop.
func benchmarkPipeline(b *testing.B, addr string, pipeline int, request, reply []byte) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	requests, replies := bytes.Repeat(request, pipeline), make([]byte, pipeline*len(reply))
	round := func() {
		if _, err := c.Write(requests); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, replies); err != nil {
			b.Fatal(err)
		}
	}
	round() // connects the pipe
	if !bytes.Equal(replies, bytes.Repeat(reply, pipeline)) {
		b.Fatalf("got %q", replies)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += pipeline {
		round()
	}
}

func BenchmarkSharedGet(b *testing.B) {
	value := bytes.Repeat([]byte("v"), 64)
	node := redistest.Start(b)
	node.Do(b, "SET", "key", string(value))
	benchmarkPipeline(b, startBerth(b, node.Addr()).Addr(), 64, codec.AppendCommandString(nil, "GET", "key"), codec.AppendBulk(nil, value))
}

// BenchmarkSampledGet looks at the key of each request: see proxy-key-sampling.
func BenchmarkSampledGet(b *testing.B) {
	node := redistest.Start(b)
	node.Do(b, "SET", "key", "value")
	addr := startBerth(b, node.Addr(), "--proxy-key-sampling", "1").Addr()
	benchmarkPipeline(b, addr, 64, codec.AppendCommandString(nil, "GET", "key"), codec.AppendBulkString(nil, "value"))
}

// BenchmarkHotGet is answered by berth: see cache.
func BenchmarkHotGet(b *testing.B) {
	node := redistest.Start(b)
	node.Do(b, "SET", "key", "value")
	berth := startBerth(b, node.Addr(), "--cache", "yes", "--cache-hot-rate", "0")
	c := redistest.Dial(b, berth.Addr())
	eventually(b, "berth to keep the reply", func() bool {
		c.Do("GET", "key")
		return berth.srv.look(0).Total().Counters.Near.Hits > 0
	})
	benchmarkPipeline(b, berth.Addr(), 64, codec.AppendCommandString(nil, "GET", "key"), codec.AppendBulkString(nil, "value"))
}

func BenchmarkSharedSet(b *testing.B) {
	set := codec.AppendCommand(nil, []byte("SET"), []byte("key"), bytes.Repeat([]byte("v"), 64))
	benchmarkPipeline(b, startBerth(b, redistest.Start(b).Addr()).Addr(), 64, set, []byte("+OK\r\n"))
}

// BenchmarkSplitMget is an MGET of 100 keys over three shards; none has a value.
func BenchmarkSplitMget(b *testing.B) {
	cluster := redistest.StartCluster(b, 3, 0)
	words := []string{"MGET"}
	for i := range 100 {
		words = append(words, fmt.Sprint("key:", i))
	}
	reply := append(codec.AppendArray(nil, 100), bytes.Repeat([]byte("$-1\r\n"), 100)...)
	benchmarkPipeline(b, startBerth(b, clusterURL(cluster)).Addr(), 8, codec.AppendCommandString(nil, words...), reply)
}
