package main

import (
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// clientKill closes the clients that its words name: one address in the old form, which may be the
// client's own, or pairs of option and value. A client that kills itself gets its reply first.
func clientKill(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	k := &killing{s: s, oldForm: len(args) == 3}
	if k.oldForm {
		k.filter.set("addr", comesFrom(string(args[2])))
		return askEveryLoop(s, cmd, k.kill, k.reply)
	}
	options := &clientOptions{kill: true, filter: clientFilter{except: s}}
	return options.read(s, cmd, raw, func(r *request) {
		k.filter = options.filter
		askLoopsFor(r, k.kill, k.reply)
	})
}

// killing is a CLIENT KILL on its way.
type killing struct {
	s       *session // asks
	oldForm bool
	filter  clientFilter
	suicide bool // set by the client's own loop
}

// kill closes the clients of one loop that are meant.
func (k *killing) kill(l *loop, answer func(killed int)) {
	killed := 0
	l.walk(func(c *session) {
		switch {
		case !k.filter.admits(c):
		case c == k.s:
			killed++
			k.suicide = true
		default:
			killed++
			c.kill(telemetry.Killed)
		}
	}, func() { answer(killed) })
}

// reply adds up how many clients the loops have closed.
func (k *killing) reply(killed []int) []byte {
	total := 0
	for _, n := range killed {
		total += n
	}
	if k.suicide {
		k.s.end(telemetry.Killed)
	}
	switch {
	case !k.oldForm:
		return codec.AppendInt(nil, int64(total))
	case total == 0:
		return codec.AppendError(nil, "ERR No such client")
	}
	return codec.AppendSimple(nil, "OK")
}
