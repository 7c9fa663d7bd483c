package nodes

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// Redis Sentinel watches a primary and its replicas under a name, and makes a replica the primary
// when the primary is gone. Each round asks the Sentinels where the primary is, and believes them
// only if that node calls itself a primary. When Sentinels agree on another primary, they publish a
// message.
//
// Source: https://redis.io/docs/latest/develop/reference/sentinel-clients/

const (
	switchChannel = "+switch-master" // its messages are "name old-ip old-port new-ip new-port"

	// sentinelPatience is how long a Sentinel may publish nothing before berth listens to another
	// one, because the connection may be dead. A failover takes a fraction of it.
	sentinelPatience = 30 * time.Second
)

// sentinelAnswer is where one Sentinel says that the primary is.
type sentinelAnswer struct {
	addr  string
	epoch int64 // number of the failover that made it the primary: a higher one is newer
	err   error // why there is no answer, else nil
}

// sentinelPrimaries yields the addresses of the primary by those Sentinels that know of the latest
// failover. If at most half of the Sentinels answer, and all of these know of an older failover than
// berth, they are not believed. If none answers, the primary that berth knows is asked again.
func (n *Nodes) sentinelPrimaries(ctx context.Context, reasons *[]error) iter.Seq[string] {
	return func(yield func(string) bool) {
		latest, epoch, answers := []string(nil), int64(-1), 0
		for _, a := range n.askSentinels(ctx) {
			switch {
			case a.err != nil:
				*reasons = append(*reasons, a.err)
				continue
			case a.epoch > epoch:
				latest, epoch = nil, a.epoch
			}
			if answers++; a.epoch == epoch && !slices.Contains(latest, a.addr) {
				latest = append(latest, a.addr)
			}
		}
		switch known := n.Topology(); {
		case answers == 0 && known.Served() > 0:
			yield(known.Primary(0))
			return
		case epoch < n.epoch && answers <= len(n.Target().Addrs)/2:
			if answers > 0 {
				*reasons = append(*reasons,
					fmt.Errorf("too few Sentinels answer, and what they say of %s is old", n.Target().Master))
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

// askSentinels asks all Sentinels at the same time. One that does not know the primary, or is no
// Sentinel, may change. It is a mistake in the configuration only if that is true of all.
func (n *Nodes) askSentinels(ctx context.Context) []sentinelAnswer {
	answers := make([]sentinelAnswer, len(n.Target().Addrs))
	var all sync.WaitGroup
	for i, sentinel := range n.Target().Addrs {
		all.Go(func() { answers[i] = n.askSentinel(ctx, sentinel) })
	}
	all.Wait()
	if slices.ContainsFunc(answers, func(a sentinelAnswer) bool { return a.err == nil || mistake(a.err) == "" }) {
		for i := range answers {
			if why := mistake(answers[i].err); why != "" {
				answers[i].err = errors.New(why)
			}
		}
	}
	return answers
}

// askSentinel asks one Sentinel where the primary is.
func (n *Nodes) askSentinel(ctx context.Context, sentinel string) (a sentinelAnswer) {
	c, err := DialControl(ctx, sentinel, n.settings)
	if err != nil {
		return sentinelAnswer{err: err}
	}
	defer c.Close()
	v, err := n.doSentinel(c, "SENTINEL", "MASTER", n.Target().Master)
	reply, _ := errors.AsType[*ReplyError](err)
	switch {
	case reply != nil && strings.HasPrefix(reply.Text, "ERR unknown command"):
		return sentinelAnswer{err: &ConfigError{Why: sentinel + " is no Sentinel"}}
	case reply != nil && strings.HasPrefix(reply.Text, "ERR No such master"):
		return sentinelAnswer{err: &ConfigError{Why: fmt.Sprintf("the Sentinel %s watches no primary called %s",
			sentinel, n.Target().Master)}}
	case err != nil:
		return sentinelAnswer{err: err}
	}
	fields := map[string]string{}
	for i := 0; i+1 < len(v.Elems); i += 2 {
		fields[v.Elems[i].Text()] = v.Elems[i+1].Text()
	}
	port, _ := strconv.ParseInt(fields["port"], 10, 64)
	a.addr = router.Addr(fields["ip"], port)
	a.epoch, err = strconv.ParseInt(fields["config-epoch"], 10, 64)
	if err != nil || a.addr == "" {
		return sentinelAnswer{err: fmt.Errorf("%s answered SENTINEL MASTER without ip, port or config-epoch", sentinel)}
	}
	return a
}

// doSentinel sends a command to a Sentinel. If the Sentinel wants a password, it is given that of the
// nodes.
func (n *Nodes) doSentinel(c *Control, args ...string) (codec.Value, error) {
	v, err := c.Do(args...)
	if !refused(err, "NOAUTH") {
		return v, err
	}
	if err := c.Auth(n.Target()); err != nil {
		return codec.Value{}, err
	}
	return c.Do(args...)
}

// runSentinels listens to one Sentinel after the other until ctx ends. All it does is to make rounds
// come sooner.
func (n *Nodes) runSentinels(ctx context.Context) {
	defer close(n.sentinelsDone)
	for i := 0; n.Target().Master != "" && ctx.Err() == nil; i++ {
		_ = n.listen(ctx, n.Target().Addrs[i%len(n.Target().Addrs)]) // if there is a problem, a round logs it
		sleepUntil(ctx, time.Now().Add(n.gap))
	}
}

// listen asks for a round whenever a Sentinel publishes that the primary was replaced. It returns when
// the Sentinel is lost, or has been silent for sentinelPatience.
func (n *Nodes) listen(ctx context.Context, sentinel string) error {
	c, err := DialControl(ctx, sentinel, n.settings)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := n.doSentinel(c, "SUBSCRIBE", switchChannel); err != nil {
		return err
	}
	n.Refresh() // messages before the subscription were missed
	for {
		message, err := c.Await(sentinelPatience)
		if err != nil {
			return err
		}
		if words := message.Elems; len(words) == 3 && strings.HasPrefix(words[2].Text(), n.Target().Master+" ") {
			n.Refresh()
		}
	}
}
