package main

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// Which commands a user may run is for the nodes to say. A command that travels is judged by the
// node it travels to. What berth answers itself no node sees: berth asks a node before, and
// remembers the answer for as long as the user's rule stays the same. No answer means no.
//
//	dispatch: unknown ─▶ ask, hold ··· answer, or one second ─▶ the same request dispatched again ─▶ run, or refuse
//
// What is trusted: the node's answer to a question of berth's own, on a connection that carries no
// script's reply in its place. The questions are ACL GETUSER and ACL DRYRUN, asked as the user of
// the backend's URL. Where that user may not run them, and before Redis 7.0, the client's own user
// says harmless words at the node (question.words), which the node refuses, or does not.

// permissionWait is how long a request waits for the answer. After that what is remembered holds.
const permissionWait = time.Second

// question is what a node is asked about a command of berth's own, besides the command itself.
type question struct {
	like  [][][]byte // the commands that a user must be allowed to run; none: the command itself
	words []byte     // what asks in the client's own name, harmless in every version; nil: there is nothing
	old   []byte     // the same before Redis 7.0, where a wrong number of words is refused after a missing right
	n     int        // how many replies words bring, or old
}

// verdict is the answer that the session's current request waits for.
type verdict struct {
	s     *session
	of    *rights
	cmd   *router.Command
	key   string      // what the answer is remembered under
	ask   *question   // nil: about the command itself
	timer *time.Timer // ends the wait
	over  bool        // the wait has ended

	request []byte // dry runs
	runs    int    // dry runs in it
	tries   int    // primaries that were asked
	moves   int64  // the server's, when they were

	vague   bool   // an answer did not say whether the user may
	unknown bool   // that was because the node does not know the command
	unfit   bool   // the backend's user may not ask
	notNow  string // the words of a node that is busy; "": none is

	known   bool   // all answers have come
	refusal string // "": the user may
}

// isJudged reports whether berth has to know if the user may run the command: no node judges it
// now. A client that blocks or subscribes may join others of its user, for whom a node has judged
// earlier.
func (s *session) isJudged(cmd *router.Command, args [][]byte) bool {
	switch {
	case cmd.Flags.Has(router.NoAuth): // which Redis lets everybody run
		return false
	case s.txn != nil:
		return true
	case s.sub != nil && (s.monitors() || s.subscribed() && s.resp() == 2): // it may be refused before it travels
		return true
	case waitsWithOthers(cmd, args): // no node sees that another client waits as well
		return true
	}
	if s.answersItself(cmd) && !cmd.Is(router.Watch) || cmd.Is(router.Unsubscribes) || cmd.Is(router.Monitor) ||
		cmd.Is(router.Replication) {
		return true
	}
	return cmd.Is(router.Subscribes)
}

// judge reports what the node says to the user who runs the command, "" if the user may. It is not
// ready when a node has to be asked: the session is on hold then.
func (s *session) judge(cmd *router.Command, args [][]byte) (refusal string, ready bool) {
	srv := s.loop.srv
	if srv.nodes.Info().Kind == nodes.Embedded { // it has no users
		return "", true
	}
	u := srv.rights.of(s.user())
	v := s.verdict
	if v != nil && !v.over { // EXEC's reply was looked at before its time
		return "", false
	}
	s.verdict = nil
	if v != nil && v.moves != srv.moves.Load() { // the nodes of another backend have answered
		v = nil
	}
	silent := u.silent.Load() || s.wouldWait()
	switch {
	case v != nil && v.known:
		return v.refusal, true
	case !srv.knows(s):
		if v == nil {
			s.askRights(u, "", cmd, args)
			return "", false
		}
		return s.unjudged(cmd), true
	case u.free.Load() && (v != nil || u.fresh(s.loop.clock) || silent || !isDangerous(cmd)):
		s.refreshRights(u)
		return "", true
	}
	ours := s.answersItself(cmd) || s.txn == nil && waitsWithOthers(cmd, args)
	key := u.key(cmd, args, s.pipes.Identity().DB)
	refusal, known, fresh := u.remembered(key, cmd, args, s.loop.clock)
	switch {
	case known && (fresh || v != nil || silent || u.ruled() && !isDangerous(cmd)):
		s.refreshRights(u)
		return refusal, true
	case v == nil && (ours || s.own(cmd).ask != nil || !u.unfit.Load()):
		s.askRights(u, key, cmd, args)
		return "", false
	case cmd.Way == router.Refused || cmd.Is(router.Watch) || !ours: // berth does nothing for it, or a node will judge it
		return "", true
	case v.unfit:
		return "ERR berth: it cannot be asked whether the user may run '" + cmd.Name +
			"': the user of the backend's URL may not run ACL DRYRUN", true
	case v.unknown:
		return "ERR berth: it cannot be asked whether the user may run '" + cmd.Name +
			"': the node does not know what it is asked about", true
	}
	if v.notNow != "" {
		return v.notNow, true
	}
	return s.unjudged(cmd), true
}

// unjudged is the refusal of a command of which no node says whether the user may run it.
func (s *session) unjudged(cmd *router.Command) string {
	return cmp.Or(s.loop.srv.unreached(),
		"TRYAGAIN berth: it cannot be asked whether the user may run '"+cmd.Name+"', no node answers, command not executed")
}

// knows reports whether the nodes have let in the client's user with the client's password. Those of
// another backend than the client has logged in at may have another user of the same name.
func (srv *server) knows(s *session) bool {
	return srv.moves.Load() == 0 || srv.pipeSettings.Logins.Proven(s.pipes.Identity())
}

// wouldWait reports whether the node that is asked about the client's rights is slow. What is known is
// then as good as what the client would wait for.
func (s *session) wouldWait() bool {
	if s.loop.srv.slow.n.Load() == 0 {
		return false
	}
	t := s.loop.srv.nodes.Topology()
	shard, text := shardOf(t, noSlot, s.id)
	return text == "" && s.loop.srv.slow.is(t.Shards()[shard].Primary)
}

// isDangerous reports whether a user must not run the command on a rule that is no longer fresh.
func isDangerous(cmd *router.Command) bool {
	return cmd.Flags.Has(router.Admin) || slices.Contains(cmd.Categories, "@dangerous") || slices.Contains(cmd.Categories, "@admin")
}

// isAdded reports whether the built-in table of Redis lacks the command: berth adds it, or a module
// of a node does.
func isAdded(cmd *router.Command) bool { return cmd.ID >= len(router.Builtin().Commands()) }

// asker returns the identity as which berth asks about rights: the backend URL's user.
func (srv *server) asker(db int) backend.Identity {
	id := backend.Identity{User: backend.UserNamed(srv.nodes.Target().User), DB: db, RESP: 2}
	if id.User == "" {
		id.Credential = srv.pipeSettings.Logins.Default()
	}
	return id
}

// askRights holds the session before the current request until a node has said whether the user may
// run it.
func (s *session) askRights(u *rights, key string, cmd *router.Command, args [][]byte) {
	l := s.loop
	v := &verdict{s: s, of: u, cmd: cmd, key: key, ask: s.own(cmd).ask, moves: l.srv.moves.Load()}
	s.verdict = v
	s.pauseFor(pauseVetting)
	v.timer = time.AfterFunc(permissionWait, func() { l.Post(v.late) })
	if !l.srv.knows(s) {
		v.prove()
		return
	}
	if s.txn == nil && waitsWithOthers(cmd, args) {
		v.ask = blockingQuestion(cmd, args)
	}
	like := [][][]byte{args}
	if v.ask != nil && v.ask.like != nil {
		like = v.ask.like
	} else if like[0] = brief(cmd, args); like[0] == nil { // too long to be asked about by another user
		if !v.inOwnWords() {
			v.end()
		}
		return
	}
	var b []byte
	for _, words := range like {
		b = codec.AppendCommand(b, append([][]byte{[]byte("ACL"), []byte("DRYRUN"), []byte(u.name)}, words...)...)
	}
	v.request, v.runs = b, len(like)
	v.send()
}

// maxAsked is of how many primaries the same is asked while each is lost.
const maxAsked = 3

// send asks a primary, and when that is lost another one: who may do what they all know.
func (v *verdict) send() {
	s := v.s
	t := s.loop.srv.nodes.Topology()
	set := s.loop.pipes.Attach(s.loop.srv.asker(s.pipes.Identity().DB))
	defer set.Detach()
	for v.tries < min(maxAsked, len(t.Shards())) {
		shard, text := shardOf(t, noSlot, s.id+int64(v.tries))
		v.tries++
		if text != "" {
			break
		}
		to := set.Shard(t, shard)
		err := to.Send(askRule(v.of.name), 1, &refreshed{u: v.of, l: s.loop})
		if err == nil {
			err = to.Send(v.request, v.runs, v)
		}
		if err == nil {
			return
		}
		v.unfit = v.unfit || err.Refusal != ""
	}
	v.vague = true
	v.answered()
}

// maxBrief is how long the words may be that a node is asked about. Of a longer request the client's
// own user asks, if there are words for that. What a node will judge may go there.
const maxBrief = 1 << 20

// brief returns the request as far as a user's rights depend on it: the command, its first argument,
// all keys and channels, and of a command with keys what is short, for it may say where they are. A
// password (CONFIG SET requirepass) is none of that: a node's SLOWLOG hides it in the command, but
// not in the question. It returns nil when the keys are too long.
func brief(cmd *router.Command, args [][]byte) (words [][]byte) {
	keyed := isKeyed(cmd)
	if !keyed {
		args = args[:min(len(args), max(cmd.Arity, -cmd.Arity, 2))] // a rule may name the first argument
	}
	keys, _ := cmd.Keys(args, nil)
	size := 0
	for i, word := range args {
		if (!keyed && i > 1 || len(word) > 64 || isPassword(cmd, args, i)) && !cmd.Flags.Has(router.PubSub) && !slices.Contains(keys, i) {
			word = []byte("-")
		}
		if size += len(word) + 16; size > maxBrief {
			return nil
		}
		words = append(words, word)
	}
	return words
}

// isKeyed reports whether the user's rights depend on the command's keys or channels.
func isKeyed(cmd *router.Command) bool {
	return (!cmd.Keyless() || cmd.Flags.Has(router.PubSub)) && !cmd.Is(router.Unsubscribes)
}

// Reply takes the dry runs, after the rule has come. It is a backend.Receiver's.
func (v *verdict) Reply(reply, _ []byte, more int) {
	v.dryRun(reply)
	if more == 0 {
		v.answered()
	}
}

// dryRun takes the answer to one dry run. A user may run the command who may run all that was asked
// about.
func (v *verdict) dryRun(reply []byte) {
	_, text, _ := bytes.Cut(reply, []byte("\r\n"))
	switch {
	case v.refusal != "", bytes.HasPrefix(reply, []byte("+OK")):
	case reply[0] == '$' && len(text) > 2:
		v.refusal = v.inItsName(refusalOf(string(text[:len(text)-2])))
	case bytes.HasPrefix(reply, []byte("-ERR User ")):
		v.refusal = "NOPERM berth: the node has no user '" + v.of.name + "' any more"
	case bytes.HasPrefix(reply, []byte("-ERR Command ")), bytes.HasPrefix(reply, []byte("-ERR wrong number ")):
		v.isUnknown()
	case bytes.HasPrefix(reply, []byte("-NO")), bytes.HasPrefix(bytes.ToLower(reply), []byte("-err unknown")):
		v.unfit = true
	default:
		v.vague = true
		if reply[0] == '-' && backend.LetsIn(string(reply[1:])) { // BUSY, LOADING
			v.notNow = string(reply[1 : len(reply)-2])
		}
	}
}

// isUnknown takes the answer of a node that does not know what it was asked about. A command of a
// later Redis than the node protects nothing there. A dangerous one, and one that berth adds, does:
// for these such an answer is none.
func (v *verdict) isUnknown() {
	if isDangerous(v.cmd) || isAdded(v.cmd) {
		v.vague, v.unknown = true, true
	}
}

// inItsName returns a refusal of the command that was asked about as one of the client's command.
func (v *verdict) inItsName(refusal string) string {
	before, after, ok := strings.Cut(refusal, "'")
	_, after, also := strings.Cut(after, "'")
	if ok && also && v.ask != nil && v.ask.like != nil {
		return before + "'" + v.cmd.Name + "'" + after
	}
	return refusal
}

// Lost learns that the backend's user gets no answer from this node. A node that refuses that user
// may answer the client's.
func (v *verdict) Lost(err *backend.LostError, _ []byte) {
	v.unfit = v.unfit || err.Refusal != ""
	if !v.s.closed && !v.over {
		v.send()
	}
}

// answered remembers what the node has said. It may be too late for the request.
func (v *verdict) answered() {
	v.of.unfit.Store(v.unfit)
	if v.unfit && v.refusal == "" && v.inOwnWords() {
		return
	}
	v.concluded()
}

func (v *verdict) concluded() {
	if v.of.long.Load() && v.refusal == "" { // what it says is not known
		v.known, v.refusal = true, errLongRule
		v.end()
		return
	}
	if v.refusal != "" || !v.vague && !v.unfit {
		v.known = true
		v.of.silent.Store(false)
		v.of.remember(v.key, v.cmd, v.refusal, v.s.loop.clock)
	}
	v.end()
}

// late ends a wait that has been long enough.
func (v *verdict) late() {
	if !v.over {
		v.of.silent.Store(true)
		v.end()
	}
}

// end has the request dispatched again.
func (v *verdict) end() {
	if v.over {
		return
	}
	v.over = true
	v.timer.Stop()
	if !v.s.closed {
		v.s.resumeFrom(pauseVetting)
	}
}

// prove has the nodes let the client's user in, before they are asked what a user of that name may.
func (v *verdict) prove() {
	s := v.s
	shard, text := shardOf(s.loop.srv.nodes.Topology(), noSlot, s.id)
	if text != "" {
		v.end()
		return
	}
	if err := s.pipes.Shard(s.loop.srv.nodes.Topology(), shard).Send(helloCommand, 1, &proof{v, s.pipes.Identity()}); err != nil {
		(&proof{v: v}).Lost(err, nil)
	}
}

// helloCommand asks nothing, and no rule forbids it to a user.
var helloCommand = codec.AppendCommandString(nil, "HELLO")

// proof waits for the first reply that the nodes of another backend give to the client's user. The
// verdict ends with it: the request is judged anew if there is one.
type proof struct {
	v  *verdict
	id backend.Identity
}

// Reply learns that the user is let in.
func (p *proof) Reply(_, _ []byte, _ int) {
	s := p.v.s
	if p.v.moves != s.loop.srv.moves.Load() {
		p.v.end()
		return
	}
	s.loop.srv.pipeSettings.Logins.Prove(p.id)
	if s.verdict == p.v {
		s.verdict = nil
	}
	p.v.end()
}

// Lost learns that the user is not, or that no node says so.
func (p *proof) Lost(err *backend.LostError, _ []byte) {
	p.v.known, p.v.refusal = err.Refusal != "", err.Refusal
	p.v.end()
}

// inOwnWords has the client's own user ask, if there are words for that.
func (v *verdict) inOwnWords() bool {
	s := v.s
	if s.closed || v.over || v.ask == nil {
		return false
	}
	words := v.ask.words
	if v.ask.old != nil && s.loop.srv.isBefore(7, 0) {
		words = v.ask.old
	}
	t := s.loop.srv.nodes.Topology()
	shard, text := shardOf(t, noSlot, s.id)
	if words == nil || text != "" {
		return false
	}
	v.vague, v.unknown, v.unfit = false, false, false
	set := s.pipes
	if v.cmd.Is(router.Unsubscribes) { // confirmed by a push in RESP3, which is no reply
		id := set.Identity()
		id.RESP = 2
		set = s.loop.pipes.Attach(id)
		defer set.Detach()
	}
	if err := set.Shard(t, shard).Send(words, v.ask.n, (*ownWords)(v)); err != nil {
		(*ownWords)(v).Lost(err, nil)
	}
	return true
}

// ownWords is a verdict that waits for the replies to the client's own words.
type ownWords verdict

// Reply takes a reply. An error that begins with ERR is about the words: the user was allowed to
// say them.
func (w *ownWords) Reply(reply, _ []byte, more int) {
	switch {
	case w.refusal != "" || reply[0] != '-':
	case w.cmd.Is(router.Exec) && bytes.Contains(reply, []byte("because of: NOPERM")):
		_, after, _ := strings.Cut(string(reply[:len(reply)-2]), "because of: ")
		w.refusal = after
	case bytes.HasPrefix(reply, []byte("-NO")): // NOPERM, NOAUTH
		w.refusal = (*verdict)(w).inItsName(string(reply[1 : len(reply)-2]))
	case bytes.HasPrefix(reply, []byte("-ERR unknown")), bytes.HasPrefix(reply, []byte("-ERR wrong number ")):
		(*verdict)(w).isUnknown()
	case isRedirect(reply): // a node looks at the user first
	case !bytes.HasPrefix(reply, []byte("-ERR ")) && !bytes.HasPrefix(reply, []byte("-EXECABORT ")):
		w.vague = true
	}
	if more == 0 {
		(*verdict)(w).concluded()
	}
}

// Lost learns that the client's user gets no answer. A node that refuses that user has answered.
func (w *ownWords) Lost(err *backend.LostError, _ []byte) {
	w.refusal, w.vague = err.Refusal, true
	(*verdict)(w).concluded()
}
