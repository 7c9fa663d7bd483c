package main

import (
	"bytes"
	"strconv"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// scanWalk is one SCAN over many shards. The scan goes through the shards in the order of their
// names: see scanShard. A call goes on to the next shard when one has ended and has given few keys:
//
//	SCAN cursor ─▶ shard ─┬─ the node's cursor is not 0, enough keys, enough shards ─▶ the client
//	               ▲      └─ the shard has ended ──┬─ it was the last ─▶ the client, with cursor 0
//	               └───────────────────────────────┘
//
// SCAN gives a key at least once if the key is there from the first call to the last, and its slot
// stays with its shard. What happens to other slots and to the list of shards does not matter. A
// replica may take over: the new primary has another hash table, so its shard begins again.
//
// There are three exceptions. SCAN may leave a key out if the key's slot moves in mid-scan to a shard
// that has ended; a client that scans node after node leaves it out as well. SCAN may leave a shard
// out if the shard gets a replica in mid-scan, or gets one back, and by that an earlier name. When a
// primary dies in mid-scan, one time in 64 the replica has the same check, and its shard does not
// begin again.
//
// SCAN is refused while a shard has no primary.
//
// Owned by the session's loop.
type scanWalk struct {
	s        *session
	topology *router.Topology
	at       scanPlace // in the shard that was asked last
	count    int       // keys after which the call goes to no further shard
	words    int       // of the request
	tail     []byte    // the words after the cursor, encoded
	asked    int       // shards
	found    scanKeys  // of the shards that have ended
}

// maxScanHops is how many shards one SCAN asks at most. Each does the work of COUNT at most.
const maxScanHops = 16

// scan runs SCAN over many shards.
func (s *session) scan(cmd *router.Command, args [][]byte) bool {
	number, ok := s.loop.srv.readCursor(string(args[1]))
	if !ok {
		return s.refuse(cmd, "ERR invalid cursor")
	}
	t := s.loop.srv.nodes.Topology()
	if !s.turnTo(onPipes, t) {
		return false
	}
	at, ok := s.loop.srv.scans.place(number)
	switch {
	case !ok:
		return s.refuse(cmd, errScanForgotten)
	case t.Down() > 0 || len(t.Shards()) == 0:
		return s.refuse(cmd, errNotServed)
	}
	w := &scanWalk{s: s, topology: t, at: at, count: scanCount(args), words: len(args)}
	for _, a := range args[2:] {
		w.tail = codec.AppendBulk(w.tail, a)
	}
	r := s.newRequest(cmd)
	r.ends = settle(w.take)
	s.pauseFor(pauseDraining) // what comes after it must not be executed between two shards' answers
	shard, more := s.loop.scanOrder(t).find(at)
	if !more { // the shards that were left have gone, and their slots are others'
		r.done(w.reply(0, scanKeys{}))
		return true
	}
	w.ask(r, shard)
	return true
}

// ask sends SCAN to a shard: from the beginning, unless the cursor is of its primary.
func (w *scanWalk) ask(r *request, shard scanShard) {
	if shard.key != w.at.key || shard.check != w.at.check {
		w.at = scanPlace{key: shard.key, check: shard.check}
	}
	w.asked++
	l := w.s.loop
	b := codec.AppendArray(l.scratch[:0], w.words)
	b = codec.AppendBulkString(b, "SCAN")
	b = codec.AppendBulkString(b, strconv.FormatUint(w.at.node, 10))
	b = append(b, w.tail...)
	l.scratch = b
	pipes := w.s.pipes
	if err := pipes.Since(w.s.pipeTurns, pipes.Shard(w.topology, shard.index)).Send(b, 1, r); err != nil {
		r.lost(err)
	}
}

// take takes a shard's reply. Whether the shard was the last is for the latest topology to say. The
// call goes on only by the topology that it began with, as all of the session's requests do.
func (w *scanWalk) take(r *request, reply []byte) {
	cursor, keys, ok := cutScanReply(reply)
	if w.s.closed || !ok {
		r.done(reply)
		return
	}
	srv := w.s.loop.srv
	if cursor != 0 {
		w.at.node = cursor
		r.done(w.reply(srv.scans.number(w.at), keys))
		return
	}
	w.at = scanPlace{key: w.at.key + 1}
	t := srv.nodes.Topology()
	shard, more := w.s.loop.scanOrder(t).find(w.at)
	switch {
	case !more && t.Down() == 0:
		r.done(w.reply(0, keys))
	case !more, t != w.topology, w.asked == maxScanHops, w.found.n+keys.n >= w.count:
		r.done(w.reply(srv.scans.number(w.at), keys))
	default:
		w.found.n += keys.n
		w.found.encoded = append(w.found.encoded, keys.encoded...)
		w.s.charge(r, len(keys.encoded))
		w.ask(r, shard)
	}
}

// reply is the client's: a cursor, and the keys of all shards that were asked.
func (w *scanWalk) reply(cursor uint64, last scanKeys) []byte {
	l := w.s.loop
	out := codec.AppendArray(l.scratch[:0], 2)
	out = codec.AppendBulkString(out, strconv.FormatUint(cursor, 10))
	out = codec.AppendArray(out, w.found.n+last.n)
	out = append(out, w.found.encoded...)
	out = append(out, last.encoded...)
	l.scratch = out
	return out
}

// scanKeys are keys, encoded as in a node's reply.
type scanKeys struct {
	n       int
	encoded []byte
}

// cutScanReply cuts a node's reply into its cursor and its keys. false: the reply is no such pair.
func cutScanReply(reply []byte) (cursor uint64, keys scanKeys, ok bool) {
	rest, isPair := bytes.CutPrefix(reply, []byte("*2\r\n$"))
	_, rest, _ = bytes.Cut(rest, []byte("\r\n"))
	number, rest, _ := bytes.Cut(rest, []byte("\r\n*"))
	n, rest, _ := bytes.Cut(rest, []byte("\r\n"))
	cursor, errCursor := strconv.ParseUint(string(number), 10, 64)
	keys.encoded = rest
	var errKeys error
	keys.n, errKeys = strconv.Atoi(string(n))
	return cursor, keys, isPair && errCursor == nil && errKeys == nil
}

// scanCount is the COUNT of a SCAN. A node refuses one that is no number.
func scanCount(args [][]byte) int {
	count := 10 // Redis' own
	for i := 2; i+1 < len(args); i += 2 {
		if bytes.EqualFold(args[i], []byte("COUNT")) {
			count, _ = strconv.Atoi(string(args[i+1]))
		}
	}
	return count
}
