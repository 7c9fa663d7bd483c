package main

import (
	"cmp"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// PROXY is berth's own command: it shows what goes on inside, for people with redis-cli, and has
// connections replaced. A node
// does not know PROXY, so a user may use it who may use CONFIG GET and CLIENT LIST at the node:
// likeAdmin.

func proxyPools(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	return proxyReport(s, cmd, 0, (*telemetry.Snapshot).PoolRows)
}

func proxyPins(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	return proxyReport(s, cmd, math.MaxInt, func(snap *telemetry.Snapshot) []telemetry.PinRow { return snap.PinRows(math.MaxInt) })
}

func proxyBackends(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	return proxyReport(s, cmd, 0, (*telemetry.Snapshot).BackendRows)
}

func proxySlots(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	return proxyReport(s, cmd, 0, (*telemetry.Snapshot).SlotRows)
}

func proxyStats(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	srv, resp := s.loop.srv, s.resp()
	return s.offLoop(cmd, func() []byte { return appendRecord(nil, srv.look(0).StatsRow(), resp) })
}

func proxyCache(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	srv, resp := s.loop.srv, s.resp()
	return s.offLoop(cmd, func() []byte {
		state, limit := "no", 0
		if settings := srv.config(); settings.Cache {
			state, limit = "yes", settings.CacheMaxMemory
		}
		return appendRecord(nil, srv.look(0).CacheRow(state, limit), resp)
	})
}

// proxyReport answers with rows that are drawn from a look at the server.
func proxyReport[R any](s *session, cmd *router.Command, pins int, rows func(*telemetry.Snapshot) []R) bool {
	srv, resp := s.loop.srv, s.resp()
	return s.offLoop(cmd, func() []byte { return appendRecords(nil, rows(srv.look(pins)), resp) })
}

func proxyClients(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	resp := s.resp()
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	askEverySession(r, func(c *session) (telemetry.ClientRow, bool) { return c.clientRow(), true }, func(rows []telemetry.ClientRow) []byte {
		slices.SortFunc(rows, func(a, b telemetry.ClientRow) int { return int(a.ID - b.ID) })
		return appendRecords(nil, rows, resp)
	})
	return true
}

// proxyReconnect has connections to one node or to all replaced, and the nodes looked for again.
func proxyReconnect(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	if len(args) > 3 {
		return s.refuse(cmd, "ERR wrong number of arguments for 'proxy|reconnect' command")
	}
	srv, client, addr := s.loop.srv, s.id, ""
	if len(args) == 3 {
		addr = string(args[2])
	}
	return s.offLoop(cmd, func() []byte {
		if len(args) == 3 {
			var known []string
			for _, row := range srv.look(0).BackendRows() {
				known = append(known, row.Node)
			}
			if !slices.Contains(known, addr) {
				return codec.AppendError(nil, "ERR berth: no node has this address: there are "+strings.Join(known, ", "))
			}
		}
		slog.Info("reconnect", "node", cmp.Or(addr, "all"), "id", client)
		srv.nodes.Refresh()
		srv.pools.Reconnect(addr)
		askLoops(srv, func(l *loop) struct{} {
			l.pipes.Reconnect(addr)
			return struct{}{}
		})
		return okReply
	})
}

// appendRecords appends an array of rows.
func appendRecords[R any](dst []byte, rows []R, resp int) []byte {
	dst = codec.AppendArray(dst, len(rows))
	for _, row := range rows {
		dst = appendRecord(dst, row, resp)
	}
	return dst
}

// appendRecord appends a row, a struct of strings and int64s: a map in RESP3, an array of names and
// values in RESP2.
func appendRecord(dst []byte, row any, resp int) []byte {
	v := reflect.ValueOf(row)
	dst = codec.AppendMap(dst, v.NumField(), resp)
	for i := range v.NumField() {
		dst = codec.AppendBulkString(dst, v.Type().Field(i).Tag.Get("json"))
		if f := v.Field(i); f.Kind() == reflect.String {
			dst = codec.AppendBulkString(dst, f.String())
		} else {
			dst = codec.AppendInt(dst, f.Int())
		}
	}
	return dst
}

func proxyHelp(_ *session, _ [][]byte, out []byte) []byte {
	return appendHelp(out, "PROXY",
		"BACKENDS",
		"    The nodes: slots, replicas, pipes, feeds, leases, redirects, since when each is up or down, whether it is read,",
		"    its last error.",
		"BIGKEYS [COUNT <n>]",
		"    The keys with the longest values that passed in the last minute, in requests and replies of more than 16 KB.",
		"CACHE",
		"    The replies to hot reads that are kept with cache yes: how many, how often they were answers, why others are not kept.",
		"CLIENTS",
		"    The clients: what each is doing, with which node, what it is owed, by which door it came.",
		"HOTKEYS [COUNT <n>]",
		"    The keys that were asked for most in the last minute, by samples.",
		"PINS",
		"    The connections that a client holds for itself, longest first: who, which, why (watch, blocking, large,",
		"    subscribed, monitor, tracking, replica, kept), for how many seconds, and for how many of them a watch has had",
		"    nothing under way.",
		"POOLS",
		"    The pools, by node and user. cl_ are clients, sv_ connections; maxwait_us is for how many microseconds the",
		"    client that waits for longest has waited; _blocking are those of blocking commands and the like. limit is",
		"    how many connections the node bears for all users together, 0: any number.",
		"RECONNECT [<node>]",
		"    Have the connections to a node, or to all nodes, replaced by new ones when they are owed nothing, and the name",
		"    of the node, or the topology, asked for again. Subscriptions keep theirs.",
		"SLOWLOG [GET [<count>] | LEN | RESET]",
		"    The latest requests that took long: number, time, microseconds, words, the client's address and name, its user,",
		"    the node, and for how many of the microseconds berth held the request before it sent it.",
		"SLOTS",
		"    Which node serves which slots.",
		"STATS",
		"    berth as a whole.",
		"TOP [COUNT <n>] [BY client|user|address] [SORT requests|bytes_in|bytes_out|errors|leases|queued]",
		"    Who asks most within the second that the command takes.")
}
