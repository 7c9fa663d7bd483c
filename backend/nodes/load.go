package nodes

import (
	"context"
	"errors"
	"strconv"
	"sync"
)

// OnLoad has f called with what each primary says of its clients: how many it takes, 0 if it does
// not say, and how many there are, berth's own connections included. That is now and after each
// round in which a node answered; a node that cannot be reached is left out. f runs on goroutines
// of Nodes, several at a time.
func (n *Nodes) OnLoad(f func(addr string, maxClients, connected int)) {
	n.onLoad.Store(&f)
	offer(n.loadWanted)
}

// maxWeighing bounds how many primaries are asked at the same time.
const maxLoadAsks = 16

// runLoad asks the primaries whenever a round is over, until ctx ends. It has a goroutine of its
// own: a node that does not answer must not keep the next round waiting.
func (n *Nodes) runLoad(ctx context.Context) {
	defer close(n.loadDone)
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.loadWanted:
		}
		f := n.onLoad.Load()
		if f == nil {
			continue
		}
		var asking sync.WaitGroup
		places := make(chan struct{}, maxLoadAsks)
		for _, s := range n.Topology().Shards() {
			places <- struct{}{}
			asking.Go(func() {
				defer func() { <-places }()
				maxClients, connected, err := n.askLoad(ctx, s.Primary)
				if _, refuses := errors.AsType[*ReplyError](err); err == nil || refuses {
					(*f)(s.Primary, maxClients, connected)
				}
			})
		}
		asking.Wait()
	}
}

// askLoad asks one node. INFO says it all since Redis 6.0; before, maxclients is in CONFIG alone.
func (n *Nodes) askLoad(ctx context.Context, addr string) (maxClients, connected int, err error) {
	c, err := DialControl(ctx, addr, n.settings.DialTimeout())
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	if err := c.Auth(n.target.Identity()); err != nil {
		return 0, 0, err
	}
	info, err := c.Do("INFO", "clients")
	if err != nil {
		return 0, 0, err
	}
	fields := infoFields(info.Text())
	connected, _ = strconv.Atoi(fields["connected_clients"])
	bus, _ := strconv.Atoi(fields["cluster_connections"]) // counted by maxclients, too
	connected += bus
	if maxClients, _ = strconv.Atoi(fields["maxclients"]); maxClients > 0 {
		return maxClients, connected, nil
	}
	config, err := c.Do("CONFIG", "GET", "maxclients")
	if err != nil {
		return 0, 0, err
	}
	if len(config.Elems) == 2 {
		maxClients, _ = strconv.Atoi(config.Elems[1].Text())
	}
	return maxClients, connected, nil
}
