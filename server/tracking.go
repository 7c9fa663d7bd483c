package main

import (
	"bytes"
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// tracking is client-side caching as a client has switched it on with CLIENT TRACKING. A node tells a connection what was
// changed of that it has read on it: so the client gets a lease of its own, on which all that it sends to the node
// travels from then on, and what the node pushes goes to the client where it comes between the replies. The lease stays until
// CLIENT TRACKING OFF, RESET or the client's end, and is never pooled. If it is lost the client is closed: what it has
// cached would go stale without a word.
type tracking struct {
	optin, optout, bcast bool
	caching              []byte // CLIENT CACHING, to go in front of the next request
}

func init() {
	sessionFuncs["client|tracking"] = clientTracking
	sessionFuncs["client|trackinginfo"] = askTracking
	sessionFuncs["client|getredir"] = askTracking
	localFuncs["client|caching"] = clientCaching
}

// tracks tells whether the stay is its client's because of CLIENT TRACKING.
func (st *stay) tracks() bool { return st != nil && st.tracking != nil }

const (
	errTrackingShards   = "ERR berth: CLIENT TRACKING is not available over a Cluster"
	errTrackingRedirect = "ERR berth: CLIENT TRACKING with REDIRECT is not available"
)

// trackingRefusal is why a CLIENT TRACKING is not for a node; "" when it is. What is wrong with its words the node says.
func (s *session) trackingRefusal(args [][]byte) string {
	if !strings.EqualFold(string(args[2]), "on") {
		return ""
	}
	for i := 3; i < len(args); i++ {
		switch word := strings.ToLower(string(args[i])); {
		case word == "prefix":
			i++
		case word == "redirect" && i+1 < len(args):
			if _, ok := parseInt(args[i+1]); ok {
				return errTrackingRedirect
			}
		}
	}
	if s.loop.srv.nodes.Topology().Sharded() {
		return errTrackingShards
	}
	return ""
}

// clientTracking has the node that the client's lease is to switch tracking on or off.
func clientTracking(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	if text := s.trackingRefusal(args); text != "" {
		return s.refuse(cmd, text)
	}
	if s.waiting > 0 {
		return s.hold(pauseBarrier)
	}
	if !s.stay.tracks() && !strings.EqualFold(string(args[2]), "on") {
		return s.share(cmd, raw, args) // it changes nothing, or is not in order
	}
	ready, taken := s.attach(cmd, args, backend.ReasonPin)
	if !ready {
		return taken
	}
	st := s.stay
	words := newLocalInBlob(0, cmd, raw, args)
	r := s.newRequest(cmd)
	r.settle = func(r *request, reply []byte) {
		turnedTracking(s, &words, reply, nil)
		if !st.tracks() && !st.watching {
			st.leaving = true
		}
		r.done(reply)
	}
	s.pause = pauseBarrier
	st.endWatchBefore()
	st.leaving = false
	st.lease.Mark(backend.DirtTracking)
	st.send(r, raw, 1)
	return true
}

// turnedTracking follows a CLIENT TRACKING.
func turnedTracking(s *session, c *localInBlob, reply, out []byte) []byte {
	st := s.stay
	switch {
	case reply[0] != '+' || st == nil || st.lease == nil:
	case strings.EqualFold(string(c.args[2]), "off"):
		if st.tracking != nil {
			st.tracking, st.leaving = nil, !st.watching
		}
	default:
		st.tracking, st.leaving = &tracking{}, false
		st.lease.Mark(backend.DirtTracking)
		for i := 3; i < len(c.args); i++ {
			switch strings.ToLower(string(c.args[i])) {
			case "prefix":
				i++
			case "optin":
				st.tracking.optin = true
			case "bcast":
				st.tracking.bcast = true
			case "optout":
				st.tracking.optout = true
			}
		}
	}
	return append(out, reply...)
}

// askTracking passes on what a client asks about its tracking: the connection it travels on knows. Without tracking any does.
func askTracking(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	return s.share(cmd, raw, args)
}

// clientCaching keeps the word for the next request that goes to the node.
func clientCaching(s *session, args [][]byte, out []byte) []byte {
	var t *tracking
	if s.stay != nil {
		t = s.stay.tracking
	}
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

// sendCaching puts what CLIENT CACHING has said in front of a request.
func (st *stay) sendCaching() {
	if t := st.tracking; t != nil && t.caching != nil {
		raw := t.caching
		t.caching = nil
		st.send(nil, raw, 1)
	}
}

// forgetCaching ends what CLIENT CACHING has said: it was for this command, which berth answers itself.
func (s *session) forgetCaching(cmd *router.Command) {
	if s.stay.tracks() && !strings.HasPrefix(cmd.Name, "client|") {
		s.stay.tracking.caching = nil
	}
}

// pushed passes on what a node has pushed.
func (st *stay) pushed(push []byte) {
	if st.tracks() && bytes.HasPrefix(push, []byte(">2\r\n$10\r\ninvalidate\r\n")) {
		st.s.write(push)
	}
}

// endTracking closes the lease of a client that tracks.
func (s *session) endTracking(why string) {
	st := s.stay
	if st.tracks() && st.lease != nil {
		st.lease.Close(why)
		st.lease, st.owed, st.tracking, st.watching = nil, nil, nil, false
		s.stay = nil
	}
}

// endWatchBefore ends the WATCH of a stay that was about to leave: its client has ended it, but the lease not yet.
func (st *stay) endWatchBefore() {
	if st.leaving {
		st.send(nil, unwatchCommand, 1)
		st.lease.Clear(backend.DirtWatch)
	}
}
