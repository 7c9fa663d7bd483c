package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/berth-proxy/berth/router"
)

// scanPlace is where a SCAN over many shards goes on. A cursor carries it:
//
//	 63  62        22      6       0
//	┌──┬──┬─────────┬───────┬───────┐
//	│ 0│ 0│  node   │  key  │ check │
//	└──┴──┴─────────┴───────┴───────┘
//
// So every berth over the same Cluster reads the cursors of the others, and a berth those that it
// gave before it was restarted. A node of Redis or Valkey numbers its cursors by buckets of hash
// tables: cursors stay below 2^53, which even clients with floating-point numbers read, until a
// shard has some 500 million keys. A cursor of a node that does not fit is remembered: see
// scanMemory.
//
// A client may make a cursor up. It means some shard then, and that shard begins.
type scanPlace struct {
	key   uint64 // the shard's name, or the least that the next shard's may be
	check uint64 // of the shard's primary, 0 if node is 0 and any primary will do
	node  uint64 // the primary's own cursor; 0: its shard begins
}

const (
	scanCheckBits = 6
	scanKeyBits   = 16
	scanNodeBits  = 40

	scanCheckMask = 1<<scanCheckBits - 1
	scanKeyMask   = 1<<scanKeyBits - 1
	scanNodeShift = scanKeyBits + scanCheckBits

	scanRemembered = 1 << 62 // the mark of a remembered cursor, which a signed integer holds as well
)

// scanShard is a shard as cursors name it. The key depends neither on the slots nor on the list of
// shards: it is the least hash of the addresses of the primary and its replicas. It stays when a
// replica takes over; if the least address is that of a node that has failed it becomes greater,
// and the shard is visited late or twice. Two shards of one hash, which are rare, get consecutive
// keys.
type scanShard struct {
	key   uint64
	check uint64 // of the primary: another primary has another hash table
	index int    // into the topology's Shards
}

// scanOrder are all shards of a topology by their keys.
type scanOrder struct {
	topology *router.Topology
	shards   []scanShard
}

// scanOrder returns the order of SCAN. It is made once for each topology.
func (l *loop) scanOrder(t *router.Topology) *scanOrder {
	if l.scans.topology != t {
		l.scans = scanOrder{t, orderForScan(t.Shards())}
	}
	return &l.scans
}

// orderForScan names the shards. Keys begin with 1, so that no cursor but the first is 0, and leave
// room for consecutive ones.
func orderForScan(shards []router.Shard) []scanShard {
	const room = scanKeyMask - router.MaxShards
	order := make([]scanShard, len(shards))
	for i, shard := range shards {
		order[i] = scanShard{key: addrHash(shard.Primary) % room, check: scanCheck(shard), index: i}
		for _, replica := range shard.Replicas {
			order[i].key = min(order[i].key, addrHash(replica)%room)
		}
	}
	slices.SortFunc(order, func(a, b scanShard) int {
		return cmp.Or(cmp.Compare(a.key, b.key), strings.Compare(shards[a.index].Primary, shards[b.index].Primary))
	})
	last := uint64(0)
	for i := range order {
		last = max(order[i].key, last) + 1
		order[i].key = last
	}
	return order
}

// scanCheck tells a shard's primary from its replicas: no two of 64 nodes have the same check. A
// primary that died is no node of its shard any more, and may have had the check that the next
// primary has.
func scanCheck(shard router.Shard) (check uint64) {
	nodes := slices.Sorted(slices.Values(append([]string{shard.Primary}, shard.Replicas...)))
	var taken uint64 // a bit for each check
	for _, addr := range nodes {
		check = addrHash(addr) >> 32 & scanCheckMask
		for taken>>check&1 == 1 && taken != math.MaxUint64 {
			check = (check + 1) & scanCheckMask
		}
		taken |= 1 << check
		if addr == shard.Primary {
			break
		}
	}
	return check
}

// addrHash hashes an address. Every berth has the same hashes.
func addrHash(addr string) uint64 {
	sum := sha256.Sum256([]byte(addr))
	return binary.BigEndian.Uint64(sum[:])
}

// find returns the first shard that has not ended. false: all have.
func (o *scanOrder) find(at scanPlace) (scanShard, bool) {
	i, _ := slices.BinarySearchFunc(o.shards, at.key, func(s scanShard, key uint64) int { return cmp.Compare(s.key, key) })
	if i == len(o.shards) {
		return scanShard{}, false
	}
	return o.shards[i], true
}

// scanMemory remembers the places whose node's cursor has too many bits: kvrocks and ElastiCache
// use all 64. Only the berth that gave such a cursor knows it, and not for ever: maxScansKept later
// ones displace it. Every loop uses it.
type scanMemory struct {
	mu     sync.Mutex // guards what follows; nothing blocks under it
	kept   []keptScan // a ring, once it is full
	oldest int
}

// keptScan is a place by its cursor: scanRemembered, random bits, and its index in the ring.
type keptScan struct {
	number uint64
	scanPlace
}

const (
	scanIndexBits = 16
	maxScansKept  = 1 << scanIndexBits // some 2 MB

	errScanForgotten = "ERR berth: this SCAN cursor is not remembered (any more), start again with SCAN 0"
)

// number makes a cursor.
func (m *scanMemory) number(at scanPlace) uint64 {
	if at.node < 1<<scanNodeBits {
		return at.node<<scanNodeShift | at.key<<scanCheckBits | at.check
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.oldest
	if len(m.kept) < maxScansKept {
		i = len(m.kept)
		m.kept = append(m.kept, keptScan{})
	} else {
		m.oldest = (m.oldest + 1) % maxScansKept
	}
	number := scanRemembered | rand.Uint64()%scanRemembered>>scanIndexBits<<scanIndexBits | uint64(i)
	m.kept[i] = keptScan{number, at}
	return number
}

// place reads a cursor. false: it is one that has to be remembered, and is not.
func (m *scanMemory) place(number uint64) (at scanPlace, ok bool) {
	if number < scanRemembered {
		return scanPlace{number >> scanCheckBits & scanKeyMask, number & scanCheckMask, number >> scanNodeShift}, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := int(number % maxScansKept)
	if i >= len(m.kept) || m.kept[i].number != number {
		return scanPlace{}, false
	}
	return m.kept[i].scanPlace, true
}

// readCursor reads a cursor as the nodes do. Since Redis 7.4 a number below zero is none, and spaces
// may come first.
func (srv *server) readCursor(word string) (cursor uint64, ok bool) {
	if !srv.isValkeySince(8, 0) && srv.isBefore(7, 4) {
		return parseCursor(word)
	}
	n, err := strconv.ParseInt(word, 10, 64)
	word = strings.TrimLeft(word, " \t\n\v\f\r")
	if word == "" || err == nil && n < 0 && word[1] != '0' {
		return 0, false
	}
	return parseCursor(word)
}

// parseCursor reads a cursor as C's strtoul does, which takes a sign, and nothing for 0.
func parseCursor(word string) (cursor uint64, ok bool) {
	if word == "" {
		return 0, true
	}
	digits := strings.TrimPrefix(word, "-")
	if digits == word {
		digits = strings.TrimPrefix(word, "+")
	}
	cursor, err := strconv.ParseUint(digits, 10, 64)
	if word[0] == '-' {
		cursor = -cursor
	}
	return cursor, err == nil
}
