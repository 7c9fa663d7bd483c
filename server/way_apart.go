package main

import (
	"bytes"
	"slices"
	"strings"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/router"
)

// An error is one line, and ends where the line ends. Some errors quote a client's words with the
// line breaks in them. Whoever reads such an error takes what comes after the break for the next
// reply. On a pipe the next reply is another client's, so a client could choose what others read.
// Nothing in the error tells how long it is. So what may break its line does not travel on a pipe:
//
//	EVAL or SCRIPT LOAD with a backslash in   ─▶ refused. All nodes since Redis 7.0 read `#!lua
//	the first line                               flags="\r\n+OK"` as a line break, and quote it
//	FUNCTION LOAD and RESTORE                ─┐
//	FUNCTION LIST or a module's command with  │
//	a line break in a word                    ├▶ apart: on a lease, which no other client gets
//	scripts, unless the node is known to mend │  if the reply may have broken its line
//	the line of a script's own error         ─┘
//
// Over a Cluster, what goes to every node goes on connections of its own: see pipe.Pipes.Alone.

// apart reports whether the reply to a request may be more than one.
func (s *session) apart(cmd *router.Command, args [][]byte) bool {
	switch {
	case !cmd.MayQuote():
		return false
	case cmd.Is(router.Registers):
		return true
	case s.large != nil: // its long words are elsewhere
		return cmd.Learned() || cmd.Is(router.Quotes) || breaksScriptLines(s.loop.srv.nodes.Info())
	case cmd.Learned(), cmd.Is(router.Quotes):
		for _, arg := range args[1:] {
			if bytes.Contains(arg, lineBreak) {
				return true
			}
		}
		return false
	default:
		return breaksScriptLines(s.loop.srv.nodes.Info())
	}
}

var lineBreak = []byte("\r\n")

// mendedValkeys are the versions since which Valkey mends the line of a script's error, by major and
// minor version (CVE-2025-67733).
var mendedValkeys = map[string]int{"7.2": 12, "8.0": 7, "8.1": 6, "9.0": 2}

// breaksScriptLines reports whether the nodes may be of a version that quotes what a script raises as
// it is: they are, or have not said which they are. A Valkey may call itself Redis 7.2.4 in HELLO,
// which is all that a user without INFO learns.
func breaksScriptLines(info *nodes.Info) bool {
	if info.Product == "redis" {
		return info.Server == nil && info.Version == "7.2.4" || slices.ContainsFunc(info.Server, isAnothers)
	}
	if info.Product != "valkey" {
		return true
	}
	words := strings.SplitN(info.Release, ".", 3)
	if len(words) < 3 {
		return true
	}
	mended, known := mendedValkeys[words[0]+"."+words[1]]
	return known && isVersionBefore(words[2], mended, 0)
}

// isAnothers reports whether a field of INFO is the version of a server that only speaks as Redis does:
// kvrocks_version, dragonfly_version.
func isAnothers(f nodes.Field) bool {
	return strings.HasSuffix(f.Name, "_version") && f.Name != "redis_version" && f.Name != "gcc_version"
}

const errBackslash = "ERR berth: a script with a backslash in its first line is not possible through berth: the node might quote " +
	"it as a line break, and what comes after it would be taken for other clients' replies"

// hasBackslash reports whether the first line of a script among the words has a backslash.
func hasBackslash(args [][]byte) bool {
	for _, arg := range args[1:] {
		line, _, _ := bytes.Cut(arg, []byte("\n"))
		if bytes.HasPrefix(line, []byte("#!")) && bytes.IndexByte(line, '\\') >= 0 {
			return true
		}
	}
	return false
}

// shareApart is share for a request whose reply may be more than one.
func (s *session) shareApart(cmd *router.Command, t *router.Topology, addr string, raw []byte, args [][]byte) bool {
	if st := s.stay; st != nil && st.watching && st.addr != addr {
		if s.slotOf(cmd, args) != noSlot {
			return s.refuse(cmd, errCrossSlot)
		}
		addr = st.addr // any node will do
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	if !s.turnTo(onLease, t) {
		return false
	}
	if ready, taken := s.attachTo(cmd, addr, pool.ReasonLarge); !ready {
		return taken
	}
	r := s.newRequest(cmd)
	r.apart = true
	s.countClients(r, args, addr)
	if s.large != nil {
		raw = bytes.Join(s.large.parts(), nil)
	}
	r.sent = append([]byte(nil), raw...)
	s.charge(r, len(raw))
	s.stay.send(r, raw, 1)
	s.pauseFor(pauseAnswering) // what its client sends next must not be answered by what comes after the line
	return true
}

// mayBreakLine reports whether the reply to a request that travels apart may have broken its line.
func (r *request) mayBreakLine(reply []byte) bool {
	switch {
	case !r.apart:
		return false
	case r.streams:
		return true
	case reply[0] == '$' || reply[0] == ':':
		return false
	default:
		return isText(reply[0]) || bytes.Contains(reply, []byte("\n-")) || bytes.Contains(reply, []byte("\n+")) || bytes.Contains(reply, []byte("\n("))
	}
}

// isText reports whether an element of this type is a line of text.
func isText(kind byte) bool { return kind == '-' || kind == '+' || kind == '(' }
