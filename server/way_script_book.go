package main

import (
	"bytes"
	"container/list"
	"crypto/sha1"
	"encoding/hex"
	"hash/maphash"
	"sync"
	"unsafe"

	"github.com/berth-proxy/berth/codec"
)

// scriptBook is the scripts that nodes have accepted from clients, and which node has which. All
// loops share it.
//
// A script enters the book when a node has run its EVAL or answered its SCRIPT LOAD, under the
// SHA1 that berth computes. The book is bounded: the scripts that no request has named for longest
// are forgotten.
type scriptBook struct {
	seed maphash.Seed
	room int // bytes of all scripts

	mu      sync.RWMutex // guards what follows; nothing blocks under it
	scripts map[scriptSHA]*knownScript
	byHash  map[uint64]*knownScript // by maphash of the body: an EVAL of a known script computes no SHA1
	queue   list.List               // of *knownScript; the next to be forgotten is at the front
	bytes   int
	nodes   map[string]int64 // by address: the life of the node that script.at speaks of
	lives   int64            // how many lives were given out
	flushes int64            // how often all scripts were forgotten
}

// scriptSHA is the SHA1 of a script's body.
type scriptSHA [sha1.Size]byte

// knownScript is one script of the book. Its body does not change.
type knownScript struct {
	sha  scriptSHA
	hash uint64
	body []byte
	at   map[string]int64 // nodes that have it: the life that the node had then; guarded by scriptBook.mu
	used bool             // since it was last at the front of the queue; guarded by scriptBook.mu
}

const (
	maxScripts = 16 << 20                                // bytes of all scripts
	maxScript  = 1<<20 - 1<<10                           // bytes of one: its SCRIPT LOAD travels on a pipe
	maxSpared  = 64                                      // scripts that forgetOne passes over
	scriptCost = int(unsafe.Sizeof(knownScript{})) + 256 // of a script, besides its body: maps and queue
)

func newScriptBook(room int) *scriptBook {
	b := &scriptBook{seed: maphash.MakeSeed(), room: room, nodes: map[string]int64{}}
	b.clear()
	return b
}

func (b *scriptBook) clear() {
	b.scripts, b.byHash, b.bytes = map[scriptSHA]*knownScript{}, map[uint64]*knownScript{}, 0
	b.queue.Init()
}

// parseSHA reads a SHA1 as EVALSHA takes it.
func parseSHA(word []byte) (sha scriptSHA, ok bool) {
	if len(word) != hex.EncodedLen(len(sha)) {
		return sha, false
	}
	_, err := hex.Decode(sha[:], word)
	return sha, err == nil
}

// String returns the SHA1 as nodes write it.
func (sha scriptSHA) String() string { return hex.EncodeToString(sha[:]) }

// find returns a script, nil when it is unknown, and whether a node has it.
func (b *scriptBook) find(sha scriptSHA, addr string) (sc *knownScript, there bool) {
	b.mu.RLock()
	sc = b.scripts[sha]
	there = b.isAt(sc, addr)
	unused := sc != nil && !sc.used
	b.mu.RUnlock()
	if unused {
		b.use(sc)
	}
	return sc, there
}

// same returns the script with this body, nil when it is unknown, and whether a node has it.
func (b *scriptBook) same(body []byte, addr string) (sc *knownScript, there bool) {
	hash := maphash.Bytes(b.seed, body)
	b.mu.RLock()
	sc = b.byHash[hash]
	there = b.isAt(sc, addr)
	unused := sc != nil && !sc.used
	b.mu.RUnlock()
	if sc == nil || !bytes.Equal(sc.body, body) {
		return nil, false
	}
	if unused {
		b.use(sc)
	}
	return sc, there
}

// isAt reports whether a node has the script. Called with mu read-locked.
func (b *scriptBook) isAt(sc *knownScript, addr string) bool {
	life := b.nodes[addr]
	return sc != nil && life != 0 && sc.at[addr] == life
}

// use keeps a script from being forgotten next.
func (b *scriptBook) use(sc *knownScript) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sc.used = true
}

// epoch returns what accept and arrived must be given that learn of it later. Nothing is remembered
// of a script that was sent before all scripts were forgotten: the node may have lost it.
func (b *scriptBook) epoch() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.flushes
}

// accept enters a script that a node has accepted. The body becomes the book's.
func (b *scriptBook) accept(body []byte, epoch int64) *knownScript {
	sc := &knownScript{sha: sha1.Sum(body), hash: maphash.Bytes(b.seed, body), body: body}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch known := b.scripts[sc.sha]; {
	case known != nil:
		return known
	case b.flushes != epoch:
		return sc
	}
	b.scripts[sc.sha], b.byHash[sc.hash] = sc, sc
	b.queue.PushBack(sc)
	b.bytes += len(body) + scriptCost
	for b.bytes > b.room {
		b.forgetOne()
	}
	return sc
}

// forgetOne forgets the oldest script that was not used since it was last at the front. One that
// was used goes to the back instead, but no more than a few at a time: all loops wait meanwhile.
// Called with mu locked.
func (b *scriptBook) forgetOne() {
	front := b.queue.Front()
	for range min(maxSpared, b.queue.Len()-1) {
		sc := front.Value.(*knownScript)
		if !sc.used {
			break
		}
		sc.used = false
		b.queue.MoveToBack(front)
		front = b.queue.Front()
	}
	sc := b.queue.Remove(front).(*knownScript)
	delete(b.scripts, sc.sha)
	if b.byHash[sc.hash] == sc {
		delete(b.byHash, sc.hash)
	}
	b.bytes -= len(sc.body) + scriptCost
}

// arrived records that a node has a script.
func (b *scriptBook) arrived(sc *knownScript, addr string, epoch int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flushes != epoch {
		return
	}
	if b.nodes[addr] == 0 {
		b.lives++
		b.nodes[addr] = b.lives
	}
	for other, life := range sc.at {
		if b.nodes[other] != life {
			delete(sc.at, other)
		}
	}
	if sc.at == nil {
		sc.at = map[string]int64{}
	}
	sc.at[addr] = b.nodes[addr]
}

// doubt records that a node may lack a script that it was believed to have.
func (b *scriptBook) doubt(sha scriptSHA) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sc := b.scripts[sha]; sc != nil {
		sc.at = nil
	}
}

// lost records that a connection to a node has ended: the node may be a new process, without
// scripts.
func (b *scriptBook) lost(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.nodes, addr)
}

// forget forgets all scripts, and what nodes have.
func (b *scriptBook) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushes++
	b.clear()
	clear(b.nodes)
}

// forgetNodes forgets what nodes have.
func (b *scriptBook) forgetNodes() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.nodes)
}

// load returns the command that gives the script to a node.
func (sc *knownScript) load() []byte {
	return codec.AppendCommand(nil, []byte("SCRIPT"), []byte("LOAD"), sc.body)
}

// isLoaded reports whether a reply is what a node says that has loaded the script.
func (sha scriptSHA) isLoaded(reply []byte) bool {
	return string(reply) == string(codec.AppendBulkString(nil, sha.String()))
}
