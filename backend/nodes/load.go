package nodes

import (
	"context"
	"errors"
	"strconv"
	"sync"
)

// OnLoad makes Nodes call f with the load of each primary: how many clients it accepts, 0 if it does
// not say, and how many it has, berth's own connections included. f is called now and after each
// round in which a node answered, but not for a primary that cannot be reached. The calls come from
// several goroutines at a time.
func (n *Nodes) OnLoad(f func(addr string, maxClients, connected int)) {
	n.onLoad.Store(&f)
	offer(n.loadWanted)
}

// maxLoadAsks is how many primaries are asked at the same time.
const maxLoadAsks = 16

// runLoad asks the primaries for their load after each round, until ctx ends. It has its own
// goroutine, because a node that does not answer must not delay the next round.
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

// askLoad asks one node for its load. INFO has both numbers since Redis 6.0. Before that, maxclients is
// in CONFIG alone.
func (n *Nodes) askLoad(ctx context.Context, addr string) (maxClients, connected int, err error) {
	c, err := DialControl(ctx, addr, n.settings.DialTimeout())
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	if err := c.Auth(n.target); err != nil {
		return 0, 0, err
	}
	info, err := c.Do("INFO", "clients")
	if err != nil {
		return 0, 0, err
	}
	fields := infoFields(info.Text())
	connected, _ = strconv.Atoi(fields["connected_clients"])
	bus, _ := strconv.Atoi(fields["cluster_connections"]) // maxclients counts these as well
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
