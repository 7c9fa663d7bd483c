package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// typicalRules are rules of users as people write them. needs is the first Redis that takes the
// rule; "": any.
var typicalRules = []struct{ name, needs, rule string }{
	{"all", "", "on >pw ~* &* +@all"},
	{"getter", "", "on >pw ~* &* -@all +get"},
	{"careful", "", "on >pw ~* &* +@all -@dangerous"},
	{"developer", "", "on >pw ~* &* +@all -@admin"},
	{"reader", "", "on >pw ~* &* -@all +@read"},
	{"picker", "", "on >pw ~* &* -@all +@read +@transaction +config|get +client|list +client|getname"},
	{"unset", "7.0", "on >pw ~* &* +@all -config|set"},
	{"mute", "", "on >pw ~* &* +@all -client"},
	{"app", "", "on >pw ~app:* resetchannels +@all"},
	{"halves", "7.0", "on >pw %R~app:* %W~out:* &* +@all"},
	{"listener", "", "on >pw ~* resetchannels &news:* -@all +@pubsub +@connection"},
	{"open", "", "on nopass ~app:* &* -@all +@connection +@transaction +@write"},
	{"chooser", "7.0", "on >pw ~app:* &* -@all +get +multi +exec (+set ~other) (+@connection)"},
	{"leaver", "", "on >pw ~* &* +@all -ping -select"},
	{"off", "", "off >pw ~* &* +@all"}, // who stays the default user
}

// setTypicalUsers makes all users that the server can have, and returns their names.
func setTypicalUsers(t *testing.T, b *berthServer, at ...*redistest.Server) (names []string) {
	t.Helper()
	for _, u := range typicalRules {
		if u.needs != "" && b.srv.isBefore(7, 0) {
			continue
		}
		words := ruleWords(u.rule)
		if b.srv.isBefore(6, 2) { // which has no rights to channels
			words = slices.DeleteFunc(words, func(word string) bool { return word[0] == '&' || word == "resetchannels" })
		}
		names = append(names, u.name)
		for _, n := range at {
			if got := n.Do(t, "ACL", "SETUSER", u.name, words); got != "OK" {
				t.Fatalf("%s: %v", u.name, got)
			}
		}
	}
	return names
}

// rightsLines are the words after the names of commands that would stop, block or turn a server
// with plain ones.
var rightsLines = map[string]string{
	"blpop": "KEY x", "brpop": "KEY x", "bzpopmin": "KEY x", "bzpopmax": "KEY x", "blmove": "KEY KEY left right x",
	"brpoplpush": "KEY KEY x", "blmpop": "x 1 KEY left", "bzmpop": "x 1 KEY min", "wait": "0 x",
	"flushall": "x", "flushdb": "x", "shutdown": "x", "bgsave": "x", "replicaof": "x y", "slaveof": "x y", "failover": "x", "migrate": "x y KEY x 1 1",
	"client|kill": "x", "client|pause": "x", "client|unblock": "0", "client|reply": "x", "client|tracking": "x", "client|list": "type x",
	"config|set": "x y", "config|get": "x", "cluster|reset": "x", "module|load": "/x", "acl|setuser": "x x",
	"acl|dryrun": "default get x", "acl|deluser": "x", "lolwut": "version x", "swapdb": "x y", "info": "x", "hello": "9", "auth": "x y", "select": "0",
	"xread": "count 1 streams KEY 0", "xreadgroup": "group g c streams KEY 0", "publish": "news:1 x", "subscribe": "news:1",
	"psubscribe": "news:*", "ssubscribe": "news:1", "spublish": "news:1 x", "eval": "return(1) 1 KEY", "eval_ro": "return(1) 1 KEY",
	"evalsha": "x 1 KEY", "evalsha_ro": "x 1 KEY", "fcall": "x 1 KEY", "fcall_ro": "x 1 KEY", "zdiff": "1 KEY", "zinter": "1 KEY", "zunion": "1 KEY", "sintercard": "1 KEY",
	"zintercard": "1 KEY", "lmpop": "1 KEY left", "zmpop": "1 KEY min", "sort": "KEY",
	"expire": "KEY x", "pexpire": "KEY x", "expireat": "KEY x", "pexpireat": "KEY x", "setex": "KEY x 1", "psetex": "KEY x 1", "memory|usage": "KEY", "scan": "0",
}

// differsInWords lists commands to which berth says something else than one node of Redis: what
// changes from moment to moment (how many listen, before those who left have gone), speaks of the
// server or of the connection, or is refused by every proxy.
var differsInWords = strings.Fields("client|id client|info client|list time info lastsave acl|genpass acl|log memory|stats memory|malloc-stats memory|doctor " +
	"publish spublish slowlog|get slowlog|len latency|doctor latency|histogram hello cluster|help config|help command|help command|docs command " +
	"command|list command|count command|info monitor object|idletime randomkey scan keys save role acl|list " +
	"shutdown replicaof slaveof failover migrate module|load module|loadex module|unload psync sync replconf restore-asking debug script|debug")

// turnsConnection lists commands after which a connection means something else.
var turnsConnection = strings.Fields("watch subscribe psubscribe ssubscribe monitor reset quit auth hello multi exec client|reply psync sync replconf asking")

// rightsLine returns a request for a command: a whole one, that does little.
func rightsLine(cmd *router.Command, key string) []string {
	words := strings.Split(cmd.Name, "|")
	if line, ok := rightsLines[cmd.Name]; ok {
		return append(words, strings.Fields(strings.ReplaceAll(line, "KEY", key))...)
	}
	args := make([][]byte, max(cmd.Arity, -cmd.Arity))
	for i := range args {
		args[i] = []byte("1")
	}
	keys, _ := cmd.Keys(args, nil)
	for i := len(words); i < len(args); i++ {
		if slices.Contains(keys, i) {
			words = append(words, key)
		} else {
			words = append(words, "1")
		}
	}
	return words
}

// rightsPair is one user at Redis and at berth.
type rightsPair struct {
	t             *testing.T
	b             *berthServer
	user          string
	at            [2]string
	direct, berth *redistest.Conn
	compared      int
	clustered     bool // berth is over a Cluster: refusals alone are compared, other words differ
}

func (p *rightsPair) redial() {
	var said [2]string
	for i, c := range []**redistest.Conn{&p.direct, &p.berth} {
		if *c != nil {
			(*c).Close()
		}
		*c = redistest.Dial(p.t, p.at[i])
		said[i] = (*c).DoRaw("AUTH", p.user, "pw")
	}
	if said[0] != said[1] || strings.HasPrefix(said[0], "+OK") == (p.user == "off") {
		p.t.Fatalf("AUTH of %s: berth %q, Redis %q", p.user, said[1], said[0])
	}
}

// compare says a line to both and returns what Redis answers.
func (p *rightsPair) compare(cmd *router.Command, words []string, where string) string {
	p.t.Helper()
	want, got := p.direct.DoRaw(anys(words)...), p.berth.DoRaw(anys(words)...)
	p.compared++
	denied := isDenied(want)
	if denied && p.refusesLater(cmd, where) && (got == "+QUEUED\r\n" || got[0] == '-') {
		return want
	}
	if p.clustered {
		if denied != isDenied(got) || denied && want != got {
			p.t.Errorf("%s%s, %.80q:\nberth %.200q\nRedis %.200q", p.user, where, words, got, want)
		}
		return want
	}
	if !denied && differsOnServer(p.b, cmd, where) {
		return want
	}
	if want != got && (denied || strings.HasPrefix(got, "-NOPERM") || strings.HasPrefix(got, "-TRYAGAIN") || !slices.Contains(differsInWords, cmd.Name)) {
		p.t.Errorf("%s%s, %.80q:\nberth %.200q\nRedis %.200q", p.user, where, words, got, want)
	}
	return want
}

func isDenied(reply string) bool {
	return strings.HasPrefix(reply, "-NOPERM") || strings.HasPrefix(reply, "-EXECABORT Transaction discarded because of: NOPERM")
}

// refusesLater reports whether berth does not know that the user may not run the command. Before
// Redis 7.0 no node can be asked about a command that only a node runs: EXEC brings the refusal.
// Nor does berth ask about what it refuses to everybody. HELLO needs a right before 6.2, and berth
// lets everybody say it.
func (p *rightsPair) refusesLater(cmd *router.Command, where string) bool {
	own := p.b.srv.own.of(cmd)
	local := (own.answer != nil || own.run != nil) && (own.atNode == nil || cmd.Name == "ping" && p.b.srv.sharded()) && !cmd.Is(router.Watch)
	if cmd.Name == "hello" {
		return p.b.srv.isBefore(6, 2)
	}
	refused := cmd.Way == router.Refused || cmd.Name == "replconf" && p.clustered
	return p.b.srv.isBefore(7, 0) && !local && (where == withinMulti || refused)
}

// differsOnServer reports whether berth answers the command in words of its own over this server,
// whoever asks.
func differsOnServer(b *berthServer, cmd *router.Command, where string) bool {
	info := b.srv.nodes.Info()
	valkey := info.Product == "valkey"
	switch cmd.Name {
	case "auth": // berth queues none
		return where == withinMulti
	case "wait": // berth cannot run it in a transaction there
		return where == withinMulti && !b.srv.offsetMoves()
	case "readonly", "readwrite": // Valkey says OK without a Cluster
		return valkey || cmd.Name == "readwrite" && b.srv.isBefore(6, 2)
	}
	return b.srv.isBefore(7, 0) && cmd.Container() != nil && cmd.Container().Name == "client" // a later subcommand
}

const withinMulti = " in MULTI"

// compareAll compares all commands of the table, outside MULTI and inside, for all users.
//
// Each check compares a quarter of the commands for each user, so that each command is met by some;
// scripts/acceptance compares all.
func compareAll(t *testing.T, b *berthServer, direct *redistest.Server, users []string, clustered bool) {
	known := map[string]bool{}
	for _, row := range direct.Do(t, "COMMAND").([]any) {
		known[fmt.Sprint(row.([]any)[0])] = true
	}
	for u, user := range users {
		t.Run(user, func(t *testing.T) {
			p := &rightsPair{t: t, b: b, user: user, at: [2]string{direct.Addr(), b.Addr()}, clustered: clustered}
			p.redial()
			defer func() { p.direct.Close(); p.berth.Close() }()
			for i, cmd := range router.Builtin().Commands() {
				if (i+u)%sized(4, 1) != 0 || clustered && cmd.Way == router.Refused { // it would change the Cluster
					continue
				}
				if cmd.Name == "sync" || cmd.Name == "psync" { // Redis would answer with all its data
					if b.srv.isBefore(7, 0) || direct.Do(t, dryRunOf(user, cmd)) == "OK" {
						continue
					}
				}
				name, _, _ := strings.Cut(cmd.Name, "|")
				if cmd.Since != "" || len(cmd.Subcommands()) > 0 && cmd.Name != "command" || !known[name] {
					continue
				}
				p.outside(cmd)
				p.inside(cmd)
			}
			t.Logf("%d replies compared", p.compared)
		})
	}
}

// Every command of the table, outside MULTI and inside, is answered by berth as by Redis, to users
// of all kinds. No question of berth's closes a connection of the node.
func TestRightsAreThoseOfRedisForEveryCommand(t *testing.T) {
	parallel(t)
	node, alone := redistest.Start(t), redistest.Start(t)
	b := startBerth(t, node.Addr())
	users := setTypicalUsers(t, b, node, alone)
	witness := watchConnections(t, node)
	compareAll(t, b, alone, users, false)
	witness()
}

// Over a Cluster the same users are refused the same.
func TestRightsOverAClusterAreThoseOfRedis(t *testing.T) {
	parallel(t)
	cluster, alone := redistest.StartCluster(t, 2, 0), redistest.StartCluster(t, 1, 0).Node(0)
	b := startBerth(t, clusterURL(cluster))
	compareAll(t, b, alone, setTypicalUsers(t, b, cluster.Node(0), cluster.Node(1), alone), true)
}

// watchConnections connects a client and a replica to the node. The function it returns fails the
// test if one of them has lost its connection.
func watchConnections(t *testing.T, node *redistest.Server) (check func()) {
	t.Helper()
	replica := redistest.Start(t)
	replica.Do(t, "REPLICAOF", "127.0.0.1", node.Port())
	client := dial(t, node.Addr())
	ids := func() string {
		all := fmt.Sprint(client.Do("CLIENT", "ID"), " ")
		for line := range strings.Lines(fmt.Sprint(client.Do("CLIENT", "LIST", "TYPE", "replica"))) {
			all += strings.Fields(line)[0]
		}
		return all
	}
	eventually(t, "the replica to be connected", func() bool {
		return strings.Contains(fmt.Sprint(replica.Do(t, "INFO", "replication")), "master_link_status:up")
	})
	before := ids()
	return func() {
		t.Helper()
		if after := ids(); after != before || !strings.Contains(before, "id=") {
			t.Errorf("connections of the node: %q, before %q", after, before)
		}
	}
}

// ruleWords cuts a rule at its blanks; a selector is one word.
func ruleWords(rule string) (words []string) {
	rule, selectors, _ := strings.Cut(rule, " (")
	words = strings.Fields(rule)
	for selector := range strings.SplitSeq(selectors, "(") {
		if selector = strings.TrimRight(selector, ") "); selector != "" {
			words = append(words, "("+selector+")")
		}
	}
	return words
}

// outside compares the command's reply, for keys of two kinds.
func (p *rightsPair) outside(cmd *router.Command) {
	for _, key := range []string{"app:1", "other"} {
		words := rightsLine(cmd, key)
		reply := p.compare(cmd, words, "")
		if slices.Contains(turnsConnection, cmd.Name) && !strings.HasPrefix(reply, "-NOPERM") {
			p.redial()
		}
		if !slices.Contains(words, key) {
			return
		}
	}
}

// inside compares the command's reply between MULTI and EXEC.
func (p *rightsPair) inside(cmd *router.Command) {
	multi := router.Builtin().Find("multi")
	for _, key := range []string{"app:1", "other"} {
		words := rightsLine(cmd, key)
		if p.compare(multi, []string{"MULTI"}, "") != "+OK\r\n" {
			return
		}
		switch reply := p.compare(cmd, words, withinMulti); {
		case slices.Contains(turnsConnection, cmd.Name) && reply[0] == '+' && reply != "+QUEUED\r\n":
		case reply == "+QUEUED\r\n":
			p.compare(multi, []string{"DISCARD"}, fmt.Sprint(" after ", cmd.Name))
		case p.refusesLater(cmd, withinMulti):
			p.nothingRuns(cmd)
		case differsOnServer(p.b, cmd, withinMulti):
		default:
			p.compare(multi, []string{"EXEC"}, fmt.Sprint(" after ", cmd.Name))
		}
		p.redial()
		if !slices.Contains(words, key) {
			return
		}
	}
}

// nothingRuns ends a transaction with one command that Redis has refused.
func (p *rightsPair) nothingRuns(cmd *router.Command) {
	want, got := p.direct.DoRaw("EXEC"), p.berth.DoRaw("EXEC")
	p.compared++
	if !strings.HasPrefix(got, "-EXECABORT") && !strings.HasPrefix(got, "*1\r\n-") && got != "*0\r\n" {
		p.t.Errorf("%s, EXEC after %s:\nberth %.200q\nRedis %.200q", p.user, cmd.Name, got, want)
	}
}

func dryRunOf(user string, cmd *router.Command) []any {
	return anys(append([]string{"ACL", "DRYRUN", user}, rightsLine(cmd, "app:1")...))
}

// adminLines are what a user without @admin would like to do while no node looks.
var adminLines = []string{"CLIENT LIST", "CLIENT KILL TYPE normal SKIPME no", "CLIENT PAUSE 60000", "CLIENT UNBLOCK 1", "CONFIG SET timeout 9", "CONFIG GET *",
	"CONFIG RESETSTAT", "CONFIG REWRITE", "PROXY CLIENTS", "PROXY STATS", "INFO"}

func setUsers(t *testing.T, node *redistest.Server, users ...string) {
	t.Helper()
	for _, user := range users {
		if got := node.Do(t, "ACL", "SETUSER", strings.Fields(user)); got != "OK" {
			t.Fatalf("%s: %v", user, got)
		}
	}
}

// loggedIn is a client that has logged in as a user whose password is pw.
func loggedIn(t *testing.T, addr, user string) *redistest.Conn {
	t.Helper()
	c := dial(t, addr)
	if got := c.Do("AUTH", user, "pw"); got != "OK" {
		t.Fatalf("AUTH %s: %v", user, got)
	}
	return c
}

// While the node hangs, or is gone, a user of whom berth does not know it may do nothing that berth
// does itself. Who was allowed before still may.
func TestNobodyGetsRightsFromASilentNode(t *testing.T) {
	parallel(t)
	for _, end := range []string{"hangs", "is gone"} {
		t.Run(end, func(t *testing.T) {
			node := redistest.Start(t)
			setUsers(t, node, "mallory on >pw ~* &* +@all -@admin -@dangerous", "operator on >pw ~* &* +@all -flushall", "root on >pw ~* &* +@all")
			b := startBerth(t, node.Addr())
			bystander := dial(t, b.Addr())
			bystander.Do("ECHO", "x")
			var attackers []*redistest.Conn
			for range adminLines {
				attackers = append(attackers, loggedIn(t, b.Addr(), "mallory"))
			}
			operator, root := loggedIn(t, b.Addr(), "operator"), loggedIn(t, b.Addr(), "root")
			operator.Do("CLIENT", "LIST")
			root.Do("ECHO", "x")
			if end == "hangs" {
				node.Pause()
				defer node.Resume()
			} else {
				node.Kill()
			}
			for i, line := range adminLines {
				attackers[i].Send(anys(strings.Fields(line))...)
			}
			for i, line := range adminLines {
				if got := attackers[i].RecvRaw(); !strings.HasPrefix(got, "-TRYAGAIN berth: it cannot be asked whether the user may run '") {
					t.Errorf("%s: %.200q", line, got)
				}
			}
			if got := bystander.DoRaw("ECHO", "x"); got != "$1\r\nx\r\n" {
				t.Errorf("the default user, which may do everything: %q", got)
			}
			if got := operator.DoRaw("CLIENT", "LIST"); !strings.Contains(got, "user=mallory") {
				t.Errorf("an administrator, allowed before: %.200q", got)
			}
			for _, line := range []string{"CLIENT KILL ID 999999", "CONFIG SET timeout 0", "PROXY STATS", "CLIENT LIST"} {
				if got := root.DoRaw(anys(strings.Fields(line))...); strings.HasPrefix(got, "-") {
					t.Errorf("%s of a user who may do everything: %.200q", line, got)
				}
			}
			if b.srv.config().Timeout != 0 {
				t.Error("a setting was changed")
			}
		})
	}
}

// What an administrator changes through berth holds for the next request; on the node, within a
// second of use.
func TestChangedRightsHoldSoon(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	setUsers(t, node, "u on >pw ~* &* +@all", "v on >pw ~* &* +@all -flushall")
	b := startBerth(t, node.Addr())
	admin, u, v := dial(t, b.Addr()), loggedIn(t, b.Addr(), "u"), loggedIn(t, b.Addr(), "v")
	script(t, u, "PING → PONG")
	script(t, v, "PING → PONG")
	script(t, admin, "ACL SETUSER u -ping → OK")
	script(t, u, "PING → "+b.noCommand("u", "ping"))
	script(t, admin, "ACL SETUSER u +ping → OK")
	script(t, u, "PING → PONG", "MULTI → OK", "ACL SETUSER u -ping → QUEUED", "EXEC → [OK]", "PING → "+b.noCommand("u", "ping"))
	if got := pipelined(v, "PING", "ACL SETUSER v -ping", "PING", "ECHO x"); fmt.Sprint(got) != "[PONG OK "+b.noCommand("v", "ping")+" x]" {
		t.Errorf("in a pipeline: %v", got)
	}
	node.Do(t, "ACL", "SETUSER", "v", "+ping", "-echo")
	eventually(t, "the node's rule to hold", func() bool {
		return v.Do("PING") == "PONG" && refusedFor(v.Do("ECHO", "x"), "NOPERM")
	})
}

// A client that would wait, or listen, with others of its user is judged by what the node says now,
// not by what it said to the others.
func TestARightTakenAwayHoldsForAClientThatWouldJoinOthers(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr(), "--loops", "1")
	admin := dial(t, b.Addr())
	blocked := func(n int) func() bool {
		return func() bool {
			return strings.Contains(fmt.Sprint(node.Do(t, "INFO", "clients")), fmt.Sprintf("blocked_clients:%d\r\n", n))
		}
	}
	for i, one := range []struct{ rule, taken, line string }{
		{"+@all -flushall ~* &*", "-blpop", "BLPOP l 0"},
		{"+@all -flushall ~* &*", "resetkeys", "BLPOP l 0"},
		{"+@all ~* &*", "-xread", "XREAD BLOCK 0 STREAMS s 0"},
		{"+@all -flushall ~* &*", "-subscribe", "SUBSCRIBE c"},
		{"+@all ~* &*", "-ssubscribe", "SSUBSCRIBE c"},
	} {
		user := fmt.Sprint("u", i)
		setUsers(t, node, user+" on >pw "+one.rule)
		first, next := loggedIn(t, b.Addr(), user), loggedIn(t, b.Addr(), user)
		line := anys(strings.Fields(one.line))
		first.Send(line...)
		if strings.Contains(one.line, "SUBSCRIBE") {
			first.Recv()
		} else {
			eventually(t, "one to block", blocked(1))
		}
		script(t, admin, "ACL SETUSER "+user+" "+one.taken+" → OK")
		if got := next.Do(line...); !refusedFor(got, "NOPERM") {
			t.Errorf("%s after %s: %v", one.line, one.taken, got)
		}
		first.Close()
		eventually(t, "none to block", blocked(0))
	}
}

// A rule that is longer than berth keeps is no rule that allows. Other users are judged as before.
func TestARuleThatIsTooLongAllowsNothing(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	pattern := strings.Repeat("x", maxRule)
	setUsers(t, node, "u on >pw ~* &* +@all", "v on >pw &* +@all ~"+pattern, "w on >pw &* +@all -ping")
	for range 8 { // of more than a reply that is gathered
		pattern += "x"
		setUsers(t, node, "w ~"+pattern)
	}
	b := startBerth(t, node.Addr())
	script(t, loggedIn(t, b.Addr(), "u"), "PING → PONG")
	script(t, loggedIn(t, b.Addr(), "v"), "PING → PONG", "ECHO x → "+errLongRule, "MULTI → "+errLongRule)
	w := loggedIn(t, b.Addr(), "w")
	script(t, w, "ECHO x → "+errLongRule)
	if got := w.Do("PING"); !refusedFor(got, "NOPERM") {
		t.Error(got)
	}
	script(t, dial(t, b.Addr()), "ACL SETUSER v resetkeys → OK", "ACL SETUSER w resetkeys → OK")
	script(t, loggedIn(t, b.Addr(), "v"), "PING → PONG")
	script(t, w, "ECHO x → x")
}

// What a node cannot be asked about in few words it is asked about in all of them.
func TestLongRequestsOfAUserWithFewRightsAreServed(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	setUsers(t, node, "app on >pw ~app:* &* +@all -flushall", "news on >pw resetchannels &news:* +@all")
	b := startBerth(t, node.Addr())
	c, direct := loggedIn(t, b.Addr(), "app"), loggedIn(t, node.Addr(), "app")
	for _, n := range []int{2000, 10} {
		request := []any{"BLPOP"}
		for i := range n {
			request = append(request, fmt.Sprint("app:", strings.Repeat("k", 100), i))
		}
		if got := c.Do(append(request, "0.01")...); got != nil {
			t.Errorf("BLPOP of %d keys: %v", n, got)
		}
		request = append(request, "other", "0.01")
		if got, want := c.DoRaw(request...), direct.DoRaw(request...); got != want {
			t.Errorf("BLPOP of %d keys, one of them another's: %q, Redis says %q", n, got, want)
		}
	}
	s := loggedIn(t, b.Addr(), "news")
	long := "news:" + strings.Repeat("n", 20<<10)
	if got := fmt.Sprint(s.Do("SUBSCRIBE", long)); got != "[subscribe "+long+" 1]" {
		t.Errorf("SUBSCRIBE: %.80s", got)
	}
	if got := loggedIn(t, b.Addr(), "news").DoRaw("SUBSCRIBE", long, "secret"); !strings.HasPrefix(got, "-NOPERM") {
		t.Errorf("SUBSCRIBE to another's channel as well: %.80q", got)
	}
}

// A rule may allow a command with one first argument.
func TestARuleMayNameTheFirstArgument(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "bob", "on", ">secret", "+info|server", "+ping")
	b := startBerth(t, node.Addr())
	ours, theirs := dial(t, b.Addr()), dial(t, node.Addr())
	for _, line := range []string{"AUTH bob secret", "INFO server", "INFO", "INFO clients", "INFO server clients", "INFO SERVER", "PING", "PING x"} {
		got, want := ours.DoRaw(words(line)...), theirs.DoRaw(words(line)...)
		if got != want && (got[0] != '$' || want[0] != '$') {
			t.Errorf("%s: %.90q, want %.90q", line, got, want)
		}
	}
}

func TestRightsOfAUserWithoutClientsAreForgotten(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	b.srv.rights.of("gone").free.Store(true)
	b.srv.pipeSettings.Logins.OnFree("gone", 0)
	if b.srv.rights.of("gone").free.Load() {
		t.Error("they are remembered")
	}
}

// A queued command that berth runs itself is judged when it is queued, and when it runs.
func TestQueuedCommandIsJudgedAgainWhenItRuns(t *testing.T) {
	parallel(t)
	node, alone := redistest.Start(t), redistest.Start(t)
	b := startBerth(t, node.Addr())
	users := []string{"u on >pw ~* &* +@all -flushall", "weak on >pw ~* &* -@all +get +auth +multi +exec"}
	setUsers(t, node, users...)
	setUsers(t, alone, users...)
	answers := func(addr string) (all []string) {
		c, admin := loggedIn(t, addr, "u"), dial(t, addr)
		for _, line := range []string{"MULTI", "CLIENT KILL ID 999999", "GET k", "ECHO x"} {
			all = append(all, c.DoRaw(anys(strings.Fields(line))...))
		}
		admin.Do("ACL", "SETUSER", "u", "-client|kill", "-echo")
		all = append(all, c.DoRaw("EXEC"))
		admin.Do("ACL", "SETUSER", "u", "+client|kill", "+echo")
		for _, line := range []string{"AUTH weak pw", "MULTI", "CLIENT KILL ID 999999", "PING", "GET k", "EXEC", "PING", "GET k"} {
			all = append(all, c.DoRaw(anys(strings.Fields(line))...))
		}
		return all
	}
	got, want := answers(b.Addr()), answers(alone.Addr())
	if strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

// A backend user that may not ask: the client's own user asks in harmless words, and what there are
// no words for is refused.
func TestRightsWithoutARightToAsk(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	setUsers(t, node, "control on >pw ~* &* +@all -acl", "mallory on >pw ~* &* +@all -@admin -echo", "operator on >pw ~* &* +@all -flushall")
	b := startBerth(t, "redis://control:pw@"+node.Addr())
	witness := dial(t, node.Addr())
	id := witness.Do("CLIENT", "ID")
	asRedis(t, b, node, "auth mallory pw", "ping", "echo x", "client kill id 999999", "config set timeout 9", "client pause 1", "client reply x", "multi", "exec", "exec",
		"select 0", "client setname me", "client getname", "command count", "wait 0 0", "discard", "cluster slots", "readonly", "client unblock 99999")
	c := loggedIn(t, b.Addr(), "operator")
	script(t, c, "CLIENT KILL ID 999999 → 0", "PING → PONG", "CLIENT UNPAUSE → ERR berth: it cannot be asked whether the user may run 'client|unpause': "+
		"the user of the backend's URL may not run ACL DRYRUN")
	m := loggedIn(t, b.Addr(), "mallory")
	for _, line := range []string{"PROXY STATS", "CONFIG RESETSTAT", "CONFIG REWRITE", "CLIENT LIST", "INFO"} {
		if got := m.DoRaw(anys(strings.Fields(line))...); line != "INFO" && !strings.HasPrefix(got, "-") || line == "INFO" && strings.HasPrefix(got, "-") {
			t.Errorf("%s: %.100q", line, got)
		}
	}
	if got := witness.Do("CLIENT", "ID"); got != id {
		t.Errorf("a client of the node was closed: %v", got)
	}
}

// PROXY no node knows: who may run CONFIG GET and CLIENT LIST may run it.
func TestProxyIsForAdministrators(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	users := map[string]bool{"-@admin": false, "-@dangerous": false, "-client": false, "-config|get": false, "-config|set": true, "-flushall": true}
	b := startBerth(t, node.Addr())
	for rule, may := range users {
		name := "u" + rule
		setUsers(t, node, name+" on >pw ~* &* +@all "+rule)
		c := loggedIn(t, b.Addr(), name)
		for _, sub := range []string{"backends", "clients", "help", "pins", "pools", "reconnect", "slots", "stats"} {
			got := c.DoRaw("PROXY", sub)
			if want := "-" + b.noCommand(name, "proxy|"+sub) + "\r\n"; may == (got == want) || strings.HasPrefix(got, "-") == may {
				t.Errorf("%s, %s: %.200q", rule, sub, got)
			}
		}
	}
}

// A node that does not know CONFIG says nothing of who may run PROXY.
func TestProxyIsForNobodyIfTheNodeDoesNotKnowWhatStandsForIt(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--rename-command", "CONFIG", "")
	setUsers(t, node, "weak on >pw ~* &* +@all -client", "root on >pw ~* &* +@all", "operator on >pw ~* &* +@all -flushall")
	b := startBerth(t, node.Addr())
	for _, sub := range []string{"backends", "clients", "help", "pins", "pools", "reconnect", "slots", "stats"} {
		got := loggedIn(t, b.Addr(), "weak").DoRaw("PROXY", sub)
		if want := "-" + b.noCommand("weak", "proxy|"+sub) + "\r\n"; got != want {
			t.Errorf("%s: %.200q", sub, got)
		}
		got = loggedIn(t, b.Addr(), "operator").DoRaw("PROXY", sub)
		if want := "-ERR berth: it cannot be asked whether the user may run 'proxy|" + sub + "': the node does not know what it is asked about\r\n"; got != want {
			t.Errorf("%s: %.200q", sub, got)
		}
		if got := loggedIn(t, b.Addr(), "root").DoRaw("PROXY", sub); strings.HasPrefix(got, "-") {
			t.Errorf("%s of a user who may do everything: %.200q", sub, got)
		}
	}
}

func TestCommandThatBerthAddsSaysWhoMayRunItAndIsAnswered(t *testing.T) {
	table, err := router.WithOwn().With([]byte("*1\r\n*6\r\n$3\r\ntoy\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	answer := func(_ *session, _ [][]byte, out []byte) []byte { return out }
	for _, c := range []struct {
		row  ownCommand
		want string
	}{
		{ownCommand{name: "toy", answer: answer, like: "PING"}, "<nil>"},
		{ownCommand{name: "toy", answer: answer}, "own command toy: no node knows it, so its row needs like"},
		{ownCommand{name: "toy", like: "PING"}, "own command toy: nobody answers it: add a row to commands.go"},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			}()
			indexRows(table, append(ownCommands(), c.row))
		}()
	}
}

// berth asks with the password of its URL, though no client has given it. There are no words for
// CLIENT UNPAUSE.
func TestRightsAreAskedForWithBerthsOwnPassword(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--requirepass", "secret")
	setUsers(t, node, "control on >ctl -@all +ping +acl|getuser +acl|dryrun +info +command +cluster +config|get +role", "operator on >pw ~* &* +@all -flushall",
		"mallory on >pw ~* &* +@all -client|unpause")
	for _, login := range []string{":secret", "control:ctl"} {
		b := startBerth(t, "redis://"+login+"@"+node.Addr())
		script(t, loggedIn(t, b.Addr(), "operator"), "CLIENT UNPAUSE → OK")
		script(t, loggedIn(t, b.Addr(), "mallory"), "CLIENT UNPAUSE → "+b.noCommand("mallory", "client|unpause"))
		script(t, dial(t, b.Addr()), "PING → "+noAuth, "CLIENT UNPAUSE → "+noAuth, "GET k → "+noAuth)
	}
}

// A client that blocks where another one of its user waits already is judged as the first one was.
func TestSharedWaitIsJudgedForEachClient(t *testing.T) {
	parallel(t)
	for _, login := range []string{"", "control:pw@"} {
		node := redistest.Start(t)
		setUsers(t, node, "control on >pw ~* &* +@all -acl", "u on >pw ~* &* +@all -flushall")
		b := startBerth(t, "redis://"+login+node.Addr())
		admin, first := dial(t, b.Addr()), loggedIn(t, b.Addr(), "u")
		first.Send("BLPOP", "q", "0")
		eventually(t, "the first client to wait", func() bool {
			return strings.Contains(node.Do(t, "INFO", "clients").(string), "blocked_clients:1")
		})
		script(t, admin, "ACL SETUSER u -blpop → OK")
		script(t, loggedIn(t, b.Addr(), "u"), "BLPOP q 0 → "+b.noCommand("u", "blpop"))
		script(t, admin, "ACL SETUSER u +blpop resetkeys ~x* → OK")
		other := loggedIn(t, b.Addr(), "u")
		script(t, other, "BLPOP q 0 → "+b.noKey())
		other.Send("BLPOP", "x", "0")
		script(t, admin, "RPUSH q a → 1", "RPUSH x b → 1")
		popped := "[q a]"
		if !b.srv.isBefore(7, 2) { // which judges a client again when it is served
			popped = b.noKey()
		}
		if got := fmt.Sprint(first.Recv(), " ", other.Recv()); got != popped+" [x b]" {
			t.Errorf("%q: %s", login, got)
		}
	}
}

// A node keeps passwords out of its SLOWLOG; the questions that berth asks do not bring them there.
func TestQuestionsAboutRightsHoldNoPassword(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000")
	setUsers(t, node, "u on >pw ~* &* +@all -flushall")
	c := loggedIn(t, startBerth(t, node.Addr()).Addr(), "u")
	script(t, c, "CONFIG SET masterauth hush-1 → OK", "MULTI → OK", "CONFIG SET masterauth hush-2 → QUEUED", "ACL SETUSER other >hush-3 → QUEUED",
		"AUTH u hush-4 → "+errAuthQueued, "HELLO 2 AUTH u hush-5 → "+errAuthQueued, "DISCARD → OK")
	c.DoRaw("MULTI") // berth asks about what it queues
	c.DoRaw("MIGRATE", "h", "1", "", "0", "1", "AUTH", "hush-6", "KEYS", "k")
	c.DoRaw("MIGRATE", "h", "1", "k", "0", "1", "AUTH2", "u", "hush-7")
	if log := fmt.Sprint(node.Do(t, "SLOWLOG", "GET", "1000")); !strings.Contains(log, "DRYRUN u CONFIG SET") || strings.Contains(log, "hush") {
		t.Errorf("%s", log)
	}
}
