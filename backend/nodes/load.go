package nodes

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/berth-proxy/berth/backend"
)

// Load is what a primary says of its clients and users.
type Load struct {
	MaxClients int // it accepts; 0 if it does not say
	Connected  int // it has, berth's own connections included
	Users      backend.UsersMark
}

// OnLoad makes Nodes call f with the load of each primary. f is called now and after each round in
// which a node answered, but not for a primary that cannot be reached. The calls come from several
// goroutines at a time.
func (n *Nodes) OnLoad(f func(addr string, load Load)) {
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
				load, err := n.askLoad(ctx, s.Primary)
				if _, refuses := errors.AsType[*ReplyError](err); err == nil || refuses {
					(*f)(s.Primary, load)
				}
			})
		}
		asking.Wait()
	}
}

// askLoad asks one node for its load. INFO has both numbers since Redis 6.0. Before that, maxclients is
// in CONFIG alone.
func (n *Nodes) askLoad(ctx context.Context, addr string) (load Load, err error) {
	c, err := DialControl(ctx, addr, n.settings)
	if err != nil {
		return Load{}, err
	}
	defer c.Close()
	if err := c.Auth(n.Target()); err != nil {
		return Load{}, err
	}
	info, err := c.Do("INFO", "clients")
	if err != nil {
		return Load{}, err
	}
	fields := infoFields(info.Text())
	load.Connected, _ = strconv.Atoi(fields["connected_clients"])
	bus, _ := strconv.Atoi(fields["cluster_connections"]) // maxclients counts these as well
	load.Connected += bus
	for _, section := range backend.UsersSections {
		text, err := c.Do("INFO", section)
		if _, refuses := errors.AsType[*ReplyError](err); refuses { // not every server has each section
			load.Users = backend.UsersMark{}
			break
		} else if err != nil {
			return Load{}, err
		}
		load.Users.Take(text.Text())
	}
	if load.MaxClients, _ = strconv.Atoi(fields["maxclients"]); load.MaxClients > 0 {
		return load, nil
	}
	config, err := c.Do("CONFIG", "GET", "maxclients")
	if err != nil {
		return Load{Users: load.Users}, err
	}
	if len(config.Elems) == 2 {
		load.MaxClients, _ = strconv.Atoi(config.Elems[1].Text())
	}
	return load, nil
}
