package main

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// localFunc answers a command out of berth's own knowledge: it appends the reply to out.
type localFunc func(s *session, args [][]byte, out []byte) []byte

// sessionFunc runs a command that changes the session, or that needs a node's word first. As dispatch, it returns
// false when the request has to wait.
type sessionFunc func(s *session, cmd *router.Command, raw []byte, args [][]byte) bool

// localFuncs and sessionFuncs hold the handlers of the commands that travel router.Local, by name. A Local command that
// stands in neither goes to a node.
var (
	localFuncs   = map[string]localFunc{}
	sessionFuncs = map[string]sessionFunc{}
)

func init() {
	localFuncs["ping"] = ping
	localFuncs["echo"] = func(_ *session, args [][]byte, out []byte) []byte { return codec.AppendBulk(out, args[1]) }
	localFuncs["time"] = func(s *session, _ [][]byte, out []byte) []byte {
		out = codec.AppendArray(out, 2)
		out = codec.AppendBulkString(out, strconv.FormatInt(s.loop.clock/1e9, 10))
		return codec.AppendBulkString(out, strconv.FormatInt(s.loop.clock%1e9/1e3, 10))
	}
	for _, name := range []string{"readonly", "readwrite", "asking"} {
		localFuncs[name] = clusterMode
	}
	sessionFuncs["quit"] = quit
	sessionFuncs["reset"] = reset
	sessionFuncs["auth"] = auth
	sessionFuncs["hello"] = hello
	sessionFuncs["select"] = selectDB
}

// local answers a command itself.
func (s *session) local(cmd *router.Command, raw []byte, args [][]byte) bool {
	if f := sessionFuncs[cmd.Name]; f != nil {
		return f(s, cmd, raw, args)
	}
	if localFuncs[cmd.Name] == nil {
		return s.share(cmd, raw, args)
	}
	return s.answerLocal(cmd, args)
}

// answerLocal answers with berth's own reply.
func (s *session) answerLocal(cmd *router.Command, args [][]byte) bool {
	l := s.loop
	l.scratch = s.runLocal(cmd, args, l.scratch[:0])
	s.answer(cmd, l.scratch)
	return true
}

// runLocal appends berth's own reply to a command.
func (s *session) runLocal(cmd *router.Command, args [][]byte, out []byte) []byte {
	return localFuncs[cmd.Name](s, args, out)
}

// localInTransaction tells whether a local command may stand between MULTI and EXEC.
func localInTransaction(cmd *router.Command) bool { return localFuncs[cmd.Name] != nil }

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

// clusterMode answers READONLY, READWRITE and ASKING: berth itself goes to the right node.
func clusterMode(s *session, _ [][]byte, out []byte) []byte {
	if !s.loop.srv.sharded() {
		return codec.AppendError(out, errNoCluster)
	}
	return codec.AppendSimple(out, "OK")
}

func quit(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	s.say(cmd, "OK")
	s.end("quit")
	return true
}

// reset makes the client one that has just connected.
func reset(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseBarrier)
	}
	s.txn = nil
	s.unlisten("reset")
	s.unwatch()
	s.muteAll, s.muteThis = false, false
	if s.label != nil {
		s.label.name = ""
	}
	s.become(s.loop.srv.newcomer())
	s.authenticated = !s.loop.srv.nodes.Info().AuthRequired
	return s.say(cmd, "RESET")
}

// become changes as whom, in which database and in which protocol the client's commands travel. The caller has seen
// to it that nothing is on its way.
func (s *session) become(id backend.Identity) {
	old := s.pipes.Identity()
	if old == id {
		return
	}
	s.pipes.Detach()
	s.pipes = s.loop.pipes.Attach(id)
	if old.User != id.User || old.Password != id.Password {
		s.dropKept("another user")
	}
	if st := s.stay; st != nil && st.watching {
		st.rebind(id)
	}
}

// rebind takes a lease along when its client changes protocol or database. Another user's connection cannot be
// taken along: what it watches is lost, and EXEC answers nil.
func (st *stay) rebind(id backend.Identity) {
	old := st.identity
	st.identity = id
	switch {
	case st.lease == nil:
	case old.User != id.User || old.Password != id.Password:
		st.lease.Close("another user")
		st.lease, st.broken = nil, true
	default:
		if old.RESP != id.RESP {
			st.send(nil, codec.AppendCommandString(nil, "HELLO", strconv.Itoa(id.RESP)), 1)
			st.lease.SetRESP(id.RESP)
		}
		if old.DB != id.DB {
			st.send(nil, codec.AppendCommandString(nil, "SELECT", strconv.Itoa(id.DB)), 1)
			st.lease.SetDB(id.DB)
		}
	}
}

// auth has a node check a user and password.
func auth(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	if len(args) > 3 {
		return s.refuse(cmd, "ERR syntax error")
	}
	user, password := "", string(args[len(args)-1])
	if len(args) == 3 {
		user = string(args[1])
	}
	return s.authenticate(cmd, user, password, func(reply []byte) []byte { return reply })
}

// authenticate sends AUTH to a node. When it agrees the client is that user from now on; then answer makes the
// client's reply of the node's +OK. An error goes to the client as it is.
func (s *session) authenticate(cmd *router.Command, user, password string, answer func(reply []byte) []byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseBarrier)
	}
	t := s.loop.srv.nodes.Topology()
	shard, text := shardOf(t, noSlot, s.id)
	if text != "" {
		return s.refuse(cmd, text)
	}
	check := codec.AppendCommandString(nil, "AUTH", password)
	if user != "" {
		check = codec.AppendCommandString(nil, "AUTH", user, password)
	}
	r := s.newRequest(cmd)
	r.settle = func(r *request, reply []byte) {
		if reply[0] == '+' {
			id := s.pipes.Identity()
			id.User, id.Password = user, password
			s.become(id)
			s.authenticated = true
			reply = answer(reply)
		}
		r.done(reply)
	}
	s.pause = pauseHandshake
	if err := s.loop.pipes.Verifier().Shard(t, shard).Send(check, 1, r); err != nil {
		r.lost(err)
	}
	return true
}

// hello negotiates the protocol, and may authenticate and name the client at once.
func hello(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	resp := s.resp()
	if len(args) > 1 {
		v, err := strconv.ParseInt(string(args[1]), 10, 64)
		if err != nil {
			return s.refuse(cmd, "ERR Protocol version is not an integer or out of range")
		}
		if v != 2 && v != 3 {
			return s.refuse(cmd, "NOPROTO unsupported protocol version")
		}
		resp = int(v)
	}
	var user, password, name []byte
	var withAuth, withName bool
	for i := 2; i < len(args); i++ {
		more := len(args) - 1 - i
		switch word := strings.ToUpper(string(args[i])); {
		case word == "AUTH" && more >= 2:
			user, password, withAuth = args[i+1], args[i+2], true
			i += 2
		case word == "SETNAME" && more >= 1:
			name, withName = args[i+1], true
			if !validName(name) {
				return s.refuse(cmd, errClientName)
			}
			i++
		default:
			return s.refuse(cmd, "ERR Syntax error in HELLO option '"+string(args[i])+"'")
		}
	}
	if !s.authenticated && !withAuth {
		return s.refuse(cmd, "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "+
			"AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
	}
	if s.waiting > 0 {
		return s.hold(pauseBarrier)
	}
	name = bytes.Clone(name)
	finish := func() []byte {
		id := s.pipes.Identity()
		id.RESP = resp
		s.become(id)
		if withName {
			s.named().name = string(name)
		}
		return s.appendHello(nil)
	}
	if withAuth {
		return s.authenticate(cmd, string(user), string(password), func([]byte) []byte { return finish() })
	}
	s.answer(cmd, finish())
	return true
}

// errClientName is what Redis says to a client name with spaces or control characters.
const errClientName = "ERR Client names cannot contain spaces, newlines or special characters."

func validName(name []byte) bool {
	for _, c := range name {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

// named is the session's label, made when first needed.
func (s *session) named() *label {
	if s.label == nil {
		s.label = &label{}
	}
	return s.label
}

// appendHello writes the seven pairs of HELLO's reply.
func (s *session) appendHello(out []byte) []byte {
	resp := s.resp()
	out = codec.AppendMap(out, 7, resp)
	out = codec.AppendBulkString(out, "server")
	out = codec.AppendBulkString(out, "redis")
	out = codec.AppendBulkString(out, "version")
	out = codec.AppendBulkString(out, s.loop.srv.redisVersion())
	out = codec.AppendBulkString(out, "proto")
	out = codec.AppendInt(out, int64(resp))
	out = codec.AppendBulkString(out, "id")
	out = codec.AppendInt(out, s.id)
	out = codec.AppendBulkString(out, "mode")
	out = codec.AppendBulkString(out, s.loop.srv.mode())
	out = codec.AppendBulkString(out, "role")
	out = codec.AppendBulkString(out, "master")
	out = codec.AppendBulkString(out, "modules")
	return codec.AppendArray(out, 0)
}

// selectDB changes the database. Whether there is one of that number only a node knows: the pipe to it is made first.
func selectDB(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	n, err := strconv.ParseInt(string(args[1]), 10, 32)
	if err != nil {
		return s.refuse(cmd, "ERR value is not an integer or out of range")
	}
	t := s.loop.srv.nodes.Topology()
	id := s.pipes.Identity()
	switch {
	case int(n) == id.DB:
		return s.say(cmd, "OK")
	case n < 0:
		return s.refuse(cmd, "ERR DB index is out of range")
	case t.Sharded():
		return s.refuse(cmd, "ERR SELECT is not allowed in cluster mode")
	case s.waiting > 0:
		return s.hold(pauseBarrier)
	}
	id.DB = int(n)
	set := s.loop.pipes.Attach(id)
	r := s.newRequest(cmd)
	r.settle = func(r *request, _ []byte) {
		s.become(id)
		r.done(okReply)
	}
	s.pause = pauseHandshake
	if err := set.Shard(t, 0).Send(pingCommand, 1, r); err != nil {
		r.lost(err)
	}
	set.Detach()
	return true
}

var okReply = codec.AppendSimple(nil, "OK")
