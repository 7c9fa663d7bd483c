package nodes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// Another backend may take the place of the one that Connect was given. Its nodes are asked beside the
// old ones, so that a backend that does not answer changes nothing:
//
//	Find ─ no node answers ─▶ error
//	  └──▶ Found ─ Move: the rounds rest ─▶ take ─▶ rounds ask the new nodes

// Found is another backend, of which a node has said what it is.
type Found struct{ by *Nodes } // without goroutines

// Find asks the nodes of another backend what they are. dialer makes the connections to them. The end of
// ctx ends the questions.
func (n *Nodes) Find(ctx context.Context, target Target, dialer *backend.Dialer) (*Found, error) {
	settings := &Settings{Dialer: dialer, Resolver: n.settings.Resolver, Naming: n.settings.Naming, link: n.settings.link}
	settings.SetDialTimeout(n.settings.DialTimeout())
	by := newNodes(target, settings, n.gap)
	err := by.discover(ctx)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("backend %s: it has not said in time what it is", target)
	case err != nil:
		return nil, fmt.Errorf("backend %s: %w", target, err)
	}
	by.health.Store(&Health{At: time.Now()})
	return &Found{by}, nil
}

// AuthRequired reports whether a client that gives no password gets NOAUTH there.
func (f *Found) AuthRequired() bool { return f.by.AuthRequired() }

// Describe says which nodes they are.
func (f *Found) Describe() string { return f.by.Describe() }

// Accepts reports whether the default user is let in there with a password.
func (f *Found) Accepts(ctx context.Context, password string) bool {
	c, err := DialControl(ctx, f.by.Topology().Primary(0), f.by.settings)
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = c.Do("AUTH", password)
	return err == nil
}

var errClosed = errors.New("berth stops")

// Move calls at while no node is asked. at calls take at the moment when the other backend takes the
// place of the present one, or returns an error without: then all is as before. OnChange is not called.
func (n *Nodes) Move(to *Found, at func(take func()) error) error {
	n.life.Lock()
	defer n.life.Unlock()
	if n.closed {
		return errClosed
	}
	begins := n.rest()
	err := at(func() {
		begins = true
		n.take(to.by)
	})
	if begins {
		n.begin()
		n.Refresh() // the new nodes' load is wanted, and more may have changed since they were asked
	}
	return err
}

// take makes the backend that another Nodes has asked this one's. No goroutine runs.
func (n *Nodes) take(from *Nodes) {
	n.settings.Dialer.Take(from.settings.Dialer)
	n.target.Store(from.target.Load())
	n.topology.Store(from.Topology())
	n.info.Store(from.Info())
	n.demands.Store(from.AuthRequired())
	n.health.Store(from.health.Load())
	n.lost.nanoseconds.Store(0)
	n.trouble.nanoseconds.Store(0)
	n.stats.changes.Add(1)
	n.announced, n.changedAt, n.backOff = from.Topology(), time.Now(), 0
	n.warned, n.epoch = from.warned, from.epoch
}
