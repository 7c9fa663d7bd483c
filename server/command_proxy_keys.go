package main

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// rowsUntold is how many rows PROXY HOTKEYS, BIGKEYS and TOP show without COUNT.
const rowsUntold = 10

const errNoSampling = "ERR berth: no keys are looked at, because proxy-key-sampling is 0"

// readCount reads `[COUNT n]` and nothing else.
func readCount(words [][]byte) (count int, refusal string) {
	if len(words) == 0 {
		return rowsUntold, ""
	}
	if len(words) != 2 || !bytes.EqualFold(words[0], []byte("count")) {
		return 0, errSyntax
	}
	return parseCount(words[1])
}

// parseCount reads how many rows are wanted.
func parseCount(word []byte) (count int, refusal string) {
	n, ok := parseInt(word)
	if !ok || n < 1 || n > math.MaxInt32 {
		return 0, errNotNumber
	}
	return int(n), ""
}

// most returns the first rows in an order.
func most[R any](rows []R, count int, before func(a, b R) int) []R {
	slices.SortFunc(rows, before)
	return rows[:min(len(rows), count)]
}

func proxyHotKeys(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	return proxyKeys(s, cmd, args, (*loop).hotKeys, func(a, b telemetry.HotKeyRow) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Samples, a.Samples), cmp.Compare(a.Key, b.Key))
	}, func(all, of *telemetry.HotKeyRow) {
		all.Rate += of.Rate
		all.Reads += of.Reads
		all.Writes += of.Writes
		all.Samples += of.Samples
	})
}

func proxyBigKeys(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	return proxyKeys(s, cmd, args, (*loop).bigKeys, func(a, b telemetry.BigKeyRow) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Key, b.Key))
	}, func(all, of *telemetry.BigKeyRow) {
		if of.Bytes > all.Bytes {
			all.Bytes, all.Command = of.Bytes, of.Command
		}
	})
}

// keyRow is what a loop knows of a key.
type keyRow[R any] struct {
	sum uint64
	row R
}

// proxyKeys answers with rows of keys that the loops know. join adds what another loop, or the half-minute
// before, knows of the same key.
func proxyKeys[R any](s *session, cmd *router.Command, args [][]byte, ask func(l *loop) []keyRow[R], before func(a, b R) int, join func(all, of *R)) bool {
	srv, resp := s.loop.srv, s.resp()
	count, refusal := readCount(args[2:])
	if refusal == "" && srv.config().KeySampling == 0 {
		refusal = errNoSampling
	}
	if refusal != "" {
		return s.refuse(cmd, refusal)
	}
	return s.offLoop(cmd, func() []byte {
		answers, _ := askLoops(srv, ask)
		var rows []R
		places := map[uint64]int{}
		for _, k := range slices.Concat(answers...) {
			if at, known := places[k.sum]; known {
				join(&rows[at], &k.row)
				continue
			}
			places[k.sum] = len(rows)
			rows = append(rows, k.row)
		}
		return appendRecords(nil, most(rows, count, before), resp)
	})
}

// hotKeys tells what the loop knows of the use of keys.
func (l *loop) hotKeys() (rows []keyRow[telemetry.HotKeyRow]) {
	k := &l.keyWatch
	span := max(k.busiest.Span(l.clock), time.Second)
	rate := func(samples int64) int64 {
		return int64(math.Round(float64(samples) * float64(k.every) / span.Seconds()))
	}
	for _, e := range k.busiest.Entries() {
		rows = append(rows, keyRow[telemetry.HotKeyRow]{e.Sum, telemetry.HotKeyRow{
			Key: e.Name(), Rate: rate(e.Of.reads + e.Of.writes), Reads: rate(e.Of.reads), Writes: rate(e.Of.writes),
			Node: l.ownerOf(e.Of.slot), DB: int64(e.Of.db), Length: int64(e.Length), Samples: e.Of.reads + e.Of.writes,
		}})
	}
	return rows
}

// bigKeys tells what the loop knows of long values.
func (l *loop) bigKeys() (rows []keyRow[telemetry.BigKeyRow]) {
	for _, e := range l.keyWatch.biggest.Entries() {
		rows = append(rows, keyRow[telemetry.BigKeyRow]{e.Sum, telemetry.BigKeyRow{
			Key: e.Name(), Bytes: e.Of.bytes, Command: e.Of.by.Name, Node: l.ownerOf(e.Of.slot), DB: int64(e.Of.db), Length: int64(e.Length),
		}})
	}
	return rows
}

// ownerOf returns the primary of a slot, "" if no node serves it.
func (l *loop) ownerOf(slot uint16) string { return l.srv.nodes.Topology().Primary(slot) }
