package main

import (
	"cmp"
	"slices"
	"strconv"
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
	commands             [][][]byte // CLIENT TRACKING ON …, as each node is told, without REDIRECT
	kept                 int        // bytes of them
	optin, optout, bcast bool
	caching              []byte   // CLIENT CACHING, to go before the next request
	redirect             int64    // the client that hears instead of this one; 0: none
	target               *mailbox // of that client
	broken               bool     // that client was gone when it was to be told something

	// over a Cluster
	asks      *request // waits for words of several nodes: CLIENT TRACKING with BCAST, FLUSHALL
	opens     []byte   // the reply of that CLIENT TRACKING
	failed    bool     // a node does not agree to it
	flushing  bool     // the client has sent FLUSHALL
	flushedAt int64    // when a node has said that all keys are gone, which the client is not told yet; else 0
	listed    bool     // in loop.flushed
}

// forgetAll is the invalidation of all keys.
const forgetAll = ">2\r\n$10\r\ninvalidate\r\n_\r\n"

// tracks reports whether the stay is its client's because of CLIENT TRACKING.
func (st *stay) tracks() bool { return st != nil && st.s.tracking != nil }

const (
	errTrackingShards   = "ERR berth: CLIENT TRACKING with BCAST is not available inside MULTI over a Cluster"
	errTrackingRedirect = "ERR berth: CLIENT TRACKING with REDIRECT is not available inside MULTI"
	errTrackingPrefixes = "ERR berth: CLIENT TRACKING with so many prefixes is not available"
	errNoTarget         = "ERR The client ID you want redirect to does not exist"
	errOneTarget        = "ERR A client can only redirect to a single other client"
)

// maxTracking is how many bytes of CLIENT TRACKING commands are kept for a client. berth tells each
// new node all of them again, and how many prefixes a client names is the client's to choose.
const (
	maxTracking      = 64 << 10
	trackingWordCost = 8 // of a word's length and line ends, at least
)

// trackingWords is what a CLIENT TRACKING says. It is read up to the first word that is wrong in
// any case. What is wrong with others the node says.
type trackingWords struct {
	on, optin, optout, bcast bool

	redirect   int64 // the client to be told
	redirectAt int   // where its number is among the words; 0: there is none
	wrong      string
}

func readTrackingWords(args [][]byte) (w trackingWords) {
	w.on = strings.EqualFold(string(args[2]), "on")
	for i := 3; i < len(args); i++ {
		more := i+1 < len(args)
		switch word := strings.ToLower(string(args[i])); {
		case word == "redirect" && more:
			i++
			id, ok := parseInt(args[i])
			switch {
			case w.redirectAt > 0:
				w.wrong = errOneTarget
				return w
			case !ok:
				w.wrong = errNotNumber
				return w
			}
			w.redirect, w.redirectAt = id, i
		case word == "prefix" && more:
			i++
		case word == "optin":
			w.optin = true
		case word == "bcast":
			w.bcast = true
		case word == "optout":
			w.optout = true
		case word != "noloop":
			return w
		}
	}
	return w
}

// without returns the words of a CLIENT TRACKING without REDIRECT.
func (w *trackingWords) without(args [][]byte) [][]byte {
	if w.redirectAt == 0 {
		return args
	}
	return slices.Concat(args[:w.redirectAt-1], args[w.redirectAt+1:])
}

// sizeOf is how many bytes of a CLIENT TRACKING are kept.
func sizeOf(args [][]byte) (n int) {
	for _, a := range args {
		n += len(a) + trackingWordCost
	}
	return n
}

// trackingRefusal is why a CLIENT TRACKING is not for a node; "" when it is. What is wrong with its
// words the node says.
func (s *session) trackingRefusal(args [][]byte) string {
	switch w := readTrackingWords(args); {
	case !w.on:
		return ""
	case s.trackingKept()+sizeOf(args) > maxTracking:
		return errTrackingPrefixes
	}
	return ""
}

// trackingRefusalInExec is why a CLIENT TRACKING may not be queued; "" if it may.
func (s *session) trackingRefusalInExec(args [][]byte) string {
	switch w := readTrackingWords(args); {
	case w.redirectAt > 0:
		return errTrackingRedirect
	case w.bcast && s.loop.srv.sharded():
		return errTrackingShards
	}
	return s.trackingRefusal(args)
}

// clientTracking has the node that the client's lease is to switch tracking on or off.
func clientTracking(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	w := readTrackingWords(args)
	if text := cmp.Or(s.trackingRefusal(args), w.wrong); text != "" {
		return s.refuse(cmd, text)
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	if w.redirectAt > 0 {
		switch {
		case s.wanted == nil || s.wanted.id != w.redirect:
			s.seek(w.redirect)
			return s.hold(pauseAnswering)
		case s.wanted.box == nil:
			s.wanted = nil
			return s.refuse(cmd, errNoTarget)
		case !w.on:
			args = w.without(args)
			raw = codec.AppendCommand(nil, args...)
			s.wanted, w.redirectAt = nil, 0
		}
	}
	if s.tracking == nil && !w.on {
		return s.share(cmd, raw, args) // it changes nothing, or is not in order
	}
	ready, taken := s.attach(cmd, args, pool.ReasonPin)
	if ready && w.redirectAt > 0 {
		ready, taken = s.stay.listen(cmd)
	}
	if !ready {
		if taken {
			s.wanted = nil
		}
		return taken
	}
	s.turnTracking(cmd, &w, raw, args)
	return true
}

// turnTracking sends a CLIENT TRACKING.
func (s *session) turnTracking(cmd *router.Command, w *trackingWords, raw []byte, args [][]byte) {
	st := s.stay
	words := newOwnInExec(0, cmd, raw, args)
	if w.redirectAt > 0 {
		args = slices.Clone(args)
		args[w.redirectAt] = strconv.AppendInt(nil, st.ear.id, 10)
		raw = codec.AppendCommand(nil, args...)
	}
	r := s.newRequest(cmd)
	r.ends = settle(func(r *request, reply []byte) {
		s.openTracking(r, turnedTracking(s, &words, reply, nil))
	})
	s.pauseFor(pauseDraining)
	st.unwatchNode()
	st.lease.Mark(pool.DirtTracking)
	st.send(r, raw, 1)
}

// turnedTracking follows a CLIENT TRACKING that the client's lease has been told.
func turnedTracking(s *session, c *ownInExec, reply, out []byte) []byte {
	out = append(out, reply...)
	wanted := s.wanted
	s.wanted = nil
	st := s.stay
	if reply[0] != '+' || st == nil || st.lease == nil {
		return out
	}
	w := readTrackingWords(c.args)
	dropped := len(s.kept) > 0 && !(w.on && s.spreads()) // the other nodes have not been told
	if dropped {
		s.dropKept("tracking changed")
	}
	if w.on {
		s.enterTracking(&w, wanted, c.args)
	} else {
		s.tracking = nil
	}
	switch {
	case !dropped:
	case s.tracking != nil && s.tracking.target != nil:
		s.forgetAll()
	case s.resp() == 3:
		out = append(out, forgetAll...)
	}
	return out
}

// enterTracking notes what the node has agreed to.
func (s *session) enterTracking(w *trackingWords, wanted *redirectTarget, args [][]byte) {
	st, t := s.stay, s.tracking
	if t == nil {
		t = &tracking{}
		s.tracking = t
	}
	if !t.bcast { // prefixes add up, other options replace those of before
		*t = tracking{caching: t.caching}
	}
	t.redirect, t.target, t.broken = 0, nil, false
	if w.redirectAt > 0 && wanted != nil {
		t.redirect, t.target = wanted.id, wanted.box
	} else {
		st.dropEar()
	}
	t.commands = append(t.commands, w.without(args))
	size := sizeOf(args)
	t.kept += size
	s.grew(size)
	st.told = len(t.commands)
	st.lease.Mark(pool.DirtTracking)
	t.optin, t.optout, t.bcast = t.optin || w.optin, t.optout || w.optout, t.bcast || w.bcast
}

// track tells the node of the session's lease, ahead of anything else, that this client tracks.
// ready false: the request was answered (taken), or has to wait (not taken).
func (s *session) track(cmd *router.Command) (ready, taken bool) {
	st, t := s.stay, s.tracking
	if t == nil || st.told == len(t.commands) {
		return true, true
	}
	if t.target != nil {
		if ready, taken = st.listen(cmd); !ready {
			return false, taken
		}
	}
	st.tell()
	return true, true
}

// tell tells the node of a lease that this client tracks, if there is an ear to redirect to.
func (st *stay) tell() {
	t := st.s.tracking
	if t == nil || st.told == len(t.commands) || t.target != nil && (st.ear == nil || st.ear.id == 0) {
		return
	}
	var raw []byte
	for _, words := range t.commands[st.told:] {
		if t.target != nil {
			words = slices.Concat(words, [][]byte{[]byte("REDIRECT"), strconv.AppendInt(nil, st.ear.id, 10)})
		}
		raw = codec.AppendCommand(raw, words...)
	}
	n := len(t.commands) - st.told
	st.told = len(t.commands)
	st.lease.Mark(pool.DirtTracking)
	st.lease.Send(raw, n)
	owed := stayOwed{left: n, must: telemetry.TrackingRefused}
	if t.bcast && t.opens == nil { // what was changed before it is not told
		owed.then = st.forgotten
	}
	st.owed = append(st.owed, owed)
	st.touch()
}

// forget says that the lease, on which the client tracked keys, is given up. Its node tells nothing
// more, and the next one has to be told.
func (st *stay) forget() {
	if st.tracks() && st.told > 0 {
		st.s.forgetAll()
	}
	st.told = 0
	st.dropEar()
}

// forgetAll tells the client that hears for a client that tracks to forget all keys.
func (s *session) forgetAll() { s.invalidate(codec.AppendNull(nil, s.resp())) }

// invalidate tells what is not valid any more: the client, or the one to which it redirects.
func (s *session) invalidate(what []byte) {
	switch t := s.tracking; {
	case t.target == nil:
		if s.resp() == 3 {
			s.write(slices.Concat(invalidation, what))
		}
	case !t.target.put(what):
		t.broken = true
		if s.resp() == 3 {
			s.write(codec.AppendInt([]byte(">2\r\n$21\r\ntracking-redir-broken\r\n"), t.redirect))
		}
	}
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
	t := s.tracking
	switch {
	case t == nil || len(reply) == 0 || !r.cmd.Flags.Has(router.Readonly) && !r.cmd.Is(router.Exec):
		return reply
	case t.target != nil:
		s.forgetAll()
		return reply
	case s.resp() < 3:
		return reply
	}
	return append(slices.Clone(reply), forgetAll...)
}

// clientCaching keeps the word for the next request that goes to the node. A client that does not track
// says so whether berth may answer its reads, with cache yes.
func clientCaching(s *session, args [][]byte, out []byte) []byte {
	t := s.tracking
	if word := strings.ToLower(string(args[2])); t == nil && s.loop.near != nil && (word == "yes" || word == "no") {
		s.farOnly = word == "no"
		return codec.AppendSimple(out, "OK")
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
	if what := invalidated(push); st.tracks() && what != nil {
		st.heard(what)
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
func (s *session) tracksElsewhere(t *router.Topology) (elsewhere bool) {
	s.eachStay(func(st *stay) { elsewhere = elsewhere || !isPrimary(t, st.addr) })
	return elsewhere
}

func isPrimary(t *router.Topology, addr string) bool {
	return slices.ContainsFunc(t.Shards(), func(shard router.Shard) bool { return shard.Primary == addr })
}
