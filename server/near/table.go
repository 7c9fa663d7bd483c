package near

import (
	"bytes"

	"github.com/berth-proxy/berth/codec"
)

// Source is a connection by which replies come, and word of their end, in order.
type Source struct {
	Proved  uint64 // the latest request that has been answered: when it was sent, all entries held
	entries int
}

// Holds reports whether an entry came by it.
func (s *Source) Holds() bool { return s.entries > 0 }

// Entry is the reply to one form of read of a key. Requests by sources are numbered in the order in which
// they are sent.
type Entry struct {
	Source  *Source
	Asked   uint64 // the request that brought it
	Expires int64  // from when on it holds no more
	Alone   bool   // the source does not tell when it changes

	form    uint64
	command int
	words   [][]byte // after the key
	pairs   bool     // see codec.AppendRESP2
	replies [2][]byte
}

// Proved is the latest request at which the entry held, as far as is known.
func (e *Entry) Proved() uint64 {
	if e.Alone {
		return e.Asked
	}
	return max(e.Asked, e.Source.Proved)
}

// Reply is the reply in a version of the protocol.
func (e *Entry) Reply(resp int) []byte {
	if resp == 3 {
		return e.replies[1]
	}
	return e.replies[0]
}

// size is what an entry takes, about.
func (e *Entry) size() int {
	n := len(e.replies[1])
	if &e.replies[0][0] != &e.replies[1][0] {
		n += len(e.replies[0])
	}
	return n + sizeOf(e.words)
}

func sizeOf(words [][]byte) int {
	n := 250
	for _, word := range words {
		n += 24 + len(word)
	}
	return n
}

// MaxSize is what a reply takes at most, about.
func MaxSize(words [][]byte, reply []byte) int { return 2*len(reply) + sizeOf(words) }

// keySize is what a key without entries takes, about.
const keySize = 200

// maxForms is how many forms of read of one key are kept.
const maxForms = 1024

// Key is a name that is asked for often. F is a request for it that is under way.
type Key[F any] struct {
	Sum     uint64
	Slot    uint16
	Since   int64  // when it was added
	Added   uint64 // the same, as the owner counts
	Hits    int    // of late
	Pending []F

	name    []byte
	entries map[uint64]*Entry // by form
	gone    bool              // it is in no table

	credit    int    // see Pays
	shunned   uint64 // the form of read that is not to be asked for
	shunnedTo int64  // before then
}

// Name is the key's.
func (k *Key[F]) Name() []byte { return k.name }

// IsGone reports whether the key has been removed.
func (k *Key[F]) IsGone() bool { return k.gone }

// A reply that is kept costs two requests more, and each read that it answers saves one. For what changes
// before it is read again it does not pay: of such a key one reply in so many is kept, to see whether it does now.
const (
	keepCost  = 2
	maxCredit = 8 * keepCost
	keepProbe = 16
)

// Earn enters that what is kept of the key has answered a read.
func (k *Key[F]) Earn() { k.credit = min(max(k.credit, 0)+1, maxCredit) }

// Pays reports whether the reply that is about to be asked for is worth being kept, which it then is.
func (k *Key[F]) Pays() bool {
	switch {
	case k.credit >= keepCost:
		k.credit -= keepCost
	case k.credit > 0:
		k.credit = -1
		return false
	case k.credit > -keepProbe:
		k.credit--
		return false
	default:
		k.credit = 0
	}
	return true
}

// Shun has one form of read not be asked for until then. Only the latest such form is known.
func (k *Key[F]) Shun(command int, words [][]byte, until int64) {
	k.shunned, k.shunnedTo = k.form(command, words), until
}

// Shuns reports whether a form of read is not to be asked for.
func (k *Key[F]) Shuns(command int, words [][]byte, now int64) bool {
	return now < k.shunnedTo && k.shunned == k.form(command, words)
}

// form is a sum of a form of read.
func (k *Key[F]) form(command int, words [][]byte) uint64 { return FormSum(k.Sum, command, words) }

// FormSum is a sum of one form of read of a key, by the key's.
func FormSum(sum uint64, command int, words [][]byte) uint64 {
	for _, word := range words {
		sum = sum*31 + Sum(word)
	}
	return sum + uint64(command)<<1
}

// Find returns the entry of a form of read, nil if there is none.
func (k *Key[F]) Find(command int, words [][]byte) *Entry {
	if e := k.entries[k.form(command, words)]; e != nil && e.command == command && sameWords(e.words, words) {
		return e
	}
	return nil
}

func sameWords(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// Table is the keys and entries of one space of names.
type Table[F any] struct {
	Bytes   *int // that all tables of the owner take, together
	Entries int

	keys map[uint64]*Key[F]
}

// Len is how many keys there are.
func (t *Table[F]) Len() int { return len(t.keys) }

// Has reports whether there is a key with this sum.
func (t *Table[F]) Has(sum uint64) bool { return t.keys[sum] != nil }

// Find returns a key, nil if it is not there.
func (t *Table[F]) Find(sum uint64, name []byte) *Key[F] {
	if k := t.keys[sum]; k != nil && bytes.Equal(k.name, name) {
		return k
	}
	return nil
}

// Add adds a key that is not there. It returns nil if another one has its sum.
func (t *Table[F]) Add(sum uint64, name []byte, slot uint16, now int64) *Key[F] {
	if t.keys[sum] != nil {
		return nil
	}
	if t.keys == nil {
		t.keys = map[uint64]*Key[F]{}
	}
	k := &Key[F]{Sum: sum, Slot: slot, Since: now, name: bytes.Clone(name), credit: maxCredit}
	t.keys[sum] = k
	*t.Bytes += keySize + len(name)
	return k
}

// Put keeps a reply, of RESP3, as e says. Another one to the same form of read gives way, or any if there are
// very many of the key.
func (t *Table[F]) Put(k *Key[F], e *Entry, command int, words [][]byte, reply []byte, pairs bool) {
	if k.gone {
		return
	}
	e.form, e.command, e.words, e.pairs = k.form(command, words), command, make([][]byte, len(words)), pairs
	if old := k.entries[e.form]; old != nil {
		t.Drop(k, old)
	}
	for _, some := range k.entries {
		if len(k.entries) < maxForms {
			break
		}
		t.Drop(k, some)
	}
	for i, word := range words {
		e.words[i] = bytes.Clone(word)
	}
	e.replies[1] = bytes.Clone(reply)
	if e.replies[0] = codec.RESP2(e.replies[1], pairs); bytes.Equal(e.replies[0], reply) {
		e.replies[0] = e.replies[1]
	}
	if k.entries == nil {
		k.entries = map[uint64]*Entry{}
	}
	k.entries[e.form] = e
	e.Source.entries++
	t.Entries++
	*t.Bytes += e.size()
}

// Drop drops an entry of a key, if it is still there.
func (t *Table[F]) Drop(k *Key[F], e *Entry) {
	if k.entries[e.form] != e {
		return
	}
	delete(k.entries, e.form)
	e.Source.entries--
	t.Entries--
	*t.Bytes -= e.size()
}

// Forget drops all that is kept of a key, but not the key. It returns how many entries that were.
func (t *Table[F]) Forget(k *Key[F]) int {
	n := len(k.entries)
	for _, e := range k.entries {
		t.Drop(k, e)
	}
	return n
}

// ForgetSum is Forget by a key's sum.
func (t *Table[F]) ForgetSum(sum uint64) int {
	if k := t.keys[sum]; k != nil {
		return t.Forget(k)
	}
	return 0
}

// ForgetAll drops the entries of those keys, and returns how many they were.
func (t *Table[F]) ForgetAll(which func(k *Key[F]) bool) (n int) {
	for _, k := range t.keys {
		if which(k) {
			n += t.Forget(k)
		}
	}
	return n
}

// ForgetSource drops what has come by a connection.
func (t *Table[F]) ForgetSource(s *Source) (n int) {
	if s.entries == 0 {
		return 0
	}
	for _, k := range t.keys {
		for _, e := range k.entries {
			if e.Source == s {
				t.Drop(k, e)
				n++
			}
		}
	}
	return n
}

// Remove drops a key, unless a request for it is under way.
func (t *Table[F]) Remove(k *Key[F]) bool {
	if len(k.Pending) > 0 {
		return false
	}
	t.Forget(k)
	delete(t.keys, k.Sum)
	k.gone = true
	*t.Bytes -= keySize + len(k.name)
	return true
}

// Cool removes the keys that were hit fewer times than least of late, but not those that were added later
// than since. What has been hit so far counts half, and so much at most that a key leaves soon after it was
// read last.
func (t *Table[F]) Cool(least int, since int64) {
	for _, k := range t.keys {
		if k.Hits < least && k.Since < since {
			t.Remove(k)
		}
		if k.Hits /= 2; k.Hits/8 > least {
			k.Hits = 8 * least
		}
	}
}

// looked is how many keys are looked at to find one to evict.
const looked = 16

// Least returns one of the keys that are hit least and may be removed, nil if it finds none.
func (t *Table[F]) Least(but *Key[F]) (least *Key[F]) {
	n := 0
	for _, k := range t.keys { // from a place of chance
		if k != but && len(k.Pending) == 0 && (least == nil || k.Hits < least.Hits) {
			least = k
		}
		if n++; n == looked {
			break
		}
	}
	return least
}

// Keys calls f with each key, and how many entries it has of how many bytes.
func (t *Table[F]) Keys(f func(k *Key[F], entries, bytes int)) {
	for _, k := range t.keys {
		size := keySize + len(k.name)
		for _, e := range k.entries {
			size += e.size()
		}
		f(k, len(k.entries), size)
	}
}
