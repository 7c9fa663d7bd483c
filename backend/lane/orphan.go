package lane

import (
	"bytes"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// orphan is elements that a node has given to a lane for which no client waits any more: they go
// back to the end of the key that they came from. It is a backend.Receiver on the loop of the
// group.
type orphan struct {
	ls    *Lanes
	c     *command
	pipes *pipe.Set
	hops  uint8
	tries int
}

const (
	orphanTries = 20
	orphanPause = 50 * time.Millisecond
)

// orphaned disposes of a reply that nobody waits for.
func (ls *Lanes) orphaned(c *command, reply []byte) {
	if c.cmd.Is(router.Broadcast) { // nothing was taken
		return
	}
	command, takes := c.giveBack(reply)
	switch {
	case !takes:
		ls.stats.Orphans[Kept]++
	case ls.shared.Settings().DropOrphans:
		ls.stats.Orphans[Dropped]++
	case command == nil:
		ls.stats.Orphans[LostOrphan]++
	default:
		o := &orphan{ls: ls, c: c, pipes: ls.loop.Pipes().Attach(ls.identityNow(c))}
		ls.shared.unsettled.Add(1)
		o.send(command)
	}
}

// giveBack returns the command that undoes a reply. takes is false when the reply took nothing
// away; command is nil when the reply cannot be read.
func (c *command) giveBack(reply []byte) (command []byte, takes bool) {
	if c.cmd.Undo == router.UndoNone {
		return nil, false
	}
	v, err := codec.ParseValue(reply)
	if err != nil || len(v.Elems) < 2 {
		return nil, true
	}
	key, rest := v.Elems[0].Str, v.Elems[1:]
	var words [][]byte
	switch c.cmd.Undo {
	case router.UndoLeft:
		words = append(words, []byte("LPUSH"), key, rest[0].Str)
	case router.UndoRight:
		words = append(words, []byte("RPUSH"), key, rest[0].Str)
	case router.UndoSide:
		words = append(words, []byte("RPUSH"), key)
		if c.fromLeft() {
			words[0] = []byte("LPUSH")
		}
		for _, e := range slices.Backward(rest[0].Elems) { // popped first, pushed last
			words = append(words, e.Str)
		}
	case router.UndoManyScores:
		words = append(words, []byte("ZADD"), key, []byte("NX"))
		for _, pair := range rest[0].Elems {
			if len(pair.Elems) == 2 {
				words = append(words, []byte(pair.Elems[1].Text()), pair.Elems[0].Str)
			}
		}
	case router.UndoScore:
		if len(rest) < 2 {
			return nil, true
		}
		// NX: a member that has been added again meanwhile has its new score.
		words = append(words, []byte("ZADD"), key, []byte("NX"), []byte(rest[1].Text()), rest[0].Str)
	}
	return codec.AppendCommand(nil, words...), true
}

// fromLeft reports whether a BLMPOP pops from the left: the word after its keys says so. A node that
// answers a wrong command must not make berth panic, so the words are checked here too.
func (c *command) fromLeft() bool {
	n, _ := strconv.Atoi(string(c.words[2]))
	at := 3 + n
	return at > 2 && at < len(c.words) && bytes.EqualFold(c.words[at], []byte("LEFT"))
}

// send sends the command to the owner of the slot.
func (o *orphan) send(command []byte) {
	o.tries++
	if now := o.ls.identityNow(o.c); now != o.pipes.Identity() {
		o.pipes.Detach()
		o.pipes = o.ls.loop.Pipes().Attach(now)
	}
	t := o.ls.shared.Nodes.Topology()
	shard, ok := backend.ShardOf(t, o.c.slot, o.c.client)
	if !ok {
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
		o.end(LostOrphan)
		return
	}
	command = slices.Clone(command)
	time.AfterFunc(orphanPause*time.Duration(o.tries), func() { o.ls.loop.Post(func() { o.send(command) }) })
}

// Reply takes the node's answer.
func (o *orphan) Reply(reply, sent []byte, _ int) {
	if reply[0] != '-' {
		o.end(Returned)
		return
	}
	to, how := o.ls.follow(reply, o.c.slot, &o.hops)
	switch {
	case how == backend.UnknownNode:
		o.again(sent)
	case how == backend.Followed:
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
		slog.Warn("an element that no client waits for was not taken back", "command", o.c.cmd.Name, "why", string(reply[1:len(reply)-2]))
		o.end(LostOrphan)
	}
}

// Lost says that no answer will come. What the node may have executed is not sent again: nothing is
// ever there twice.
func (o *orphan) Lost(err *backend.LostError, sent []byte) {
	if err.Sent || err.Refusal != "" {
		o.end(LostOrphan)
		return
	}
	o.again(sent)
}

func (o *orphan) end(outcome Outcome) {
	o.ls.stats.Orphans[outcome]++
	o.pipes.Detach()
	o.ls.shared.unsettled.Add(-1)
}
