package main

import (
	"slices"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// bundle is the parts of a split request that go to one shard: they are put on its pipe in one
// piece, and answered one by one in the same order. What a part costs is then what it is to write
// its request and to read its reply. It is a backend.Receiver.
//
// Owned by the loop, as part of its join.
type shardBatch struct {
	join  *join
	parts []bundled
	next  int // whose reply comes next
}

// bundled is one part in a bundle.
type bundled struct {
	part int // in join.parts
	end  int // where its request ends in the bundle's bytes
}

// Reply takes the reply to the next part.
func (b *shardBatch) Reply(reply, sent []byte, _ int) {
	p, request := b.take(sent)
	p.Reply(reply, request, 0)
}

// Lost is told that the parts from the next one on get no reply.
func (b *shardBatch) Lost(err *backend.LostError, sent []byte) {
	for range len(b.parts) - b.next {
		p, request := b.take(sent)
		p.Lost(err, request)
	}
}

// take is the next part, and its request among the bundle's bytes.
func (b *shardBatch) take(sent []byte) (p *part, request []byte) {
	begin := 0
	if b.next > 0 {
		begin = b.parts[b.next-1].end
	}
	at := b.parts[b.next]
	b.next++
	return &b.join.parts[at.part], sent[begin:at.end]
}

// sendParts sends the parts of a split request, to each shard in one piece. step is how many
// arguments belong to a key.
func (s *session) sendParts(t *router.Topology, j *join, args [][]byte, step int) {
	l := s.loop
	shards := len(t.Shards())
	j.bundles = slices.Grow(j.bundles[:0], shards)[:shards]
	for i := range j.bundles {
		b := &j.bundles[i]
		b.join, b.parts, b.next = j, b.parts[:0], 0
	}
	for len(l.pieces) < shards {
		l.pieces = append(l.pieces, nil)
	}
	var room [64]byte
	head := codec.AppendBulk(codec.AppendArray(room[:0], 1+step), args[0]) // of a part with one key, as nearly all are
	for i := range j.parts {
		p := &j.parts[i]
		shard := t.Shard(p.slot)
		piece := l.pieces[shard]
		if p.end == p.first+1 {
			piece = l.appendKeys(append(piece, head...), p, args, step)
		} else {
			piece = l.appendPart(piece, p, args, step)
		}
		l.pieces[shard] = piece
		j.bundles[shard].parts = append(j.bundles[shard].parts, bundled{part: i, end: len(piece)})
	}
	for shard, piece := range l.pieces[:shards] {
		if len(piece) == 0 {
			continue
		}
		b := &j.bundles[shard] // when the last of them is lost, the join is not ours any more
		if err := s.pipes.Shard(t, shard).Send(piece, len(b.parts), b); err != nil {
			b.Lost(err, piece)
		}
		if l.pieces[shard] = piece[:0]; cap(piece) > maxKeptBuf {
			l.pieces[shard] = nil
		}
	}
}

// sendEach sends the parts of a long request one by one: in one piece they would be in memory once
// more.
func (s *session) sendEach(t *router.Topology, j *join, args [][]byte, step int) {
	l := s.loop
	for i := range j.parts {
		p := &j.parts[i]
		l.scratch = l.appendPart(l.scratch[:0], p, args, step)
		if err := s.pipes.Shard(t, t.Shard(p.slot)).Send(l.scratch, 1, p); err != nil {
			p.Lost(err, l.scratch)
		}
	}
}

// appendPart writes the request of a part: the command with the part's keys of l.keys, and what
// belongs to them.
func (l *loop) appendPart(dst []byte, p *part, args [][]byte, step int) []byte {
	dst = codec.AppendBulk(codec.AppendArray(dst, 1+step*(p.end-p.first)), args[0])
	return l.appendKeys(dst, p, args, step)
}

func (l *loop) appendKeys(dst []byte, p *part, args [][]byte, step int) []byte {
	for _, place := range p.join.places[p.first:p.end] {
		for k := range step {
			dst = codec.AppendBulk(dst, args[l.keys[place]+k])
		}
	}
	return dst
}
