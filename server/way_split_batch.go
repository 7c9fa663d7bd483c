package main

import "github.com/berth-proxy/berth/backend"

// shardBatch is parts of a split request that go to one shard together. They are put on its pipe in
// one piece, and answered one by one in the same order. So a part costs little more than writing
// its request and reading its reply. A shardBatch is a backend.Receiver.
//
// Owned by the loop, which uses it again when the last reply has come.
type shardBatch struct {
	join  *join
	parts []batched
	next  int // the part that is answered next
}

// batched is one part in a batch.
type batched struct {
	part int // in join.parts
	end  int // where its request ends in the bytes of the batch
}

// Reply takes the reply to the next part.
func (b *shardBatch) Reply(reply, sent []byte, _ int) {
	p, request := b.take(sent)
	p.Reply(reply, request, 0)
}

// Lost says that the parts from the next one on get no reply.
func (b *shardBatch) Lost(err *backend.LostError, sent []byte) {
	for range len(b.parts) - b.next {
		p, request := b.take(sent)
		p.Lost(err, request)
	}
}

// take returns the next part, and its request among the bytes of the batch. With the last part the
// batch goes back to the loop.
func (b *shardBatch) take(sent []byte) (p *part, request []byte) {
	begin := 0
	if b.next > 0 {
		begin = b.parts[b.next-1].end
	}
	at := b.parts[b.next]
	b.next++
	p = &b.join.parts[at.part]
	if b.next == len(b.parts) {
		b.drop()
	}
	return p, sent[begin:at.end]
}

// drop gives the batch back, unless it has grown too large to keep.
func (b *shardBatch) drop() {
	sp := &b.join.r.s.loop.splitter
	*b = shardBatch{parts: b.parts[:0]}
	if cap(b.parts) <= maxKeptParts {
		sp.batches.put(b, maxSpareBatches)
	}
}
