package main

import (
	"log/slog"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// orphan is elements that a node has given to a lane for which no client waits any more: they go back to the end of the key
// that they came from. It is a backend.Receiver on the loop of the group.
type orphan struct {
	l     *loop
	b     *blocking
	pipes *pipe.Set
	hops  uint8
	tries int
}

// What becomes of orphans, in berth_orphan_pops_total.
const (
	orphanReturned = "returned" // pushed back
	orphanKept     = "kept"     // lies where the command itself has put it: BLMOVE, BRPOPLPUSH, XREADGROUP
	orphanDropped  = "dropped"  // orphan-pop drop
	orphanLost     = "lost"     // the node would not take it back
)

const (
	orphanTries = 20
	orphanPause = 50 * time.Millisecond
)

// orphaned disposes of a reply that nobody waits for.
func (l *loop) orphaned(b *blocking, reply []byte) {
	if b.cmd.Is(router.Broadcast) { // nothing was taken
		return
	}
	command, takes := b.giveBack(reply)
	switch {
	case !takes:
		l.stats.Orphans[orphanKept]++
	case l.srv.config().OrphanDrop:
		l.stats.Orphans[orphanDropped]++
	case command == nil:
		l.stats.Orphans[orphanLost]++
	default:
		o := &orphan{l: l, b: b, pipes: l.pipes.Attach(b.identity)}
		l.srv.unsettled.Add(1)
		o.send(command)
	}
}

// giveBack is the command that undoes a reply. takes is false when the reply took nothing away.
func (b *blocking) giveBack(reply []byte) (command []byte, takes bool) {
	v, err := codec.ParseValue(reply)
	switch b.cmd.Name {
	case "blpop", "brpop", "blmpop", "bzpopmin", "bzpopmax", "bzmpop":
	default:
		return nil, false
	}
	if err != nil || len(v.Elems) < 2 {
		return nil, true
	}
	key, rest := v.Elems[0].Str, v.Elems[1:]
	switch b.cmd.Name {
	case "blpop":
		return codec.AppendCommand(nil, []byte("LPUSH"), key, rest[0].Str), true
	case "brpop":
		return codec.AppendCommand(nil, []byte("RPUSH"), key, rest[0].Str), true
	case "blmpop":
		words := [][]byte{[]byte("RPUSH"), key}
		if b.fromLeft() {
			words[0] = []byte("LPUSH")
		}
		for _, e := range slices.Backward(rest[0].Elems) { // popped first, pushed last
			words = append(words, e.Str)
		}
		return codec.AppendCommand(nil, words...), true
	case "bzmpop":
		words := [][]byte{[]byte("ZADD"), key, []byte("NX")}
		for _, pair := range rest[0].Elems {
			if len(pair.Elems) == 2 {
				words = append(words, []byte(pair.Elems[1].Text()), pair.Elems[0].Str)
			}
		}
		return codec.AppendCommand(nil, words...), true
	}
	if len(rest) < 2 {
		return nil, true
	}
	// NX: a member that has been added again meanwhile has its new score.
	return codec.AppendCommand(nil, []byte("ZADD"), key, []byte("NX"), []byte(rest[1].Text()), rest[0].Str), true
}

// fromLeft tells from which end a BLMPOP pops: its word stands behind the keys.
func (b *blocking) fromLeft() bool {
	n, _ := parseInt(b.words[2])
	at := 3 + int(n)
	return at < len(b.words) && (b.words[at][0] == 'L' || b.words[at][0] == 'l')
}

// send sends the command to the owner of the slot.
func (o *orphan) send(command []byte) {
	o.tries++
	t := o.l.srv.nodes.Topology()
	shard, text := shardOf(t, o.b.slot, o.b.client)
	if text != "" {
		o.again(command)
		return
	}
	if err := o.pipes.Shard(t, shard).Send(command, 1, o); err != nil {
		o.again(command)
	}
}

// again sends the command later: no node has seen it.
func (o *orphan) again(command []byte) {
	if o.tries == orphanTries {
		o.end(orphanLost)
		return
	}
	command = slices.Clone(command)
	time.AfterFunc(orphanPause*time.Duration(o.tries), func() { o.l.Post(func() { o.send(command) }) })
}

// Reply takes the node's answer.
func (o *orphan) Reply(reply, sent []byte, _ int) {
	if reply[0] != '-' {
		o.end(orphanReturned)
		return
	}
	to, ok := o.l.mayFollow(reply, &o.hops)
	switch {
	case ok:
		pipe := o.pipes.Node(to.Addr)
		send := pipe.Send
		if to.Ask {
			send = pipe.SendAsking
		}
		if err := send(sent, 1, o); err != nil {
			o.again(sent)
		}
	case passes(reply):
		o.again(sent)
	default:
		slog.Warn("an element that no client waits for was not taken back", "command", o.b.cmd.Name, "why", string(reply[1:len(reply)-2]))
		o.end(orphanLost)
	}
}

// Lost says that no answer will come. What the node may have executed is not sent again: nothing is ever there twice.
func (o *orphan) Lost(err *backend.LostError, sent []byte) {
	if err.Sent || err.Refusal != "" {
		o.end(orphanLost)
		return
	}
	o.again(sent)
}

func (o *orphan) end(outcome string) {
	o.l.stats.Orphans[outcome]++
	o.pipes.Detach()
	o.l.srv.unsettled.Add(-1)
}
