package main

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/bytedance/gopkg/util/gopool"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/glob"
	"github.com/berth-proxy/berth/server/telemetry"
)

// CONFIG speaks of berth's settings and of the nodes', as of one server's. A name that is an option
// of berth is berth's: it is berth that clients connect to, so `timeout`, `maxclients`, `port` …
// mean its own. Every other name is the nodes': `maxmemory`, `save`, `notify-keyspace-events` … are
// read from one primary and set at all. What takes a lock under which the file is written, or calls
// hooks, runs off the loop.

func configHelp(_ *session, _ [][]byte, out []byte) []byte {
	return appendHelp(out, "CONFIG",
		"GET <pattern>", "    Return parameters matching the glob-like <pattern> and their values.",
		"SET <directive> <value>", "    Set the configuration <directive> to <value>.",
		"RESETSTAT", "    Reset statistics reported by the INFO command.",
		"REWRITE", "    Rewrite the configuration file.")
}

// configurable is how many primaries have settings of their own.
func (srv *server) configurable() int {
	if srv.nodes.Info().Kind == nodes.Embedded {
		return 0
	}
	return len(srv.nodes.Topology().Shards())
}

// configGet answers with berth's settings, and those of a node after them. When no node can say,
// berth's are all there are. No node is asked for names that are all berth's: it may hang.
func configGet(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	long := 0
	for _, pattern := range args[2:] {
		long += len(pattern) + 1
	}
	if long > glob.MaxLength { // a node would take its time as well
		return s.refuse(cmd, errLongPattern)
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	own := s.loop.srv.settings.Match(args[2:])
	for i := range own {
		if strings.EqualFold(own[i].Name, "maxclients") { // the limit in force, as in Redis
			own[i].Value = strconv.FormatInt(s.loop.srv.clientCap.Load(), 10)
		}
	}
	nodes := s.loop.srv.configurable()
	if nodes == 0 {
		own = append(own, settingsOfNone(args[2:])...)
	}
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	if areOurs(args[2:]) {
		nodes = 0
	}
	s.askPrimaries(raw, min(1, nodes), func(answers [][]byte) {
		if refused := firstError(answers); bytes.HasPrefix(refused, []byte("-NO")) { // NOPERM, NOAUTH
			r.done(refused)
			return
		}
		for _, answer := range answers {
			own = append(own, settingsOfNode(answer)...)
		}
		slices.SortStableFunc(own, func(a, b config.Setting) int { return strings.Compare(a.Name, b.Name) })
		r.done(appendSettings(nil, own, s.resp()))
	})
	return true
}

// areOurs reports whether each name is that of an option of berth.
func areOurs(names [][]byte) bool {
	return !slices.ContainsFunc(names, func(name []byte) bool { return !config.IsOption(string(bytes.ToLower(name))) })
}

// settingsOfNone is what redis-benchmark wants to know before it starts, where no node can say it:
// nothing is kept on a disk.
func settingsOfNone(names [][]byte) (found []config.Setting) {
	for _, name := range names {
		switch string(bytes.ToLower(name)) {
		case "save":
			found = append(found, config.Setting{Name: "save", Value: ""})
		case "appendonly":
			found = append(found, config.Setting{Name: "appendonly", Value: "no"})
		}
	}
	return found
}

// settingsOfNode reads a node's reply to CONFIG GET, but for the names that are berth's.
func settingsOfNode(reply []byte) (found []config.Setting) {
	v, err := codec.ParseValue(reply)
	if err != nil || v.IsError() {
		return nil
	}
	for i := 0; i+1 < len(v.Elems); i += 2 {
		if name := v.Elems[i].Text(); !config.IsOption(name) {
			found = append(found, config.Setting{Name: name, Value: v.Elems[i+1].Text()})
		}
	}
	return found
}

// configSet sets what is berth's, and if that succeeds, what is the nodes'. When a node refuses,
// berth's settings are again what they were.
func configSet(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	home, settings, nodes := s.loop, s.loop.srv.settings, s.loop.srv.configurable()
	own, before, theirs := sortSettings(settings.Load(), args)
	if nodes == 0 || theirs == nil {
		pairs := cloneArgs(args[2:])
		return s.offLoop(cmd, func() []byte { return appendConfigSet(nil, settings, pairs) })
	}
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	ask := func() {
		s.askPrimaries(theirs, nodes, func(answers [][]byte) {
			switch refused := firstError(answers); {
			case len(answers) == 0: // the last primary has gone at this moment
				r.done(codec.AppendError(nil, errNotServed))
			case refused == nil:
				home.srv.nodes.Refresh() // requirepass may have been among it
				r.done(answers[0])
			case len(before) == 0:
				r.done(refused)
			default:
				r.offLoop(func() []byte {
					appendConfigSet(nil, settings, before)
					return refused
				})
			}
		})
	}
	if len(own) == 0 {
		ask()
		return true
	}
	gopool.Go(func() {
		reply := appendConfigSet(nil, settings, own)
		home.Post(func() {
			if s.closed || reply[0] == '-' {
				r.done(reply)
				return
			}
			ask()
		})
	})
	return true
}

// sortSettings tells berth's pairs of a CONFIG SET from the nodes', which come as a request. before is
// what sets berth's back.
func sortSettings(now *config.Config, args [][]byte) (own, before [][]byte, theirs []byte) {
	command, pairs := args[:2], args[2:]
	var others [][]byte
	for i := 0; i+1 < len(pairs); i += 2 {
		pair := cloneArgs(pairs[i : i+2])
		text, known := now.Text(string(pair[0]))
		if !known {
			others = append(others, pair...)
			continue
		}
		own = append(own, pair...)
		before = append(before, pair[0], []byte(text))
	}
	if len(others) == 0 || len(pairs)%2 != 0 {
		return nil, nil, nil
	}
	return own, before, codec.AppendCommand(nil, slices.Concat(command, others)...)
}

// configRewrite rewrites berth's configuration file and asks every primary to rewrite its own. A
// process that was started without a file is skipped.
func configRewrite(s *session, cmd *router.Command, raw []byte, _ [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	settings := s.loop.srv.settings
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	s.askPrimaries(raw, s.loop.srv.configurable(), func(answers [][]byte) {
		refused := firstError(answers)
		switch {
		case bytes.HasPrefix(refused, []byte("-NO")), settings.File() == "" && refused != nil:
			r.done(refused)
		case settings.File() == "" && len(answers) > 0:
			r.done(answers[0])
		default:
			r.offLoop(func() []byte {
				reply := appendConfigRewrite(nil, settings)
				if reply[0] != '-' && refused != nil && !bytes.Contains(refused, []byte("without a config file")) {
					return refused
				}
				return reply
			})
		}
	})
	return true
}

// configResetStat begins to count anew, on every loop and every primary.
func configResetStat(s *session, cmd *router.Command, raw []byte, _ [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	srv := s.loop.srv
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	s.askPrimaries(raw, srv.configurable(), func(answers [][]byte) {
		if refused := firstError(answers); bytes.HasPrefix(refused, []byte("-NO")) {
			r.done(refused)
			return
		}
		r.offLoop(func() []byte {
			askLoops(srv, func(l *loop) struct{} {
				l.stats = telemetry.Counters{}
				l.stats.Init()
				l.lanes.ResetStats()
				return struct{}{}
			})
			srv.accepted.Store(0)
			srv.refused.Store(0)
			srv.unheard.Store(0)
			return okReply
		})
	})
	return true
}

// cloneArgs copies the words of a request for those who need them longer than dispatch lasts.
func cloneArgs(args [][]byte) [][]byte {
	all := make([][]byte, len(args))
	for i, a := range args {
		all[i] = append([]byte{}, a...)
	}
	return all
}

// appendSettings appends CONFIG GET's reply: a flat array in RESP2, a map in RESP3.
func appendSettings(dst []byte, found []config.Setting, resp int) []byte {
	dst = codec.AppendMap(dst, len(found), resp)
	for _, f := range found {
		dst = codec.AppendBulkString(dst, f.Name)
		dst = codec.AppendBulkString(dst, f.Value)
	}
	return dst
}

// appendConfigSet makes the changes of CONFIG SET name value [name value ...] and appends its
// reply. The hooks of OnChange have run when it returns.
func appendConfigSet(dst []byte, s *config.Settings, pairs [][]byte) []byte {
	texts := make([]string, len(pairs))
	for i, p := range pairs {
		texts[i] = string(p)
	}
	if err := s.Set(texts...); err != nil {
		return codec.AppendError(dst, err.Error())
	}
	return codec.AppendSimple(dst, "OK")
}

// appendConfigRewrite writes the configuration file and appends the reply to CONFIG REWRITE. It
// blocks on the disk: call it off the loops.
func appendConfigRewrite(dst []byte, s *config.Settings) []byte {
	if err := s.Rewrite(); err != nil {
		return codec.AppendError(dst, "ERR "+err.Error())
	}
	return codec.AppendSimple(dst, "OK")
}
