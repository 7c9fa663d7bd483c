package main

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// BenchmarkSharedGet is a GET's whole way through berth, client's socket to node's and back, 64 to a write. The
// allocations are those of the whole process, and the client makes none: what is left is one small task for each
// turn of the loop.
func BenchmarkSharedGet(b *testing.B) {
	const pipeline = 64
	value := bytes.Repeat([]byte("v"), 64)
	request := codec.AppendCommandString(nil, "GET", "key")
	reply := codec.AppendBulk(nil, value)
	node := redistest.Start(b)
	node.Do(b, "SET", "key", string(value))
	berth := startBerth(b, node.Addr())
	c, err := net.Dial("tcp", berth.Addr())
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
