package main

import (
	"math/rand/v2"

	"github.com/berth-proxy/berth/router"
)

// sawRequest looks at a request that is on its way. size is its bytes.
func (s *session) sawRequest(args [][]byte, size int) {
	l, cmd := s.loop, s.lastCmd
	isSample := l.keyWatch.takesSample()
	if cmd == nil || cmd.Way == router.Refused || s.closed || s.stranger() || cmd.Channels() {
		return
	}
	keys, err := cmd.Keys(args, l.keys)
	l.keys = keys
	if err != nil || len(keys) == 0 {
		return
	}
	db := s.pipes.Identity().DB
	if isSample {
		write := !cmd.Flags.Has(router.Readonly) && !cmd.Is(router.Watch)
		first := 0
		if len(keys) > keysLooked {
			first = rand.IntN(len(keys))
		}
		for i := range min(len(keys), keysLooked) {
			l.keyWatch.use(args[keys[(first+i)%len(keys)]], db, write)
		}
	}
	switch {
	case !l.keyWatch.isLong(size):
	case len(keys) == 1:
		l.keyWatch.pass(args[keys[0]], db, size, cmd)
	case cmd.Step > 1: // MSET: each key has a value
		for _, at := range keys {
			bytes := 0
			for _, word := range args[at:min(at+cmd.Step, len(args))] {
				bytes += len(word)
			}
			l.keyWatch.pass(args[at], db, bytes, cmd)
		}
	}
}
