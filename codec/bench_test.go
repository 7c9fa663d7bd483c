package codec

import (
	"bytes"
	"fmt"
	"testing"
)

func command(args ...string) []byte { return AppendCommandString(nil, args...) }

func mgetCommand(keys int) []byte {
	args := []string{"MGET"}
	for i := range keys {
		args = append(args, fmt.Sprintf("key:%012d", i))
	}
	return command(args...)
}

func arrayReply(n int) []byte {
	raw := AppendArray(nil, n)
	for range n {
		raw = AppendBulk(raw, bytes.Repeat([]byte{'v'}, 64))
	}
	return raw
}

// shardsReply is nested as CLUSTER SHARDS is: 16 shards of slots and two nodes.
func shardsReply(resp int) []byte {
	raw := AppendArray(nil, 16)
	for i := range 16 {
		raw = AppendMap(raw, 2, resp)
		raw = AppendBulkString(raw, "slots")
		raw = AppendArray(raw, 2)
		raw = AppendInt(raw, int64(i*1024))
		raw = AppendInt(raw, int64(i*1024+1023))
		raw = AppendBulkString(raw, "nodes")
		raw = AppendArray(raw, 2)
		for _, role := range []string{"master", "replica"} {
			raw = AppendMap(raw, 3, resp)
			raw = AppendBulkString(raw, "ip")
			raw = AppendBulkString(raw, "10.0.0.1")
			raw = AppendBulkString(raw, "port")
			raw = AppendInt(raw, 7000)
			raw = AppendBulkString(raw, "role")
			raw = AppendBulkString(raw, role)
		}
	}
	return raw
}

func BenchmarkRequest(b *testing.B) {
	value := string(bytes.Repeat([]byte{'v'}, 64))
	get := command("GET", "key:000000000001")
	for _, bench := range []struct {
		name     string
		raw      []byte
		commands int
	}{
		{"get", get, 1},
		{"set64", command("SET", "key:000000000001", value), 1},
		{"pipeline16", bytes.Repeat(get, 16), 16},
		{"mget100", mgetCommand(100), 1},
		{"inline", []byte("PING\r\n"), 1},
		{"set64KB", command("SET", "key:000000000001", string(make([]byte, 64<<10))), 1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var p RequestParser
			var lim Limits
			b.ReportAllocs()
			b.SetBytes(int64(len(bench.raw)))
			for b.Loop() {
				for buf := bench.raw; len(buf) > 0; {
					n, err := p.Parse(buf, &lim)
					if n == 0 || len(p.Args()) == 0 {
						b.Fatal(n, err)
					}
					p.Reset()
					buf = buf[n:]
				}
			}
			perCommand(b, bench.commands)
		})
	}
}

func BenchmarkReply(b *testing.B) {
	bulk := AppendBulk(nil, bytes.Repeat([]byte{'v'}, 64))
	for _, bench := range []struct {
		name    string
		raw     []byte
		replies int
	}{
		{"ok", []byte("+OK\r\n"), 1},
		{"int", []byte(":1234\r\n"), 1},
		{"null2", []byte("$-1\r\n"), 1},
		{"null3", []byte("_\r\n"), 1},
		{"bulk64", bulk, 1},
		{"pipeline16", bytes.Repeat(bulk, 16), 16},
		{"array100", arrayReply(100), 1},
		{"nested", shardsReply(3), 1},
		{"bulk64KB", AppendBulk(nil, make([]byte, 64<<10)), 1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var s ReplyScanner
			b.ReportAllocs()
			b.SetBytes(int64(len(bench.raw)))
			for b.Loop() {
				for buf := bench.raw; len(buf) > 0; {
					n, err := s.Scan(buf)
					if n == 0 {
						b.Fatal(err)
					}
					buf = buf[n:]
				}
			}
			perCommand(b, bench.replies)
		})
	}
}

func BenchmarkParseValue(b *testing.B) {
	raw := shardsReply(3)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := ParseValue(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendCommand(b *testing.B) {
	args := [][]byte{[]byte("SET"), []byte("key:000000000001"), make([]byte, 64)}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendCommand(dst[:0], args...)
	}
	b.SetBytes(int64(len(dst)))
}

func perCommand(b *testing.B, commands int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*commands), "ns/command")
}
