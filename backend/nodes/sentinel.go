package nodes

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-proxy/berth/codec"
)

// Redis Sentinel watches a primary and its replicas under a name, and makes a replica the primary
// when that is gone. Where the primary is the Sentinels are asked in each round; what they say is
// believed only of a node that calls itself a primary. When they agree on another one they say so
// on a channel.
//
// Source: https://redis.io/docs/latest/develop/reference/sentinel-clients/

const (
	switchChannel = "+switch-master" // the channel: "name old-ip old-port new-ip new-port"

	// sentinelPatience is how long a Sentinel may say nothing before another one is listened to:
	// its connection may be dead. It is a multiple of what a failover takes.
	sentinelPatience = 30 * time.Second
)

// sentinelWord is what one Sentinel says of the primary.
type sentinelAnswer struct {
	addr  string
	epoch int64 // of the failover that made it the primary: what has a higher one is newer
	err   error
}

// watchedPrimaries yields the address that the Sentinels give for the primary: what those say that
// know of the latest failover. If no more than half of them answer and all know of an older one
// than berth, they are not believed. If none answers the primary that berth knows is as good as
// before.
func (n *Nodes) sentinelPrimaries(ctx context.Context, reasons *[]error) iter.Seq[string] {
	return func(yield func(string) bool) {
		latest, epoch, answers := []string(nil), int64(-1), 0
		for _, w := range n.askSentinels(ctx) {
			switch {
			case w.err != nil:
				*reasons = append(*reasons, w.err)
				continue
			case w.epoch > epoch:
				latest, epoch = nil, w.epoch
			}
			if answers++; w.epoch == epoch && !slices.Contains(latest, w.addr) {
				latest = append(latest, w.addr)
			}
		}
		switch known := n.Topology(); {
		case answers == 0 && known.Served() > 0:
			yield(known.Primary(0))
			return
		case epoch < n.epoch && answers <= len(n.target.Addrs)/2:
			if answers > 0 {
				*reasons = append(*reasons, fmt.Errorf("too few Sentinels answer, and what they say of %s is old", n.target.Master))
			}
			return
		}
		for _, addr := range latest {
			if !yield(addr) {
				n.epoch = epoch
				return
			}
		}
	}
}

// askSentinels asks all of them at the same time. That one does not know the primary, or is no
// Sentinel, may be so for a while; only where all say so it is a mistake.
func (n *Nodes) askSentinels(ctx context.Context) []sentinelAnswer {
	words := make([]sentinelAnswer, len(n.target.Addrs))
	var all sync.WaitGroup
	for i, sentinel := range n.target.Addrs {
		all.Go(func() { words[i] = n.askSentinel(ctx, sentinel) })
	}
	all.Wait()
	if slices.ContainsFunc(words, func(w sentinelAnswer) bool { return w.err == nil || mistake(w.err) == "" }) {
		for i := range words {
			if why := mistake(words[i].err); why != "" {
				words[i].err = errors.New(why)
			}
		}
	}
	return words
}

// askSentinel asks one Sentinel where the primary is.
func (n *Nodes) askSentinel(ctx context.Context, sentinel string) (w sentinelAnswer) {
	c, err := DialControl(ctx, sentinel, n.settings.DialTimeout())
	if err != nil {
		return sentinelAnswer{err: err}
	}
	defer c.Close()
	v, err := n.doSentinel(c, "SENTINEL", "MASTER", n.target.Master)
	reply, _ := errors.AsType[*ReplyError](err)
	switch {
	case reply != nil && strings.HasPrefix(reply.Text, "ERR unknown command"):
		return sentinelAnswer{err: &ConfigError{sentinel + " is no Sentinel"}}
	case reply != nil && strings.HasPrefix(reply.Text, "ERR No such master"):
		return sentinelAnswer{err: &ConfigError{fmt.Sprintf("the Sentinel %s watches no primary called %s", sentinel, n.target.Master)}}
	case err != nil:
		return sentinelAnswer{err: err}
	}
	fields := map[string]string{}
	for i := 0; i+1 < len(v.Elems); i += 2 {
		fields[v.Elems[i].Text()] = v.Elems[i+1].Text()
	}
	w.addr = net.JoinHostPort(fields["ip"], fields["port"])
	w.epoch, err = strconv.ParseInt(fields["config-epoch"], 10, 64)
	if err != nil || fields["ip"] == "" || fields["port"] == "" {
		return sentinelAnswer{err: fmt.Errorf("%s answered SENTINEL MASTER without ip, port or config-epoch", sentinel)}
	}
	return w
}

// doSentinel asks a Sentinel; one that wants a password is given the nodes'.
func (n *Nodes) doSentinel(c *Control, args ...string) (codec.Value, error) {
	v, err := c.Do(args...)
	if !refused(err, "NOAUTH") {
		return v, err
	}
	if err := c.Auth(n.target.Identity()); err != nil {
		return codec.Value{}, err
	}
	return c.Do(args...)
}

// runSentinels listens to one Sentinel after the other until ctx ends. It makes rounds come sooner,
// no more.
func (n *Nodes) runSentinels(ctx context.Context) {
	defer close(n.sentinelsDone)
	for i := 0; n.target.Master != "" && ctx.Err() == nil; i++ {
		_ = n.listen(ctx, n.target.Addrs[i%len(n.target.Addrs)]) // a round that does not find the primary says why
		sleepUntil(ctx, time.Now().Add(n.gap))
	}
}

// listen asks for a round whenever a Sentinel says that the primary is another one. It returns when
// the Sentinel is lost, or silent for long.
func (n *Nodes) listen(ctx context.Context, sentinel string) error {
	c, err := DialControl(ctx, sentinel, n.settings.DialTimeout())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := n.doSentinel(c, "SUBSCRIBE", switchChannel); err != nil {
		return err
	}
	n.Refresh() // what was said before was not heard
	for {
		message, err := c.Await(sentinelPatience)
		if err != nil {
			return err
		}
		if words := message.Elems; len(words) == 3 && strings.HasPrefix(words[2].Text(), n.target.Master+" ") {
			n.Refresh()
		}
	}
}
