package backend

import (
	"context"
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/berth-proxy/berth/codec"
)

// Redis Sentinel watches a primary and its replicas under a name, and makes a replica the primary when that is gone. Where the
// primary is the Sentinels are asked in each round, one after the other; what they say is believed only of a node that
// calls itself a primary. When they agree on another one they say so on a channel.
//
// Source: https://redis.io/docs/latest/develop/reference/sentinel-clients/

const (
	switched = "+switch-master" // the channel: "name old-ip old-port new-ip new-port"

	// sentinelPatience is how long a Sentinel may say nothing before another one is listened to: its connection may be
	// dead. It is a multiple of what a failover takes.
	sentinelPatience = 30 * time.Second
)

// watchedPrimaries yields the addresses that the Sentinels, asked one after the other, give for the primary, each once.
func (n *Nodes) watchedPrimaries(ctx context.Context, reasons *[]error) iter.Seq[string] {
	return func(yield func(string) bool) {
		sentinels := slices.Clone(n.target.Addrs)
		shuffle(sentinels)
		var told []string
		for _, sentinel := range sentinels {
			addr, err := n.askSentinel(ctx, sentinel)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				*reasons = append(*reasons, err)
			case !slices.Contains(told, addr):
				told = append(told, addr)
				if !yield(addr) {
					return
				}
			}
		}
	}
}

// askSentinel asks one Sentinel where the primary is.
func (n *Nodes) askSentinel(ctx context.Context, sentinel string) (addr string, err error) {
	c, err := DialControl(ctx, sentinel, n.settings.DialTimeout())
	if err != nil {
		return "", err
	}
	defer c.Close()
	v, err := n.doSentinel(c, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", n.target.Master)
	switch {
	case refused(err, "ERR"):
		return "", &ConfigError{fmt.Sprintf("%v: it is no Sentinel", err)}
	case err != nil:
		return "", err
	case len(v.Elems) != 2:
		return "", &ConfigError{fmt.Sprintf("the Sentinel %s watches no primary called %s", sentinel, n.target.Master)}
	}
	return net.JoinHostPort(v.Elems[0].Text(), v.Elems[1].Text()), nil
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

// runSentinels listens to one Sentinel after the other until ctx ends. It makes rounds come sooner, no more.
func (n *Nodes) runSentinels(ctx context.Context) {
	defer close(n.watched)
	for i := 0; n.target.Master != "" && ctx.Err() == nil; i++ {
		_ = n.listen(ctx, n.target.Addrs[i%len(n.target.Addrs)]) // a round that does not find the primary says why
		wait(ctx, time.Now().Add(n.gap))
	}
}

// listen asks for a round whenever a Sentinel says that the primary is another one. It returns when the Sentinel is lost, or
// silent for long.
func (n *Nodes) listen(ctx context.Context, sentinel string) error {
	c, err := DialControl(ctx, sentinel, n.settings.DialTimeout())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := n.doSentinel(c, "SUBSCRIBE", switched); err != nil {
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
