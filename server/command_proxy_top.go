package main

import (
	"cmp"
	"math"
	"net"
	"strings"
	"time"

	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// PROXY TOP looks at all sessions twice, and shows what they have done in between:
//
//	first look, in slices ─▶ a second ─▶ second look ─▶ rows ─▶ by client, user or address

// lookApart is the time between the looks.
const lookApart = time.Second

// topLook is a session at a look.
type topLook struct {
	id, at int64
	count  uint64 // requests
	tally  tally
}

// topSeen is a session at the second look. Its row has no rates yet.
type topSeen struct {
	topLook
	row telemetry.TopRow
}

// topOptions are the words after PROXY TOP.
type topOptions struct {
	count int
	group func(r *telemetry.TopRow) // leaves what all clients of a row have in common; nil: each has its own row
	order func(r *telemetry.TopRow) int64
}

// topGroups are what stands after BY.
var topGroups = map[string]func(r *telemetry.TopRow){
	"client":  nil,
	"user":    func(r *telemetry.TopRow) { *r = telemetry.TopRow{User: r.User} },
	"address": func(r *telemetry.TopRow) { *r = telemetry.TopRow{Addr: hostOf(r.Addr)} },
}

// topOrders are what stands after SORT.
var topOrders = map[string]func(r *telemetry.TopRow) int64{
	"requests":  func(r *telemetry.TopRow) int64 { return r.Requests },
	"bytes_in":  func(r *telemetry.TopRow) int64 { return r.BytesIn },
	"bytes_out": func(r *telemetry.TopRow) int64 { return r.BytesOut },
	"errors":    func(r *telemetry.TopRow) int64 { return r.Errors },
	"leases":    func(r *telemetry.TopRow) int64 { return r.Leases },
	"queued":    func(r *telemetry.TopRow) int64 { return r.Queued },
}

func readTopOptions(words [][]byte) (o topOptions, refusal string) {
	o = topOptions{count: rowsUntold, order: topOrders["requests"]}
	for ; len(words) > 0; words = words[2:] {
		if len(words) == 1 {
			return o, errSyntax
		}
		known, value := false, strings.ToLower(string(words[1]))
		switch strings.ToLower(string(words[0])) {
		case "count":
			if o.count, refusal = parseCount(words[1]); refusal != "" {
				return o, refusal
			}
			known = true
		case "by":
			o.group, known = topGroups[value]
		case "sort":
			o.order, known = topOrders[value]
		}
		if !known {
			return o, errSyntax
		}
	}
	return o, ""
}

func proxyTop(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	o, refusal := readTopOptions(args[2:])
	if refusal != "" {
		return s.refuse(cmd, refusal)
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	home, resp := s.loop, s.resp()
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	eachSession(home, func(c *session) (topLook, bool) { return c.topLook(), true }, func(first []topLook) {
		time.AfterFunc(lookApart, func() {
			eachSession(home, func(c *session) (topSeen, bool) { return topSeen{c.topLook(), c.topRow()}, true }, func(second []topSeen) {
				r.offLoop(func() []byte {
					addLanes(second, home.srv.look(math.MaxInt32).Total().Pins)
					return appendRecords(nil, o.rows(first, second), resp)
				})
			})
		})
	})
	return true
}

// addLanes counts connections on which clients are blocked together, each for the client that has waited
// longest there.
func addLanes(seen []topSeen, pins []telemetry.PinRow) {
	shared := map[int64]int64{}
	for _, pin := range pins {
		if pin.Waiters > 0 {
			shared[pin.ID]++
		}
	}
	for i := range seen {
		seen[i].row.Leases += shared[seen[i].id]
	}
}

// topLook makes a look at the session. It runs on the session's loop.
func (s *session) topLook() topLook { return topLook{s.id, s.loop.clock, s.numbered, s.tally} }

// rows returns the rows of the clients that were there at the second look. One that came after the
// first had done nothing then.
func (o *topOptions) rows(first []topLook, second []topSeen) []telemetry.TopRow {
	before := make(map[int64]*topLook, len(first))
	for i := range first {
		before[first[i].id] = &first[i]
	}
	var rows []telemetry.TopRow
	places := map[telemetry.TopRow]int{} // of groups
	for i := range second {
		seen := &second[i]
		was := before[seen.id]
		if was == nil {
			was = &topLook{at: seen.at - int64(lookApart)}
		}
		seen.rate(was)
		if o.group == nil {
			rows = append(rows, seen.row)
			continue
		}
		group := seen.row
		o.group(&group)
		at, known := places[group]
		if !known {
			at = len(rows)
			places[group] = at
			rows = append(rows, group)
		}
		rows[at].Add(&seen.row)
	}
	return most(rows, o.count, func(a, b telemetry.TopRow) int {
		return cmp.Or(cmp.Compare(o.order(&b), o.order(&a)), cmp.Compare(b.Requests, a.Requests), cmp.Compare(b.BytesOut, a.BytesOut),
			cmp.Compare(a.ID, b.ID), strings.Compare(a.User+a.Addr, b.User+b.Addr))
	})
}

// rate enters what the client has done since an earlier look.
func (seen *topSeen) rate(was *topLook) {
	seconds := time.Duration(seen.at - was.at).Seconds()
	per := func(n int64) int64 { return int64(math.Round(float64(n) / seconds)) }
	r := &seen.row
	r.Requests = per(int64(seen.count - was.count))
	r.BytesIn = per(int64(seen.tally.in - was.tally.in)) // right though a uint32 has run over
	r.BytesOut = per(int64(seen.tally.out - was.tally.out))
	r.Errors = per(int64(seen.tally.errors - was.tally.errors))
}

// hostOf returns an address without its port.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
