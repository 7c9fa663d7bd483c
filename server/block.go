package main

import (
	"strconv"
	"time"

	"github.com/berth-proxy/berth/codec"
)

// rested is how long a blocking command must have waited at a node for that node's redirect not to count towards
// max-redirects: the slot it waits for may move many times in its life. Nodes that point at each other answer at once.
const rested = 10 * time.Millisecond

// shortened is a blocking request with its timeout reduced by what has passed: however often it is redirected, the client
// waits no longer than it asked for. What cannot be reduced is returned as it is.
func (s *session) shortened(r *request) []byte {
	l := s.loop
	p := l.parser()
	defer l.dropParser(p)
	if n, err := p.ParseAll(r.sent, l.srv.limits(true)); n == 0 || err != nil {
		return r.sent
	}
	args := p.Args()
	at, unit := r.cmd.BlockTimeout(args)
	if at < 0 {
		return r.sent
	}
	asked, err := strconv.ParseFloat(string(args[at]), 64)
	if err != nil || asked <= 0 { // 0: for ever
		return r.sent
	}
	left := max(asked-float64(l.clock-r.start)/float64(unit), float64(time.Millisecond)/float64(unit))
	changed := make([][]byte, len(args))
	copy(changed, args)
	if unit == time.Millisecond {
		changed[at] = strconv.AppendInt(nil, int64(left), 10)
	} else {
		changed[at] = strconv.AppendFloat(nil, left, 'f', 3, 64)
	}
	return codec.AppendCommand(nil, changed...)
}
