package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// proxySlowlog runs PROXY SLOWLOG GET, which may be left out, LEN and RESET.
func proxySlowlog(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	log := &s.loop.srv.slowlog
	if len(args) == 2 {
		args = append(args[:2:2], []byte("get"))
	}
	switch word := strings.ToLower(string(args[2])); {
	case word == "get" && len(args) <= 4:
		n := 10
		if len(args) == 4 {
			var err error
			if n, err = strconv.Atoi(string(args[3])); err != nil || n < -1 {
				return s.refuse(cmd, "ERR count should be greater than or equal to -1")
			}
		}
		return s.offLoop(cmd, func() []byte { return appendSlowLog(nil, log.latest(n)) })
	case word == "len" && len(args) == 3:
		s.loop.scratch = codec.AppendInt(s.loop.scratch[:0], int64(log.len()))
	case word == "reset" && len(args) == 3:
		log.reset()
		s.loop.scratch = codec.AppendSimple(s.loop.scratch[:0], "OK")
	default:
		return s.refuse(cmd, "ERR PROXY SLOWLOG is followed by GET [count], LEN or RESET")
	}
	s.answer(cmd, s.loop.scratch)
	return true
}

// appendSlowLog appends entries as SLOWLOG GET shows them: number, time, microseconds, words, address
// and name of the client. After these come the user, the node, and the microseconds in berth before the
// request was sent.
func appendSlowLog(dst []byte, entries []slowEntry) []byte {
	dst = codec.AppendArray(dst, len(entries))
	for _, e := range entries {
		dst = codec.AppendArray(dst, 9)
		dst = codec.AppendInt(dst, e.id)
		dst = codec.AppendInt(dst, e.at/int64(time.Second))
		dst = codec.AppendInt(dst, (e.held+e.node)/int64(time.Microsecond))
		dst = codec.AppendArray(dst, len(e.words))
		for _, word := range e.words {
			dst = codec.AppendBulkString(dst, word)
		}
		for _, text := range []string{e.from, e.client, e.owner, e.to} {
			dst = codec.AppendBulkString(dst, text)
		}
		dst = codec.AppendInt(dst, e.held/int64(time.Microsecond))
	}
	return dst
}
