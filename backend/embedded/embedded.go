package embedded

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"github.com/berth-proxy/berth/backend/nodes"
)

// embeddedVersion is the Redis version the embedded backend comes close to: it has the commands of
// 7.0, though not all of them.
const redisVersion = "7.0.0"

// embedded is a few miniredis servers inside this process, for trying berth out. They hold their
// data in memory, know most of Redis' commands, and are slow.
//
// miniredis is made for tests, where time stands still and each server is alone: a clock moves
// their time, and a herald carries what is published on one to the others, as the bus of a cluster
// does.
type embedded struct {
	shards []*miniredis.Miniredis
	stop   chan struct{}
	once   sync.Once // of close
	ended  sync.WaitGroup

	mu   sync.Mutex // guards news and txns; nothing blocks under it
	wake *sync.Cond // on mu; news has grown, or stop is closed
	news []published
	txns map[*server.Peer]*openTxn // of every client that ever said MULTI
}

// openTxn is what a client's MULTI holds back until EXEC.
type openTxn struct {
	open bool
	news []published
}

// published is one PUBLISH.
type published struct {
	shard            int // where it was published
	channel, message string
}

// Start starts the embedded backend with so many shards, each with an even range of slots.
func Start(shards int) (*nodes.Nodes, error) {
	e, err := startServers(shards)
	if err != nil {
		return nil, err
	}
	return e.nodes(), nil
}

func startServers(shards int) (*embedded, error) {
	e := &embedded{stop: make(chan struct{}), txns: map[*server.Peer]*openTxn{}}
	e.wake = sync.NewCond(&e.mu)
	for i := range shards {
		m := miniredis.NewMiniRedis()
		if err := m.StartAddr("127.0.0.1:0"); err != nil {
			e.close()
			return nil, fmt.Errorf("embedded backend: %w", err)
		}
		m.Server().SetPreHook(func(c *server.Peer, command string, args ...string) bool {
			e.observe(i, c, command, args)
			return false
		})
		e.shards = append(e.shards, m)
	}
	e.ended.Add(2)
	go e.clock()
	go e.relay()

	return e, nil
}

// nodes are the servers as the rest of berth knows them.
func (e *embedded) nodes() *nodes.Nodes {
	var addrs []string
	for _, m := range e.shards {
		addrs = append(addrs, m.Addr())
	}
	return nodes.Fixed(addrs, nodes.Info{
		Kind: nodes.Embedded, Product: "miniredis", Release: "2", Version: redisVersion, Mode: "cluster", Role: "master",
	}, e.close)
}

// close ends the servers and returns when their connections and goroutines are gone.
func (e *embedded) close() { e.once.Do(e.end) }

func (e *embedded) end() {
	e.mu.Lock()
	close(e.stop)
	e.wake.Broadcast()
	e.mu.Unlock()
	for _, m := range e.shards {
		// Close alone would wait for a lock that a subscriber who does not read has made its
		// publisher hold: first end what blocks (BLPOP), then the connections.
		m.CtxCancel()
		m.Server().Close()
		m.Close()
	}
	e.ended.Wait()
}

// tick is how far time moves at once. A key can expire by so much too early.
const tick = 10 * time.Millisecond

// clock lets time pass. Each tick looks at every key, so that with many keys ticks become longer:
// at most a twentieth of the time is spent on them.
func (e *embedded) clock() {
	defer e.ended.Done()
	last := time.Now()
	for pause := tick; ; {
		select {
		case <-e.stop:
			return
		case <-time.After(pause):
		}
		now := time.Now()
		for _, m := range e.shards {
			m.FastForward(now.Sub(last))
		}
		last = now
		pause = max(tick, 20*time.Since(now))
	}
}

// overhear runs before each command of a client of the shard, sometimes under the shard's lock
// (from a script).
func (e *embedded) observe(shard int, c *server.Peer, command string, args []string) {
	switch command {
	case "MULTI", "EXEC", "DISCARD", "PUBLISH":
	default:
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	txn := e.txns[c]
	if txn == nil {
		txn = &openTxn{}
	}
	switch command {
	case "MULTI":
		txn.open = true
		if e.txns[c] == nil {
			e.txns[c] = txn
			c.OnDisconnect(func() { e.forget(c) })
		}
	case "PUBLISH":
		if len(args) == 2 {
			txn.news = append(txn.news, published{shard, args[0], args[1]})
		}
	case "DISCARD":
		*txn = openTxn{}
	case "EXEC": // a transaction that is going to fail is published all the same
		txn.open = false
	}
	if !txn.open {
		e.news = append(e.news, txn.news...)
		txn.news = nil
		e.wake.Signal()
	}
}

func (e *embedded) forget(c *server.Peer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.txns, c)
}

// herald publishes what was published on one shard on all others, in order.
func (e *embedded) relay() {
	defer e.ended.Done()
	for {
		news, ok := e.awaitNews()
		if !ok {
			return
		}
		for _, p := range news {
			for i, m := range e.shards {
				if i != p.shard {
					m.Publish(p.channel, p.message)
				}
			}
		}
	}
}

// awaitNews returns what was published since the last call, and false when it is time to go.
func (e *embedded) awaitNews() ([]published, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.news) == 0 {
		select {
		case <-e.stop:
			return nil, false
		default:
		}
		e.wake.Wait()
	}
	news := e.news
	e.news = nil
	return news, true
}
