package main

import "github.com/berth-proxy/berth/router"

// sawLong looks at a node's reply, or at the last part of one, for it may be long. sent is the request.
func (r *request) sawLong(reply, sent []byte) {
	if size := int(r.passed) + len(reply); r.s.loop.keyWatch.isLong(size) {
		r.s.sawValues(r.cmd, reply, sent, size)
	}
}

// sawValues looks for whose values a long reply has. That of MGET has several, if it is all there. Of
// other commands with several keys the first one is named.
func (s *session) sawValues(cmd *router.Command, reply, sent []byte, size int) {
	l := s.loop
	p := l.parser()
	defer l.dropParser(p)
	if n, err := p.ParseAll(sent, l.srv.limits(true)); n == 0 || err != nil {
		return
	}
	args := p.Args()
	keys, err := cmd.Keys(args, l.keys)
	l.keys = keys
	if err != nil || len(keys) == 0 {
		return
	}
	db := s.pipes.Identity().DB
	if cmd.Join != router.JoinMGet || len(keys) == 1 {
		l.keyWatch.pass(args[keys[0]], db, size, cmd)
		return
	}
	if count, _, ok := header(reply); !ok || count != len(keys) {
		return
	}
	_ = elements(reply, func(i int, element []byte) { l.keyWatch.pass(args[keys[i]], db, len(element), cmd) })
}
