package main

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// A SCAN cursor over many shards is the node's cursor with the shard's number in the lowest bits.
// Nodes number their cursors by hash-table buckets, far below the 54 bits that are left.
const (
	scanShardBits = 10
	scanShards    = 1 << scanShardBits
)

// scan sends SCAN to the shard its cursor names, and puts the shard into the cursor that comes
// back.
func (s *session) scan(cmd *router.Command, args [][]byte) bool {
	cursor, ok := scanCursor(string(args[1]))
	if !ok {
		return s.refuse(cmd, "ERR invalid cursor")
	}
	t := s.loop.srv.nodes.Topology()
	if !s.turnTo(onPipes, t) {
		return false
	}
	shard := int(cursor & (scanShards - 1))
	if shard >= len(t.Shards()) {
		return s.refuse(cmd, "ERR berth: the shard of this cursor is gone, start SCAN again")
	}
	l := s.loop
	b := codec.AppendArray(l.scratch[:0], len(args))
	b = codec.AppendBulk(b, args[0])
	b = codec.AppendBulkString(b, strconv.FormatUint(cursor>>scanShardBits, 10))
	for _, a := range args[2:] {
		b = codec.AppendBulk(b, a)
	}
	l.scratch = b
	r := s.newRequest(cmd)
	r.ends = settle(func(r *request, reply []byte) { r.done(s.scanned(reply, shard, len(t.Shards()))) })
	if err := s.pipes.Shard(t, shard).Send(b, 1, r); err != nil {
		r.lost(err)
	}
	return true
}

// scanCursor reads a cursor as C's strtoul does, which takes a sign, and nothing for 0.
func scanCursor(word string) (cursor uint64, ok bool) {
	if word == "" {
		return 0, true
	}
	digits := strings.TrimPrefix(word, "-")
	if digits == word {
		digits = strings.TrimPrefix(word, "+")
	}
	cursor, err := strconv.ParseUint(digits, 10, 64)
	if word[0] == '-' {
		cursor = -cursor
	}
	return cursor, err == nil
}

// scanned puts the shard, or the next one when this is done, into the cursor of a reply.
func (s *session) scanned(reply []byte, shard, shards int) []byte {
	head, rest, ok := bytes.Cut(reply, []byte("\r\n$"))
	if !ok || reply[0] != '*' {
		return reply
	}
	_, rest, _ = bytes.Cut(rest, []byte("\r\n"))
	number, rest, _ := bytes.Cut(rest, []byte("\r\n"))
	cursor, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil {
		return reply
	}
	switch {
	case cursor != 0:
		cursor = cursor<<scanShardBits | uint64(shard)
	case shard+1 < shards:
		cursor = uint64(shard + 1)
	}
	l := s.loop
	out := append(l.scratch[:0], head...)
	out = append(out, '\r', '\n')
	out = codec.AppendBulkString(out, strconv.FormatUint(cursor, 10))
	out = append(out, rest...)
	l.scratch = out
	return out
}

// pick asks one shard at random, and the next ones while the answer is nil: RANDOMKEY.
func (s *session) pick(cmd *router.Command, raw []byte) bool {
	t := s.loop.srv.nodes.Topology()
	if !s.turnTo(onPipes, t) {
		return false
	}
	shards := len(t.Shards())
	if shards == 0 {
		return s.refuse(cmd, errNotServed)
	}
	raw = bytes.Clone(raw)
	first, asked := rand.IntN(shards), 1 // the shard asked last is first+asked-1
	r := s.newRequest(cmd)
	r.ends = settle(func(r *request, reply []byte) {
		isNil := bytes.HasPrefix(reply, []byte("$-1")) || reply[0] == '_'
		if !isNil || asked == shards {
			r.done(reply)
			return
		}
		asked++
		if err := s.pipes.Shard(t, (first+asked-1)%shards).Send(raw, 1, r); err != nil {
			r.lost(err)
		}
	})
	s.pauseFor(pauseDraining) // what comes after it must not be executed between two shards' answers
	if err := s.pipes.Shard(t, first).Send(raw, 1, r); err != nil {
		r.lost(err)
	}
	return true
}
