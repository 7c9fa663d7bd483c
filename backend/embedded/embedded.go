package embedded

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"github.com/berth-proxy/berth/backend/nodes"
)

// embedded is a few miniredis servers inside the process, one for each shard.
//
// miniredis is made for tests, where time stands still and each server is alone. So clock moves the
// servers' time, and relay carries what is published on one server to the others, as the bus of a
// Cluster does.
type embedded struct {
	shards []*miniredis.Miniredis
	stop   chan struct{} // closed by end
	once   sync.Once     // of close
	ended  sync.WaitGroup

	mu   sync.Mutex                // guards news and txns; nothing blocks under it but the wait for wake
	wake *sync.Cond                // on mu; published has grown, or stop is closed
	news []published               // not relayed, oldest first
	txns map[*server.Peer]*openTxn // of every client that has ever sent MULTI
}

// openTxn is what a client's MULTI holds back until EXEC.
type openTxn struct {
	open bool // MULTI was sent, and neither EXEC nor DISCARD
	news []published
}

// published is one PUBLISH.
type published struct {
	shard            int // where it was published
	channel, message string
}

// redisVersion is the version that miniredis comes close to: it has commands of 7.0, but not all.
const redisVersion = "7.0.0"

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

// nodes returns the servers as the rest of berth knows them.
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
		// Close alone would wait for a lock: a publisher holds it while its subscriber does not
		// read. So end what blocks (BLPOP) first, then the connections.
		m.CtxCancel()
		m.Server().Close()
		m.Close()
	}
	e.ended.Wait()
}

// tick is how far time moves at once. A key may expire so much too early.
const tick = 10 * time.Millisecond

// clock moves the servers' time. Each tick looks at every key, so ticks become rarer when there are
// many keys: at most a twentieth of the time is spent on ticks.
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

// observe runs before each command on the shard, and records what is published. It may run under the
// shard's lock, if a script runs the command.
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
	case "EXEC": // what it publishes is relayed even if it is going to fail
		txn.open = false
	}
	if !txn.open {
		e.news = append(e.news, txn.news...)
		txn.news = nil
		e.wake.Signal()
	}
}

// forget drops the transaction of a client that has left.
func (e *embedded) forget(c *server.Peer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.txns, c)
}

// relay publishes on all other shards what was published on one, in order.
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

// awaitNews returns what was published since the last call, or false when the servers end.
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
