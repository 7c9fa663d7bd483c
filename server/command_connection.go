package main

import (
	"cmp"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/eventlog"
	"github.com/berth-proxy/berth/server/telemetry"
)

// pingsNode reports whether PING goes to the node. Health checks ask whether it serves: one node
// says BUSY, LOADING or MASTERDOWN itself. Many nodes have no common answer. A subscriber's PING is
// about its subscriptions.
func pingsNode(s *session) bool {
	return !s.loop.srv.sharded() && s.overNodes() && s.sub == nil
}

func ping(s *session, args [][]byte, out []byte) []byte {
	switch {
	case len(args) > 2:
		return codec.AppendError(out, "ERR wrong number of arguments for 'ping' command")
	case s.subscribed() && s.resp() == 2:
		out = codec.AppendArray(out, 2)
		out = codec.AppendBulkString(out, "pong")
		if len(args) == 1 {
			return codec.AppendBulkString(out, "")
		}
		return codec.AppendBulk(out, args[1])
	case len(args) == 1:
		return codec.AppendSimple(out, "PONG")
	}
	return codec.AppendBulk(out, args[1])
}

func echo(_ *session, args [][]byte, out []byte) []byte { return codec.AppendBulk(out, args[1]) }

// serverTime is TIME: seconds and microseconds.
func serverTime(s *session, _ [][]byte, out []byte) []byte {
	out = codec.AppendArray(out, 2)
	out = codec.AppendBulkString(out, strconv.FormatInt(s.loop.clock/1e9, 10))
	return codec.AppendBulkString(out, strconv.FormatInt(s.loop.clock%1e9/1e3, 10))
}

// readMode answers READONLY and READWRITE, by which a client chooses whether it may read from
// replicas. A single node has them since Valkey 8.0.
func readMode(readonly bool) answerFunc {
	return func(s *session, _ [][]byte, out []byte) []byte {
		if srv := s.loop.srv; !srv.sharded() && !srv.isValkeySince(8, 0) {
			return codec.AppendError(out, errNoCluster)
		}
		s.readonly, s.readwrite = readonly, !readonly
		return codec.AppendSimple(out, "OK")
	}
}

// asking is ASKING: berth itself goes to the right node.
func asking(_ *session, _ [][]byte, out []byte) []byte { return codec.AppendSimple(out, "OK") }

func quit(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	s.say(cmd, "OK")
	s.end(telemetry.Quit)
	return true
}

// reset makes the client one that has just connected.
func reset(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	s.txn = nil
	s.unlisten("reset")
	s.endTracking("reset")
	s.closeTunnel("reset")
	s.unwatch()
	s.readonly, s.readwrite = false, false
	s.noTouch, s.farOnly = false, false
	s.noEvict = s.noEvict && s.loop.srv.isBefore(7, 2) // whose RESET forgets it
	s.muteAll, s.muteThis = false, s.muteNext == 1     // CLIENT REPLY SKIP outlives it, OFF does not
	if s.label != nil {
		s.label.name = ""
	}
	s.become(s.loop.srv.newcomer())
	s.welcome()
	return s.say(cmd, "RESET")
}

// become changes as whom, in which database and in which protocol the client's commands travel. The
// caller has seen to it that nothing is on its way.
func (s *session) become(id backend.Identity) {
	old := s.pipes.Identity()
	if old == id {
		return
	}
	s.pipes.Detach()
	s.pipes = s.loop.pipes.Attach(id)
	if old.User != id.User {
		if s.tracking != nil && len(s.kept) > 0 { // those nodes tell nothing more
			defer s.forgetAll()
		}
		s.dropKept("another user")
	} else if s.tracking != nil {
		for _, st := range s.kept {
			if st.lease != nil {
				st.rebind(id)
			}
		}
	}
	if st := s.stay; st != nil { // also one that is only waiting for what it is owed before it goes: it may be used again
		st.rebind(id)
	}
}

// errAuthQueued is why no AUTH is queued. Who a client is rests on a reply on a connection that carries
// nothing but AUTHs. Within EXEC's reply a script could forge the node's answer, and Redis 8.0 leaves
// out that to a wrong password.
const errAuthQueued = "ERR berth: AUTH, and HELLO with AUTH, are not possible inside MULTI"

func (s *session) authRefusal([][]byte) string { return errAuthQueued }

// helloRefusal is why a HELLO is not queued; "" if it is.
func (s *session) helloRefusal(args [][]byte) string {
	if s.parseHello(args).withAuth {
		return errAuthQueued
	}
	return ""
}

// tooLong reports whether a user name or password opens no connection.
func tooLong(word string) bool { return len(word) > backend.MaxCredential }

// auth has a node check a user and password.
func auth(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	if len(args) > 3 {
		return s.refuse(cmd, "ERR syntax error")
	}
	user, password := "", string(args[len(args)-1])
	if len(args) == 3 {
		if user = string(args[1]); user == "" { // which would ask for the default one
			return s.refuse(cmd, errWrongPass)
		}
	}
	return s.authenticate(cmd, user, password, func(reply []byte) []byte { return reply })
}

// authenticate sends AUTH to a node. When it agrees the client is that user from now on; then
// answer makes the client's reply of the node's +OK. An error goes to the client as it is.
func (s *session) authenticate(cmd *router.Command, user, password string, answer func(reply []byte) []byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	if tooLong(user) || tooLong(password) {
		return s.refuse(cmd, errCredential)
	}
	if _, text := shardOf(s.loop.srv.nodes.Topology(), noSlot, s.id); text != "" {
		return s.refuse(cmd, text)
	}
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	s.verify(r, user, password, answer)
	return true
}

// verify is authenticate for a request that is in the queue. It begins anew if the backend has changed
// when the node answers: what the old one lets in is nothing to the new one.
func (s *session) verify(r *request, user, password string, answer func(reply []byte) []byte) {
	srv := s.loop.srv
	moves, t := srv.moves.Load(), srv.nodes.Topology()
	shard, text := shardOf(t, noSlot, s.id)
	if text != "" {
		r.done(codec.AppendError(nil, text))
		return
	}
	before := srv.pipeSettings.Logins.Marks()
	enter := func(any bool) {
		switch {
		case s.closed:
			r.done(nil)
			return
		case srv.moves.Load() != moves:
			s.verify(r, user, password, answer)
			return
		}
		s.loggedIn(user, password, any, before)
		s.admit(true)
		s.pipes.Shard(t, shard).Ready() // it notices when the user is deleted
		r.done(answer(okReply))
	}
	r.ends = settle(func(r *request, reply []byte) {
		name := backend.UserNamed(user)
		switch {
		case srv.moves.Load() != moves:
			enter(false)
		case reply[0] != '+':
			s.logFailedAuth(user, reply)
			r.done(reply)
		case name == "" || s.loop.srv.pipeSettings.Logins.Knows(name, password):
			enter(false)
		default:
			q := &anyPassword{r: r, user: name, enter: enter}
			q.ask(t, shard)
		}
	})
	v := &verification{request: r, topology: t, shard: shard}
	v.send(backend.AppendAuth(nil, user, password))
}

// loggedIn makes the client a user whose password a node has just accepted. any and before are as in
// Logins.Accepted.
func (s *session) loggedIn(name, password string, any bool, before backend.Marks) {
	logins := &s.loop.srv.pipeSettings.Logins
	now := logins.Accepted(backend.UserNamed(name), password, any, before)
	id := s.pipes.Identity()
	id.User, id.Credential = now.User, now.Credential
	s.become(id)
	logins.Release(now) // become holds it
}

// verification is an AUTH on its way to a node, on a connection that carries those of other
// clients, too, one after the other. To the node the connection is the user of the last one, and it
// goes when that user is deleted. That is no matter of the others: their AUTHs, which change
// nothing at the node, are sent again.
type verification struct {
	*request
	topology *router.Topology
	shard    int
	losses   int // connections that were lost under it
}

// maxAuthLosses is how many connections may be lost before the client is asked to try again.
const maxAuthLosses = 5

func (v *verification) send(auth []byte) {
	now := v.s.loop.srv.nodes.Topology()
	if shard, text := shardOf(now, noSlot, v.s.id); text == "" { // the node before may be gone
		v.topology, v.shard = now, shard
	}
	if err := v.s.loop.pipes.Verify(v.topology.Shards()[v.shard].Primary, auth, v); err != nil {
		v.lost(err)
	}
}

// anyPassword asks a node whether it lets a user in with any password: see Logins.Accepted. It is
// asked about each password that is new.
type anyPassword struct {
	r     *request
	user  string
	enter func(any bool)
}

func (q *anyPassword) ask(t *router.Topology, shard int) {
	s := q.r.s
	set := s.loop.pipes.Attach(s.loop.srv.asker(s.pipes.Identity().DB))
	defer set.Detach()
	if err := set.Shard(t, shard).Send(askRule(q.user), 1, q); err != nil {
		q.enter(false)
	}
}

// Reply takes the user's rule.
func (q *anyPassword) Reply(reply, _ []byte, _ int) {
	any := false
	if len(reply) <= maxRule {
		rule, err := codec.ParseValue(reply)
		flags, _ := rule.Lookup("flags")
		any = err == nil && slices.ContainsFunc(flags.Elems, func(flag codec.Value) bool { return flag.Text() == "nopass" })
	}
	q.enter(any)
}

// Lost has the node not say.
func (q *anyPassword) Lost(*backend.LostError, []byte) { q.enter(false) }

// Left reports that the client has gone.
func (v *verification) Left() bool { return v.s.closed }

// Lost sends the AUTH again if only its connection was lost. Whatever the node has made of it, the
// client is not logged in.
func (v *verification) Lost(err *backend.LostError, sent []byte) {
	if v.losses++; v.losses == maxAuthLosses || v.s.closed || err.Refusal != "" || err.Timeout() {
		undone := *err
		undone.Sent = false
		v.request.Lost(&undone, sent)
		return
	}
	v.send(sent)
}

// logFailedAuth says who has tried a password in vain: the nodes' own ACL LOG knows berth's address
// alone. It never says the password.
func (s *session) logFailedAuth(user string, reply []byte) {
	why, _, _ := strings.Cut(string(reply[1:]), " ")
	slog.Warn("authentication failed", "addr", s.remote(), "id", s.id,
		"user", shown(cmp.Or(user, "default")), "why", eventlog.Cause(strings.TrimSpace(shown(why))))
}

// hello negotiates the protocol, and may authenticate and name the client at once.
func hello(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	h := s.parseHello(args)
	if h.refusal == "" && !s.loop.srv.isBefore(7, 2) { // which reads all words before it does anything
		h.refusal = h.wrong
	}
	if h.refusal != "" {
		return s.refuse(cmd, h.refusal)
	}
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	if h.wrong == "" && !s.authenticated && !h.withAuth {
		switch s.vet() {
		case turnedAway:
			h.wrong = s.loop.srv.strangersHello()
		case knocking:
			return false
		}
	}
	finish := func() []byte {
		if h.withName && (h.wrong == "" || s.loop.srv.isBefore(7, 2)) {
			s.named().name = h.name
		}
		if h.wrong != "" {
			return codec.AppendError(nil, h.wrong)
		}
		id := s.pipes.Identity()
		id.RESP = h.resp
		s.become(id)
		return s.appendHello(nil)
	}
	if h.withAuth {
		return s.authenticate(cmd, h.user, h.password, func([]byte) []byte { return finish() })
	}
	s.answer(cmd, finish())
	return true
}

// strangersHello is what the nodes say to a HELLO that gives no password where one is wanted.
func (srv *server) strangersHello() string {
	words := "HELLO <proto> AUTH"
	if srv.isBefore(7, 2) {
		words = "HELLO AUTH"
	}
	return "NOAUTH HELLO must be called with the client already authenticated, otherwise the " + words + " <user> <pass> option " +
		"can be used to authenticate the client and select the RESP protocol version at the same time"
}

// helloWords is what a HELLO asks for.
type helloWords struct {
	resp               int
	user, password     string
	name               string
	withAuth, withName bool
	refusal            string // "": there is such a protocol
	wrong              string // what is wrong after it: the options before it count all the same
}

// parseHello reads HELLO's words. A client that names no protocol keeps its own.
func (s *session) parseHello(args [][]byte) helloWords {
	h := helloWords{resp: s.resp()}
	inOrder := s.loop.srv.isBefore(7, 2) // AUTH is done before the words after it are read
	if len(args) > 1 {
		v, ok := parseInt(args[1])
		switch {
		case !ok:
			h.refusal = "ERR Protocol version is not an integer or out of range"
		case v != 2 && v != 3:
			h.refusal = "NOPROTO unsupported protocol version"
		}
		h.resp = int(v)
	}
	for i := 2; i < len(args) && h.wrong == ""; i++ {
		more := len(args) - 1 - i
		switch word := strings.ToUpper(string(args[i])); {
		case word == "AUTH" && more >= 2:
			h.user, h.password, h.withAuth = string(args[i+1]), string(args[i+2]), true
			i += 2
			if inOrder {
				h.forbidNobody()
			}
		case word == "SETNAME" && more >= 1:
			i++
			if h.wrong = wrongName(args[i], errClientName); h.wrong == "" {
				h.name, h.withName = string(args[i]), true
			}
		default:
			h.wrong = "ERR Syntax error in HELLO option '" + string(args[i]) + "'"
		}
	}
	if h.wrong == "" {
		h.forbidNobody()
	}
	return h
}

// forbidNobody keeps an AUTH without a user from a node: it would ask for the default one.
func (h *helloWords) forbidNobody() {
	if h.withAuth && h.user == "" {
		h.wrong, h.withAuth = errWrongPass, false
	}
}

// errClientName is what Redis says to a client name with spaces or control characters.
const errClientName = "ERR Client names cannot contain spaces, newlines or special characters."

// A client chooses its name and the name and version of its library, and berth repeats each of them
// in every report. Redis has no bound on their length. berth has one, so that a list of all clients
// stays in proportion to their number. Reports of berth's own show less: see shown.
const maxClientName = 1 << 10

var errLongName = "ERR berth: a name has at most " + strconv.Itoa(maxClientName) + " bytes"

// wrongName returns what to say to text that is no name of a client or a library: special is for
// text with spaces or control characters. It returns "" for a name.
func wrongName(name []byte, special string) string {
	if len(name) > maxClientName {
		return errLongName
	}
	for _, c := range name {
		if c < '!' || c > '~' {
			return special
		}
	}
	return ""
}

// named is the session's label, made when first needed.
func (s *session) named() *label {
	if s.label == nil {
		s.label = &label{}
	}
	return s.label
}

// appendHello writes HELLO's reply in the fields and the order of the node. What the connection is
// berth says.
func (s *session) appendHello(out []byte) []byte {
	resp, sharded := s.resp(), s.loop.srv.sharded()
	said := s.loop.srv.nodes.Info().Hello
	if said == nil {
		said = s.loop.srv.plainHello()
	}
	var body []byte
	n := 0
	for i := 0; i+1 < len(said); i += 2 {
		name := said[i].Text()
		if name == "availability_zone" && sharded { // the nodes are in several
			continue
		}
		n++
		body = codec.AppendBulkString(body, name)
		switch name {
		case "proto":
			body = codec.AppendInt(body, int64(resp))
		case "id":
			body = codec.AppendInt(body, s.id)
		case "mode":
			body = codec.AppendBulkString(body, s.loop.srv.mode())
		case "role":
			body = codec.AppendBulkString(body, "master")
		case "modules":
			body = appendModules(body, said[i+1].Elems, resp)
		default:
			body = codec.AppendBulkString(body, said[i+1].Text())
		}
	}
	return append(codec.AppendMap(out, n, resp), body...)
}

// plainHello is the reply to HELLO of a node that has not given its own.
func (srv *server) plainHello() (said []codec.Value) {
	for _, text := range []string{
		"server", "redis", "version", srv.redisVersion(), "proto", "", "id", "", "mode", "", "role", "", "modules", "",
	} {
		said = append(said, codec.Value{Type: '$', Str: []byte(text)})
	}
	return said
}

// appendModules writes the modules of HELLO's reply: of each one its name, ver, path and args.
func appendModules(out []byte, modules []codec.Value, resp int) []byte {
	out = codec.AppendArray(out, len(modules))
	for _, module := range modules {
		pairs := len(module.Elems) / 2 // a node may say a name without a value
		out = codec.AppendMap(out, pairs, resp)
		for _, field := range module.Elems[:2*pairs] {
			switch field.Type {
			case ':':
				out = codec.AppendInt(out, field.Int)
			case '*':
				out = codec.AppendArray(out, len(field.Elems))
				for _, arg := range field.Elems {
					out = codec.AppendBulkString(out, arg.Text())
				}
			default:
				out = codec.AppendBulkString(out, field.Text())
			}
		}
	}
	return out
}

// selectDB changes the database. Whether there is one of that number only a node knows, and whether
// the user may go there: the client's SELECT travels on the pipe of that database.
func selectDB(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	n, ok := parseInt(args[1])
	switch {
	case !ok:
		return s.refuse(cmd, errNotNumber)
	case n != int64(int32(n)):
		return s.refuse(cmd, "ERR value is out of range, value must between -2147483648 and 2147483647")
	}
	t := s.loop.srv.nodes.Topology()
	id := s.pipes.Identity()
	switch {
	case int(n) == id.DB:
		return s.say(cmd, "OK")
	case t.Sharded() && !s.loop.srv.isValkeySince(9, 0): // of which a Cluster may have several
		return s.refuse(cmd, "ERR SELECT is not allowed in cluster mode")
	case n < 0:
		return s.refuse(cmd, "ERR DB index is out of range")
	case s.waiting > 0:
		return s.hold(pauseDraining)
	}
	shard, text := shardOf(t, noSlot, s.id)
	if text != "" {
		return s.refuse(cmd, text)
	}
	id.DB = int(n)
	set := s.loop.pipes.Attach(id)
	r := s.newRequest(cmd)
	r.ends = settle(func(r *request, reply []byte) {
		if reply[0] == '+' {
			s.become(id)
		}
		r.done(reply)
	})
	s.pauseFor(pauseAnswering)
	if err := set.Shard(t, shard).Send(raw, 1, r); err != nil {
		r.lost(err)
	}
	set.Detach()
	return true
}
