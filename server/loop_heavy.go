package main

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/berth-proxy/berth/router"
)

// heavyReads remembers what was asked of which key when the reply was found to be long, so that the
// same, asked again, travels on a lease. It may forget any of them, and confuse two: then one read
// goes the other way, and is answered alike.
//
// Shared by all loops. An entry is one word, and who writes it last is right.
type heavyReads struct {
	seed maphash.Seed
	any  atomic.Bool // false: none was ever found, as with most
	all  [heavyEntries]atomic.Uint64
}

const heavyEntries = 1 << 12

// entry is where a read would be, and what is there if it is, never 0.
func (h *heavyReads) entry(cmd *router.Command, key []byte) (*atomic.Uint64, uint64) {
	sum := maphash.Bytes(h.seed, key) + uint64(cmd.ID)
	return &h.all[sum%heavyEntries], max(sum, 1)
}

func (h *heavyReads) has(cmd *router.Command, key []byte) bool {
	entry, sum := h.entry(cmd, key)
	return entry.Load() == sum
}

func (h *heavyReads) add(cmd *router.Command, key []byte) {
	entry, sum := h.entry(cmd, key)
	entry.Store(sum)
	h.any.Store(true)
}

func (h *heavyReads) remove(cmd *router.Command, key []byte) {
	if entry, sum := h.entry(cmd, key); entry.Load() == sum {
		entry.Store(0)
	}
}

// heavy reports whether the reply to the request is expected to be long.
func (s *session) heavy(cmd *router.Command, args [][]byte) bool {
	h := &s.loop.srv.heavy
	if !h.any.Load() || !cmd.Flags.Has(router.Readonly) {
		return false
	}
	key := onlyKey(cmd, args)
	return key != nil && h.has(cmd, key)
}

// foundHeavy enters that the reply to a request on a pipe is long.
func (s *session) foundHeavy(cmd *router.Command, sent []byte) {
	s.withKey(cmd, sent, func(key []byte) { s.loop.srv.heavy.add(cmd, key) })
}

// foundLight enters that the reply to a request on a lease was not.
func (s *session) foundLight(cmd *router.Command, sent []byte) {
	if cmd.Flags.Has(router.Readonly) {
		s.withKey(cmd, sent, func(key []byte) { s.loop.srv.heavy.remove(cmd, key) })
	}
}

// withKey finds the key in a request's bytes.
func (s *session) withKey(cmd *router.Command, sent []byte, use func(key []byte)) {
	p := s.loop.parser()
	defer s.loop.dropParser(p)
	if n, err := p.ParseAll(sent, s.loop.srv.limits(true)); n == 0 || err != nil {
		return
	}
	if key := onlyKey(cmd, p.Args()); key != nil {
		use(key)
	}
}

// onlyKey is the key of a command that always has one at the same place, else nil.
func onlyKey(cmd *router.Command, args [][]byte) []byte {
	if cmd.First == 0 || cmd.Last != cmd.First || cmd.First >= len(args) || cmd.Flags.Has(router.MovableKeys) {
		return nil
	}
	return args[cmd.First]
}
