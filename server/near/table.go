package near

import (
	"bytes"

	"github.com/berth-proxy/berth/codec"
)

// Source is a connection by which replies come, and word of their end, in order.
type Source struct {
	Synced  int64 // when the latest request was sent that has been answered: all entries held then
	entries int
}

// Holds reports whether an entry came by it.
func (s *Source) Holds() bool { return s.entries > 0 }

// Entry is the reply to one form of read of a key.
type Entry struct {
	Source  *Source
	SentAt  int64 // when it was asked for
	Expires int64 // from when on it holds no more
	Alone   bool  // the source does not tell when it changes

	command int
	words   [][]byte // after the key
	pairs   bool     // see codec.AppendRESP2
	replies [2][]byte
}

// TrueAt is when the entry was true, as far as is known.
func (e *Entry) TrueAt() int64 {
	if e.Alone {
		return e.SentAt
	}
	return max(e.SentAt, e.Source.Synced)
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
	n := 200 + len(e.replies[1])
	if &e.replies[0][0] != &e.replies[1][0] {
		n += len(e.replies[0])
	}
	for _, word := range e.words {
		n += 24 + len(word)
	}
	return n
}

// keySize is what a key without entries takes, about.
const keySize = 200

// maxForms is how many forms of read of one key are kept, the latest.
const maxForms = 64

// Key is a name that is asked for often. F is a request for it that is under way.
type Key[F any] struct {
	Sum     uint64
	Slot    uint16
	Since   int64 // when it was added
	Hits    int   // since the table was cooled last
	Pending []F

	name    []byte
	entries []*Entry
	gone    bool // it is in no table

	shunned   uint64 // the form of read that is not to be asked for
	shunnedTo int64  // before then
}

// Name is the key's.
func (k *Key[F]) Name() []byte { return k.name }

// IsGone reports whether the key has been removed.
func (k *Key[F]) IsGone() bool { return k.gone }

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
	for _, e := range k.entries {
		if e.command == command && sameWords(e.words, words) {
			return e
		}
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
	k := &Key[F]{Sum: sum, Slot: slot, Since: now, name: bytes.Clone(name)}
	t.keys[sum] = k
	*t.Bytes += keySize + len(name)
	return k
}

// Put keeps a reply, of RESP3, as e says. Another one to the same form of read gives way.
func (t *Table[F]) Put(k *Key[F], e *Entry, command int, words [][]byte, reply []byte, pairs bool) {
	if k.gone {
		return
	}
	t.forget(k, func(old *Entry) bool { return old.command == command && sameWords(old.words, words) })
	if len(k.entries) == maxForms {
		oldest := k.entries[0]
		t.forget(k, func(old *Entry) bool { return old == oldest })
	}
	e.command, e.words, e.pairs = command, make([][]byte, len(words)), pairs
	for i, word := range words {
		e.words[i] = bytes.Clone(word)
	}
	e.replies[1] = bytes.Clone(reply)
	if e.replies[0] = codec.AppendRESP2(nil, reply, pairs); bytes.Equal(e.replies[0], reply) {
		e.replies[0] = e.replies[1]
	}
	k.entries = append(k.entries, e)
	e.Source.entries++
	t.Entries++
	*t.Bytes += e.size()
}

// forget drops those entries of a key, and returns how many they were.
func (t *Table[F]) forget(k *Key[F], which func(e *Entry) bool) (n int) {
	rest := k.entries[:0]
	for _, e := range k.entries {
		if !which(e) {
			rest = append(rest, e)
			continue
		}
		n++
		e.Source.entries--
		*t.Bytes -= e.size()
	}
	clear(k.entries[len(rest):])
	k.entries = rest
	t.Entries -= n
	return n
}

// Forget drops all that is kept of a key, but not the key. It returns how many entries that were.
func (t *Table[F]) Forget(k *Key[F]) int {
	return t.forget(k, func(*Entry) bool { return true })
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
		n += t.forget(k, func(e *Entry) bool { return e.Source == s })
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

// Cool removes the keys that were hit fewer times than least since it was called last, and those that
// were added no longer ago than since count as hit.
func (t *Table[F]) Cool(least int, since int64) {
	for _, k := range t.keys {
		if k.Hits < least && k.Since < since {
			t.Remove(k)
		}
		k.Hits = 0
	}
}

// looked is how many keys are looked at to find one to evict.
const looked = 16

// Evict removes one of the keys that are hit least. It returns false if there is none to remove.
func (t *Table[F]) Evict(but *Key[F]) bool {
	var least *Key[F]
	n := 0
	for _, k := range t.keys { // from a place of chance
		if k != but && len(k.Pending) == 0 && (least == nil || k.Hits < least.Hits) {
			least = k
		}
		if n++; n == looked && least != nil {
			break
		}
	}
	return least != nil && t.Remove(least)
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
