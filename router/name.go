package router

import "encoding/binary"

// maxName is the length of the longest name in the index, in bytes. The longest name in Redis has
// 23 bytes, in known modules 27.
const maxName = 32

// foldedName is a command name in lower case, packed into words: a comparison takes a word at a
// time.
type foldedName [maxName / 8]uint64

// fold packs a name of 1 … maxName bytes. It folds only A-Z, as Redis does. Bytes after the name
// are zero, so a name with NUL bytes at its end equals the name without them: compare the lengths
// too.
func fold(name []byte) (f foldedName) {
	n := len(name)
	if n < 8 {
		f[0] = lower(loadShort(name))
		return f
	}
	i := 0
	for ; (i+1)*8 <= n; i++ {
		f[i] = lower(binary.LittleEndian.Uint64(name[i*8:]))
	}
	if rest := n - i*8; rest > 0 {
		f[i] = lower(binary.LittleEndian.Uint64(name[n-8:]) >> (64 - 8*rest))
	}
	return f
}

// loadShort loads fewer than 8 bytes in at most two overlapping pieces.
func loadShort(p []byte) uint64 {
	n := len(p)
	if n >= 4 {
		head := uint64(binary.LittleEndian.Uint32(p))
		tail := uint64(binary.LittleEndian.Uint32(p[n-4:]))
		return head | tail<<(8*(n-4))
	}
	if n == 0 {
		return 0
	}
	return uint64(p[0]) | uint64(p[n/2])<<(8*(n/2)) | uint64(p[n-1])<<(8*(n-1))
}

// lower turns A-Z into a-z in all eight bytes at once.
func lower(w uint64) uint64 {
	const (
		each = 0x0101010101010101
		high = 0x80 * each
	)
	low7 := w &^ high
	fromA := low7 + (0x80-'A')*each // high bit set where the byte is at least 'A'
	pastZ := low7 + (0x7f-'Z')*each // high bit set where it is past 'Z'
	upper := (fromA &^ pastZ) &^ w & high
	return w | upper>>2
}

// nameIndex finds commands by container and folded name. It is a hash table with open addressing,
// at most half full. Immutable.
type nameIndex struct {
	entries []nameEntry
	shift   uint // 64 - log2(len(entries))
}

type nameEntry struct {
	first uint64 // first word of the name
	tag   uint64 // length of the name, and the ID of the container: see nameTag
	name  *foldedName
	cmd   *Command
}

func nameTag(container *Command, n int) uint64 {
	if container == nil {
		return uint64(n)
	}
	return uint64(n) | uint64(container.ID+1)<<8
}

func (ix *nameIndex) hash(f *foldedName, tag uint64) uint64 {
	h := f[0] ^ tag*0x9e3779b97f4a7c15
	if tag&0xff > 8 {
		h ^= f[1]*0xc2b2ae3d27d4eb4f ^ f[2]*0x165667b19e3779f9 ^ f[3]*0x27d4eb2f165667c5
	}
	return h * 0xff51afd7ed558ccd >> ix.shift
}

// find returns the command with a name, in any case, in a container (nil: it is no subcommand). It
// returns nil when there is none.
func (ix *nameIndex) find(container *Command, name []byte) *Command {
	n := len(name)
	if n == 0 || n > maxName {
		return nil
	}
	f, tag := fold(name), nameTag(container, n)
	mask := uint64(len(ix.entries) - 1)
	for i := ix.hash(&f, tag); ; i = (i + 1) & mask {
		e := &ix.entries[i]
		if e.cmd == nil {
			return nil
		}
		if e.first == f[0] && e.tag == tag && (n <= 8 || *e.name == f) {
			return e.cmd
		}
	}
}

func makeNameIndex(commands []*Command) nameIndex {
	size, shift := 2, uint(63)
	for size < 2*len(commands) {
		size, shift = size*2, shift-1
	}
	ix := nameIndex{entries: make([]nameEntry, size), shift: shift}
	for _, c := range commands {
		if c.absent {
			continue
		}
		name := []byte(c.lastName())
		f, tag := fold(name), nameTag(c.container, len(name))
		i := ix.hash(&f, tag)
		for ix.entries[i].cmd != nil {
			i = (i + 1) & uint64(size-1)
		}
		ix.entries[i] = nameEntry{first: f[0], tag: tag, name: &f, cmd: c}
	}
	return ix
}

// equalWord reports whether an argument is a keyword, which is given in upper case. It compares as
// Redis does with strcasecmp: in any case, and only up to the first NUL byte. The argument
// "BLOCK\x00x" is the option BLOCK to a node, so it must be BLOCK here too.
func equalWord(arg []byte, word string) bool {
	if len(arg) < len(word) || len(arg) > len(word) && arg[len(word)] != 0 {
		return false
	}
	for i := range len(word) {
		b := arg[i]
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		if b != word[i] {
			return false
		}
	}
	return true
}
