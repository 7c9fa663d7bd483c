package main

import (
	"bytes"
	"slices"
	"strings"

	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// tracking is client-side caching as a client has switched it on with CLIENT TRACKING. A node tells
// a connection what was changed of that it has read on it: so the client gets a lease of its own to
// each node that it reads from, on which all that it sends there travels from then on, and what the
// node pushes goes to the client where it comes between the replies. The leases stay until CLIENT
// TRACKING OFF, RESET or the client's end, and are never pooled. If one is lost the client is
// closed: what it has cached would go stale without a word.
//
// What has to travel otherwise over a Cluster (a command cut by slot, one that was redirected) no
// node remembers: after its reply the client is told to forget everything.
type tracking struct {
	commands             []byte // CLIENT TRACKING ON …, as each node is told
	told                 int    // of them
	optin, optout, bcast bool
	caching              []byte // CLIENT CACHING, to go before the next request
}

// forgetAll is the invalidation of all keys.
const forgetAll = ">2\r\n$10\r\ninvalidate\r\n_\r\n"

// tracks reports whether the stay is its client's because of CLIENT TRACKING.
func (st *stay) tracks() bool { return st != nil && st.s.tracking != nil }

const (
	errTrackingShards   = "ERR berth: CLIENT TRACKING with BCAST is not available over a Cluster"
	errTrackingRedirect = "ERR berth: CLIENT TRACKING with REDIRECT is not available"
	errTrackingPrefixes = "ERR berth: CLIENT TRACKING with so many prefixes is not available"
)

// maxTracking is how many bytes of CLIENT TRACKING commands are kept for a client. berth tells each
// new node all of them again, and how many prefixes a client names is the client's to choose.
const (
	maxTracking      = 64 << 10
	trackingWordCost = 8 // of a word's length and line ends, at least
)

// trackingRefusal is why a CLIENT TRACKING is not for a node; "" when it is. What is wrong with its
// words the node says.
func (s *session) trackingRefusal(args [][]byte) string {
	if !strings.EqualFold(string(args[2]), "on") {
		return ""
	}
	kept := s.trackingKept()
	for _, a := range args {
		kept += len(a) + trackingWordCost
	}
	if kept > maxTracking {
		return errTrackingPrefixes
	}
	for i := 3; i < len(args); i++ {
		switch word := strings.ToLower(string(args[i])); {
		case word == "prefix":
			i++
		case word == "redirect" && i+1 < len(args):
			if _, ok := parseInt(args[i+1]); ok {
				return errTrackingRedirect
			}
		case word == "bcast" && s.loop.srv.sharded():
			return errTrackingShards
		}
	}
	return ""
}

// clientTracking has the node that the client's lease is to switch tracking on or off.
func clientTracking(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	if text := s.trackingRefusal(args); text != "" {
		return s.refuse(cmd, text)
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	if s.tracking == nil && !strings.EqualFold(string(args[2]), "on") {
		return s.share(cmd, raw, args) // it changes nothing, or is not in order
	}
	ready, taken := s.attach(cmd, args, pool.ReasonPin)
	if !ready {
		return taken
	}
	st := s.stay
	words := newOwnInExec(0, cmd, raw, args)
	r := s.newRequest(cmd)
	r.ends = settle(func(r *request, reply []byte) {
		r.done(turnedTracking(s, &words, reply, nil))
	})
	s.pauseFor(pauseDraining)
	st.unwatchNode()
	st.lease.Mark(pool.DirtTracking)
	st.send(r, raw, 1)
	return true
}

// turnedTracking follows a CLIENT TRACKING that the client's lease has been told.
func turnedTracking(s *session, c *ownInExec, reply, out []byte) []byte {
	out = append(out, reply...)
	st := s.stay
	if reply[0] != '+' || st == nil || st.lease == nil {
		return out
	}
	if len(s.kept) > 0 { // the other nodes have not been told
		s.dropKept("tracking changed")
		if s.resp() == 3 {
			out = append(out, forgetAll...)
		}
	}
	if strings.EqualFold(string(c.args[2]), "off") {
		s.tracking = nil
		return out
	}
	t := s.tracking
	if t == nil {
		t = &tracking{}
		s.tracking = t
	}
	if !t.bcast { // prefixes add up, other options replace those of before
		*t = tracking{commands: t.commands[:0], caching: t.caching}
	}
	t.commands = append(t.commands, c.raw...)
	t.told++
	s.grew(len(c.raw))
	st.told = t.told
	st.lease.Mark(pool.DirtTracking)
	for i := 3; i < len(c.args); i++ {
		switch strings.ToLower(string(c.args[i])) {
		case "prefix":
			i++
		case "optin":
			t.optin = true
		case "bcast":
			t.bcast = true
		case "optout":
			t.optout = true
		}
	}
	return out
}

// track tells the node of a lease, ahead of anything else, that this client tracks.
func (st *stay) track() {
	t := st.s.tracking
	if t == nil || st.told > 0 {
		return
	}
	st.told = t.told
	st.lease.Mark(pool.DirtTracking)
	st.lease.Send(t.commands, t.told)
	st.owed = append(st.owed, stayOwed{left: t.told, must: telemetry.TrackingRefused})
	st.touch()
}

// forget says that the lease, on which the client tracked keys, is given up. Its node tells nothing
// more, and the next one has to be told.
func (st *stay) forget() {
	if st.tracks() && st.told > 0 && st.s.resp() == 3 {
		st.s.write([]byte(forgetAll))
	}
	st.told = 0
}

// shareTracked sends an ordinary command on the client's own connection to a node.
func (s *session) shareTracked(cmd *router.Command, raw []byte, args [][]byte, t *router.Topology, addr string) bool {
	if !s.turnTo(onLease, t) {
		return false
	}
	if ready, taken := s.attachTo(cmd, addr, pool.ReasonPin); !ready {
		return taken
	}
	return s.sendOnStay(cmd, raw, args)
}

// withForgetAll appends an invalidation of all keys to a reply that did not come over the client's
// tracking connection: no node remembers what that command read.
func (s *session) withForgetAll(r *request, reply []byte) []byte {
	if s.tracking == nil || s.resp() < 3 || len(reply) == 0 || !r.cmd.Flags.Has(router.Readonly) && !r.cmd.Is(router.Exec) {
		return reply
	}
	return append(slices.Clone(reply), forgetAll...)
}

// askTracking passes on what a client asks about its tracking: the connection it travels on knows.
// Without tracking any does.
func askTracking(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	return s.share(cmd, raw, args)
}

// clientCaching keeps the word for the next request that goes to the node.
func clientCaching(s *session, args [][]byte, out []byte) []byte {
	t := s.tracking
	if t == nil {
		return codec.AppendError(out, "ERR CLIENT CACHING can be called only when the client is in tracking mode with "+
			"OPTIN or OPTOUT mode enabled")
	}
	word := strings.ToLower(string(args[2]))
	switch {
	case word != "yes" && word != "no":
		return codec.AppendError(out, errSyntax)
	case word == "yes" && !t.optin:
		return codec.AppendError(out, "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	case word == "no" && !t.optout:
		return codec.AppendError(out, "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	}
	t.caching = codec.AppendCommandString(nil, "CLIENT", "CACHING", word)
	return codec.AppendSimple(out, "OK")
}

// sendCaching puts what CLIENT CACHING has said before a request.
func (st *stay) sendCaching() {
	if t := st.s.tracking; t != nil && t.caching != nil {
		raw := t.caching
		t.caching = nil
		st.send(nil, raw, 1)
	}
}

// forgetCaching ends what CLIENT CACHING has said: it was for this command, which berth answers
// itself.
func (s *session) forgetCaching(cmd *router.Command) {
	if s.tracking != nil && !cmd.Within(router.Connection) {
		s.tracking.caching = nil
	}
}

// pushed passes on what a node has pushed.
func (st *stay) pushed(push []byte) {
	if st.tracks() && bytes.HasPrefix(push, []byte(">2\r\n$10\r\ninvalidate\r\n")) {
		st.s.write(push)
	}
}

// endTracking closes the leases of a client that tracks.
func (s *session) endTracking(why string) {
	if s.tracking == nil {
		return
	}
	s.tracking = nil
	s.dropKept(why)
	if st := s.stay; st != nil && st.lease != nil {
		st.lease.Close(why)
		st.watching = false
		st.lose()
	}
}

// tracksElsewhere reports whether the client has a lease to a node that is no primary any more.
func (s *session) tracksElsewhere(t *router.Topology) bool {
	isPrimary := func(addr string) bool {
		return slices.ContainsFunc(t.Shards(), func(shard router.Shard) bool { return shard.Primary == addr })
	}
	if s.stay.tracks() && !isPrimary(s.stay.addr) {
		return true
	}
	for addr := range s.kept {
		if s.tracking != nil && !isPrimary(addr) {
			return true
		}
	}
	return false
}
