package main

import (
	"github.com/berth-proxy/berth/router"
)

// CONFIG speaks of berth's own settings. What takes a lock under which the file is written, or calls hooks, runs off the
// loop.

func init() {
	localFuncs["config|help"] = func(_ *session, _ [][]byte, out []byte) []byte { return AppendConfigHelp(out) }
	sessionFuncs["config|get"] = permitted(configGet)
	sessionFuncs["config|set"] = permitted(configSet)
	sessionFuncs["config|rewrite"] = permitted(configRewrite)
	sessionFuncs["config|resetstat"] = permitted(configResetStat)
}

func configGet(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	l := s.loop
	l.scratch = AppendConfigGet(l.scratch[:0], l.srv.settings, args[2:], s.resp())
	s.answer(cmd, l.scratch)
	return true
}

func configSet(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	settings := s.loop.srv.settings
	pairs := cloneArgs(args[2:])
	return s.aside(cmd, func() []byte { return AppendConfigSet(nil, settings, pairs) })
}

func configRewrite(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	settings := s.loop.srv.settings
	return s.aside(cmd, func() []byte { return AppendConfigRewrite(nil, settings) })
}

// configResetStat begins to count anew, on every loop.
func configResetStat(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	srv := s.loop.srv
	reset := func(l *loop) struct{} {
		l.stats = loopStats{}
		l.stats.init()
		return struct{}{}
	}
	return survey(s, cmd, reset, func([]struct{}) []byte {
		return AppendConfigResetStat(nil, func() {
			srv.accepted.Store(0)
			srv.refused.Store(0)
		})
	})
}

// cloneArgs copies the words of a request for those who need them longer than dispatch lasts.
func cloneArgs(args [][]byte) [][]byte {
	all := make([][]byte, len(args))
	for i, a := range args {
		all[i] = append([]byte{}, a...)
	}
	return all
}
