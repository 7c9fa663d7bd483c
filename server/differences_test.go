package main

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/glob"
)

// A difference is one between Redis' and berth's answers that is as it should be.
type difference struct {
	command string // rows it is about, "client|id config|get"; "" all
	reason  string
	accepts func(m met) bool
	parts   bool // from here on the two are in different states: the session is not looked at further
}

// met is two replies to one request that are not the same bytes.
type met struct {
	cmd           *router.Command // nil: unknown
	words         []string
	direct, berth []byte
	input         string // the bytes that were sent, in small letters
}

// clientView is what the comparison knows of a client: which requests it has queued, and to which
// one a reply belongs.
type clientView struct {
	queued   [][]string
	multi    bool
	muted    bool // CLIENT REPLY OFF
	muteNext int

	subscriptions map[string]map[string]bool // names by "subscribe", "psubscribe", "ssubscribe"
	confirming    []string                   // the request to which more confirmations are due
	due           int                        // how many
}

// diffVerdict is what compare found.
type diffVerdict struct {
	why, kind string // of an unexplained difference; "" none
	parted    bool
}

// compare looks at what both answered to the same requests.
func (d *differ) compare(v *clientView, requests [][]string, direct, berth diffAnswer) diffVerdict {
	for i, want := range direct.replies {
		words := v.answered(&requests, want)
		if i >= len(berth.replies) {
			return d.ends(words, direct, berth)
		}
		if got := d.compareReply(v, words, want, berth.replies[i]); got.why != "" || got.parted {
			return got
		}
	}
	v.skipMuted(&requests, nil)
	if len(berth.replies) > len(direct.replies) || direct.end != berth.end || len(direct.junk)+len(berth.junk) > 0 {
		var next []string
		if len(requests) > 0 {
			next = requests[0]
		}
		return d.ends(next, direct, berth)
	}
	return diffVerdict{}
}

// ends is the verdict on answers that differ in number, or in how the connection is left.
func (d *differ) ends(words []string, direct, berth diffAnswer) diffVerdict {
	m := met{words: words, input: strings.ToLower(d.input)}
	m.cmd, _ = commandOf(words)
	if n := len(direct.replies); n < len(berth.replies) {
		m.berth = berth.replies[n]
	} else if n := len(berth.replies); n < len(direct.replies) {
		m.direct = direct.replies[n]
	}
	if e := d.explain(m); e != nil {
		d.met[e.reason]++
		return diffVerdict{parted: true}
	}
	return diffVerdict{why: "different ends", kind: "ends " + string(direct.end) + string(berth.end) + m.kind()}
}

// answered finds the request to which a reply belongs, and follows the client's state by it.
func (v *clientView) answered(requests *[][]string, reply []byte) []string {
	if v.due > 0 {
		v.due--
		v.confirmed(reply)
		return v.confirming
	}
	v.skipMuted(requests, reply)
	if len(*requests) == 0 {
		return nil
	}
	words := (*requests)[0]
	*requests = (*requests)[1:]
	cmd, _ := commandOf(words)
	switch {
	case string(reply) == "+QUEUED\r\n" && v.multi:
		v.queued = append(v.queued, words)
	case cmd == nil:
	case cmd.Way == router.Pinned && (reply[0] == '*' || reply[0] == '>'):
		v.confirming, v.due = words, max(len(words)-2, 0)
		if kind := subscribing(cmd.Name); len(words) == 1 {
			v.due = max(len(v.subscriptions[kind]), 1) - 1
		}
		v.confirmed(reply)
	case cmd.Name == "multi" && reply[0] == '+':
		v.multi, v.queued = true, nil
	case cmd.Name == "discard" && reply[0] == '+', cmd.Name == "reset" && reply[0] == '+', cmd.Name == "exec":
		v.multi = false
		if cmd.Name == "reset" {
			v.subscriptions = nil
		}
	}
	return words
}

// subscribing is the command that an UNSUBSCRIBE undoes.
func subscribing(name string) string { return strings.Replace(name, "unsub", "sub", 1) }

// confirmed follows the client's subscriptions by a confirmation.
func (v *clientView) confirmed(reply []byte) {
	c, err := codec.ParseValue(reply)
	if err != nil || len(c.Elems) != 3 {
		return
	}
	name, what := c.Elems[0].Text(), c.Elems[1].Text()
	kind := subscribing(name)
	if name != kind {
		if delete(v.subscriptions[kind], what); len(v.subscriptions[kind]) == 0 {
			delete(v.subscriptions, kind)
		}
		return
	}
	if v.subscriptions == nil {
		v.subscriptions = map[string]map[string]bool{}
	}
	if v.subscriptions[kind] == nil {
		v.subscriptions[kind] = map[string]bool{}
	}
	v.subscriptions[kind][what] = true
}

// isMessage tells what a subscriber hears from what it is answered.
func isMessage(reply []byte) bool {
	if len(reply) < 4 || reply[0] != '>' && reply[0] != '*' {
		return false
	}
	head := reply[4:min(len(reply), 20)]
	return bytes.HasPrefix(head, []byte("$7\r\nmessage\r\n")) || bytes.HasPrefix(head, []byte("$8\r\npmessage\r\n")) ||
		bytes.HasPrefix(head, []byte("$8\r\nsmessage\r\n"))
}

// confirms tells whether the reply is a confirmation by a command of this name.
func confirms(reply []byte, name string) bool {
	return len(reply) > 4 && bytes.HasPrefix(reply[4:], fmt.Appendf(nil, "$%d\r\n%s\r\n", len(name), name))
}

// owed is how many replies the requests are to get.
func (v clientView) owed(requests [][]string) (n int) {
	for {
		if v.skipMuted(&requests, nil); len(requests) == 0 {
			return n
		}
		n, requests = n+1, requests[1:]
	}
}

// skipMuted takes away the requests that are not answered. The next reply, if there is one, tells
// whether a CLIENT REPLY was refused.
func (v *clientView) skipMuted(requests *[][]string, next []byte) {
	for len(*requests) > 0 {
		words := (*requests)[0]
		mute := v.muted || len(words) == 0
		if v.muteNext > 0 {
			v.muteNext--
			mute = true
		}
		cmd, _ := commandOf(words)
		switch {
		case cmd == nil:
		case cmd.Name == "reset" && len(words) == 1:
			mute, v.muted = mute && !v.muted, false
		case cmd.Name == "multi" && len(words) == 1 && mute:
			v.multi, v.queued = true, nil
		case cmd.Way == router.Pinned && confirms(next, cmd.Name):
			mute = false // Redis confirms to the deaf as well
		case cmd.Name == "client|reply" && len(words) == 3 && !muteRefused.Match(next) && !(v.multi && string(next) == "+QUEUED\r\n"):
			switch strings.ToLower(words[2]) {
			case "on":
				v.muted, v.muteNext, mute = false, 0, false
			case "off":
				v.muted, mute = true, true
			case "skip":
				if !v.muted {
					v.muteNext = 1
				}
				mute = true
			}
		}
		if !mute {
			return
		}
		*requests = (*requests)[1:]
	}
}

func (d *differ) compareReply(v *clientView, words []string, direct, berth []byte) diffVerdict {
	d.compared++
	if bytes.Equal(direct, berth) {
		return diffVerdict{}
	}
	m := met{words: words, direct: direct, berth: berth, input: strings.ToLower(d.input)}
	m.cmd, _ = commandOf(words)
	if m.cmd != nil && m.cmd.Name == "exec" && direct[0] == '*' && berth[0] == '*' {
		a, errA := split(direct)
		b, errB := split(berth)
		if errA == nil && errB == nil && len(a) == len(b) && len(a) == len(v.queued) {
			for i := range a {
				if got := d.compareReply(v, v.queued[i], a[i], b[i]); got.why != "" || got.parted {
					return got
				}
			}
			return diffVerdict{}
		}
	}
	if e := d.explain(m); e != nil {
		d.met[e.reason]++
		return diffVerdict{parted: e.parts}
	}
	return diffVerdict{why: "different replies to " + strings.Join(words, " "), kind: m.kind()}
}

// kind is what findings that are probably one have in common.
func (m met) kind() string {
	name := "?"
	if m.cmd != nil {
		name = m.cmd.Name
	}
	first := func(b []byte) string { return string(b[:min(len(b), 12)]) }
	return name + " " + first(m.direct) + " " + first(m.berth)
}

func (d *differ) explain(m met) *difference {
	name := ""
	if m.cmd != nil {
		name = m.cmd.Name
	}
	for i := range d.explains {
		e := &d.explains[i]
		if (e.command == "" || slices.Contains(strings.Fields(e.command), name)) && e.accepts(m) {
			return e
		}
	}
	return nil
}

// commandOf is the row of a request, nil when there is none, and its words as the router takes
// them.
func commandOf(words []string) (*router.Command, [][]byte) {
	if len(words) == 0 {
		return nil, nil
	}
	args := make([][]byte, len(words))
	for i, w := range words {
		args[i] = []byte(w)
	}
	cmd, _ := router.Builtin().Lookup(args)
	return cmd, args
}

// muteRefused are answers to a CLIENT REPLY OFF or SKIP that has no effect.
var muteRefused = regexp.MustCompile(`^(-NOAUTH|-ERR Can't execute 'client\|reply')`)

// split is the elements of an aggregate.
func split(reply []byte) (all [][]byte, err error) {
	err = elements(reply, func(_ int, e []byte) { all = append(all, e) })
	return all, err
}

// slotOfTag is the slot of all keys that begin with a hash tag.
func slotOfTag(tag string) uint16 { return router.Slot([]byte(tag)) }

// clockTime is what depends on when the server looked at its clock: seconds and milliseconds since
// 1970 in this decade and the next, as such or in a stream's ID.
var clockTime = regexp.MustCompile(`\b1[78]\d{8}(\d{3}){0,2}(-\d+)?\b`)

// sameTime: the same but for times that are near each other. Those of streams differ in their
// sequence number, too.
func sameTime(m met) bool {
	mask := []byte("<time>")
	if !bytes.Equal(clockTime.ReplaceAll(m.direct, mask), clockTime.ReplaceAll(m.berth, mask)) {
		return false
	}
	other := clockTime.FindAll(m.berth, -1)
	for i, one := range clockTime.FindAll(m.direct, -1) {
		if len(one) == len(other[i]) && !isNear(one[:10], other[i][:10], 5) {
			return false
		}
	}
	return true
}

// sameType: of the same type, be it as long as it may, and no error.
func sameType(m met) bool {
	return len(m.direct) > 0 && len(m.berth) > 0 && m.direct[0] == m.berth[0] && m.direct[0] != '-' && null(m.direct) == null(m.berth)
}

func null(reply []byte) bool {
	return reply[0] == '_' || bytes.HasPrefix(reply, []byte("$-1")) || bytes.HasPrefix(reply, []byte("*-1"))
}

// sameTree: the same aggregates with the same types in them.
func sameTree(m met) bool {
	if len(m.direct) == 0 || len(m.berth) == 0 {
		return false
	}
	a, errA := codec.ParseValue(m.direct)
	b, errB := codec.ParseValue(m.berth)
	return errA == nil && errB == nil && m.direct[0] != '-' && alike(a, b)
}

func alike(a, b codec.Value) bool {
	if a.Type != b.Type || a.Null != b.Null || len(a.Elems) != len(b.Elems) {
		return false
	}
	for i := range a.Elems {
		if !alike(a.Elems[i], b.Elems[i]) {
			return false
		}
	}
	return true
}

// cursorAndList: a cursor, and a list of whatever a scan has come across.
func cursorAndList(m met) bool {
	for _, reply := range [][]byte{m.direct, m.berth} {
		v, err := codec.ParseValue(reply)
		if err != nil || len(v.Elems) != 2 || v.Elems[0].Type != '$' || v.Elems[1].Type != '*' {
			return false
		}
	}
	return true
}

// sameWithin: the same but for integers, none of which is further from the other's than that.
func sameWithin(most float64) func(m met) bool {
	return func(m met) bool {
		mask := []byte(":n\r")
		if !bytes.Equal(anyInteger.ReplaceAll(m.direct, mask), anyInteger.ReplaceAll(m.berth, mask)) {
			return false
		}
		other := anyInteger.FindAll(m.berth, -1)
		for i, one := range anyInteger.FindAll(m.direct, -1) {
			if !isNear(one[1:len(one)-1], other[i][1:len(other[i])-1], most) {
				return false
			}
		}
		return true
	}
}

func isNear(a, b []byte, most float64) bool {
	x, errX := strconv.ParseFloat(string(a), 64)
	y, errY := strconv.ParseFloat(string(b), 64)
	return errX == nil && errY == nil && math.Abs(x-y) <= most
}

var anyInteger = regexp.MustCompile(`:-?\d+\r`)

// ownNumber: the same but for the client's number.
func ownNumber(m met) bool {
	mask := []byte("$1:n\r")
	return bytes.Equal(clientNumber.ReplaceAll(m.direct, mask), clientNumber.ReplaceAll(m.berth, mask))
}

var clientNumber = regexp.MustCompile(`(\$2\r\nid\r\n|^):[1-9]\d*\r`)

// sameFields: a client's line that says the same of its state, but for a few of the flags: d is
// only known to the node, e and r mean nothing at berth.
func sameFields(m met) bool {
	if len(m.direct) == 0 || len(m.berth) == 0 || m.direct[0] != m.berth[0] {
		return false
	}
	fields := func(reply []byte) []string {
		all := stateFields.FindAllString(string(reply), -1)
		for i, f := range all {
			if flags, is := strings.CutPrefix(f, " flags="); is {
				all[i] = strings.Trim(flags, "deNr")
			}
		}
		return all
	}
	return slices.Equal(fields(m.direct), fields(m.berth))
}

var stateFields = regexp.MustCompile(` (name|flags|db|sub|psub|ssub|multi|cmd|user|redir|resp)=\S*`)

// otherOrder: the same elements in another order, each together with what belongs to it.
func otherOrder(m met) bool {
	if len(m.direct) == 0 || len(m.berth) == 0 || len(m.direct) != len(m.berth) {
		return false
	}
	a, errA := codec.ParseValue(m.direct)
	b, errB := codec.ParseValue(m.berth)
	pairs := m.cmd != nil && slices.Contains([]string{"hgetall", "hscan", "zscan"}, m.cmd.Name)
	return errA == nil && errB == nil && sorted(a, pairs) == sorted(b, pairs)
}

// sorted is a reply with the elements of each of its aggregates in order, by pairs in maps and
// where an array stands for one.
func sorted(v codec.Value, pairs bool) string {
	if len(v.Elems) == 0 {
		return fmt.Sprintf("%+v", v)
	}
	step := 1
	if v.Type == '%' || pairs && v.Elems[len(v.Elems)-1].Elems == nil {
		step = 2
	}
	var texts []string
	for i := 0; i+step <= len(v.Elems); i += step {
		text := ""
		for _, e := range v.Elems[i : i+step] {
			text += sorted(e, pairs)
		}
		texts = append(texts, text)
	}
	slices.Sort(texts)
	return fmt.Sprintf("%c%d%q", v.Type, len(v.Elems), texts)
}

// otherDump: as long, and of the same bytes but for the checksum; a stream's has times in it.
func otherDump(m met) bool {
	if !sameType(m) || len(m.direct) != len(m.berth) {
		return false
	}
	at := bytes.IndexByte(m.direct, '\n') + 1
	if at == len(m.direct) || at+10 > len(m.direct) || m.direct[at] != m.berth[at] {
		return false
	}
	const checksum = len("12345678\r\n")
	a, b := slices.Clone(m.direct[:len(m.direct)-checksum]), slices.Clone(m.berth[:len(m.berth)-checksum])
	slices.Sort(a)
	slices.Sort(b)
	stream := m.direct[at] == 15 || m.direct[at] >= 19
	return stream || bytes.Equal(a, b)
}

// hears: berth's node knows of all channels that Redis knows of, and perhaps of some that are about
// to be given up.
func hears(m met) bool {
	a, errA := split(m.direct)
	b, errB := split(m.berth)
	if errA != nil || errB != nil || m.direct[0] != m.berth[0] {
		return false
	}
	for _, channel := range a {
		if !slices.ContainsFunc(b, func(e []byte) bool { return bytes.Equal(e, channel) }) {
			return false
		}
	}
	return true
}

// redisSays: Redis' answer begins so.
func redisSays(prefix string) func(m met) bool {
	return func(m met) bool { return bytes.HasPrefix(m.direct, []byte(prefix)) }
}

func both(conditions ...func(m met) bool) func(m met) bool {
	return func(m met) bool {
		return !slices.ContainsFunc(conditions, func(holds func(met) bool) bool { return !holds(m) })
	}
}

// berthSays: berth's answer begins so.
func berthSays(prefixes ...string) func(m met) bool {
	return func(m met) bool {
		for _, p := range prefixes {
			if bytes.HasPrefix(m.berth, []byte(p)) {
				return true
			}
		}
		return false
	}
}

// differences are those over a standalone server of any version. The fewer the better.
var differences = []difference{
	{"command|docs command|info", "a NUL byte ends a name for a hash table that has both in one place", func(m met) bool {
		return strings.Contains(strings.Join(m.words, " "), "\x00")
	}, false},
	{"", "time", sameTime, false},
	{"ttl object|idletime xinfo|consumers xinfo|stream xinfo|groups", "time that went by", sameWithin(5), false},
	{"pttl hpttl httl xpending xinfo|consumers xinfo|stream", "time that went by", sameWithin(5000), false},
	{"smembers sdiff sinter sunion hgetall hkeys hvals keys hscan sscan zscan scan function|list sort sort_ro command command|list command|info command|docs eval eval_ro evalsha evalsha_ro acl|cat acl|list acl|users",
		"hash tables have their own order in each process", otherOrder, false},
	{"dump function|dump", "hash tables have their own order in each process", otherDump, false},
	{"srandmember hrandfield zrandmember", "random", sameTree, false},
	{"randomkey acl|genpass", "random", sameType, false},
	{"memory|usage", "random", sameWithin(4096), false},
	{"spop", "random", sameTree, true},
	{"zrangebylex zrevrangebylex zremrangebylex zlexcount", "unspecified when scores differ: a skip list is made by chance", sameType, true},
	{"client|id hello", "berth numbers its own clients", ownNumber, false},
	{"client|info", "berth numbers its own clients", sameFields, false},
	{"client|list info memory|stats memory|doctor memory|malloc-stats latency|doctor lolwut", "about the server itself", sameType, false},
	{"slowlog|get latency|latest latency|history latency|histogram acl|log lastsave slowlog|len", "what the server has been through", sameType, false},
	{"command|help config|help cluster|help", "berth's own text", sameType, false},
	{"config|get config|set", "berth's own settings", func(m met) bool {
		return slices.ContainsFunc(m.words[2:], func(w string) bool { return config.IsOption(w) || glob.Is(w) })
	}, false},
	{"time", "time", sameTree, false},
	{"role", "a node counts its offset once a client has sent it SYNC, which berth refuses", sameTree, false},
	{"scan sscan hscan zscan", "cursors name buckets of a hash table", func(m met) bool {
		cursor := 2
		if m.cmd.Name == "scan" {
			cursor = 1
		}
		return cursorAndList(m) && (m.words[len(m.words)-1] != "1000" || m.words[cursor] != "0")
	}, false},
	{"", "Redis reads some words up to a NUL byte only", func(m met) bool {
		return m.cmd != nil && (m.cmd.Way == router.Local || m.cmd.Name == "scan") && strings.Contains(strings.Join(m.words, " "), "\x00") && berthSays("-")(m)
	}, true},
	{"client|tracking", "in MULTI not to another client, over a Cluster not all keys", berthSays("-ERR berth: CLIENT TRACKING"), true},
	{"", "stricter than Redis about CR LF, and NUL in a line", berthSays("-ERR Protocol error: expected CR LF", "-ERR Protocol error: NUL byte"), true},
	{"", "Redis may find a name with a NUL behind it, if the hash table will", func(m met) bool {
		return len(m.words) > 0 && strings.Contains(strings.Join(m.words[:min(2, len(m.words))], " "), "\x00") &&
			bytes.HasPrefix(m.berth, []byte("-ERR unknown "))
	}, true},
	{"exec", "a FUNCTION LOAD that is refused between WATCH and EXEC ends the WATCH", func(m met) bool {
		return string(m.berth) == "*-1\r\n" && string(m.direct) == "*0\r\n" // seen with nothing queued
	}, false},
	{"", "Redis throws replies away when it takes a client for a browser", func(m met) bool {
		return m.direct == nil && strings.Contains(m.input, "host:")
	}, true},
	{"", "no AUTH is queued", berthSays("-" + errAuthQueued), true},
	{"command|info", "Redis may find a name with a NUL behind it, if the hash table will", func(m met) bool {
		return strings.Contains(strings.Join(m.words, " "), "\x00") && sameType(m)
	}, false},
}

// differences are all that may differ over a standalone server of the version that runs.
func (b *berthServer) differences() []difference {
	all := differences
	if !b.srv.isBefore(7, 2) {
		all = slices.Concat(laterDifferences, all)
	}
	if !b.srv.isBefore(8, 0) {
		all = slices.Concat(redis8Differences, all)
	}
	if b.srv.isValkeySince(9, 0) {
		all = slices.Concat(valkey9Differences, all)
	}
	if b.srv.isValkeySince(8, 0) {
		all = slices.Concat(valkeyDifferences, all)
	}
	return all
}

// laterDifferences are those over Redis 7.2 and later, and Valkey, besides.
var laterDifferences = []difference{
	{"", "the server does not answer a client again that has blocked while all were paused", func(m met) bool {
		return m.direct == nil && strings.Contains(m.input, "pause")
	}, true},
	{"waitaof", "refused by design, with the reason", berthSays("-ERR WAITAOF is not possible through berth"), true},
}

// redis8Differences are those over Redis 8.0 and later, besides.
var redis8Differences = []difference{
	{"auth hello", "Redis does not answer a refused AUTH while it has replies to send", berthSays("-WRONGPASS "), true},
	{"", "Redis looks at no garbage that came while its client was blocked", func(m met) bool {
		return m.direct == nil && berthSays("-ERR Protocol error: ")(m)
	}, true},
	{"vinfo", "the levels of a vector set are drawn by lot", sameTree, false},
	{"", "Redis takes the whole name of a subcommand, said alone, if it was the client's last command", func(m met) bool {
		return len(m.words) > 0 && strings.Contains(m.words[0], "|") && berthSays("-ERR unknown command ")(m)
	}, true},
	{"", "modules write the names of their commands in capitals", func(m met) bool {
		return m.cmd != nil && strings.HasPrefix(m.cmd.Name, "v") && strings.EqualFold(string(m.direct), string(m.berth))
	}, false},
}

// valkeyDifferences are those over Valkey 8.0 and later, besides.
var valkeyDifferences = []difference{
	{"", "Valkey takes telnet commands out of a line", func(m met) bool {
		return strings.Contains(strings.Join(m.words, " "), "\xff")
	}, true},
	{"", "Valkey leaves the refusal of an AUTH out of EXEC's reply, which is one short then", func(m met) bool {
		return m.berth == nil && strings.Contains(m.input, "multi") && strings.Contains(m.input, "auth")
	}, true},
	{"command|list", "for Valkey 8.0 a name ends with a NUL", func(m met) bool {
		return strings.Contains(strings.Join(m.words, " "), "\x00")
	}, false},
	{"auth hello", "Valkey does not answer a refused AUTH while it has replies to send", berthSays("-WRONGPASS "), true},
	{"", "after a line of blanks Valkey takes a multibulk request for lines", func(m met) bool {
		return redisSays("-ERR unknown command '*")(m) || m.direct == nil && strings.Contains(m.input, "reply") // which are then not answered
	}, true},
	{"client|info", "multi stays 0 after EXEC", func(m met) bool {
		m.direct = bytes.Replace(m.direct, []byte(" multi=0 "), []byte(" multi=-1 "), 1)
		return sameFields(m)
	}, false},
	{"", "what FUNCTION LIST's error quotes goes on after the line, and is no reply", func(m met) bool {
		return m.direct == nil && strings.Contains(m.input, "function") && strings.Contains(m.input, "list")
	}, true},
}

// valkey9Differences are those over Valkey 9.0 and later, besides.
var valkey9Differences = []difference{
	{"", "what berth refuses has the arity of Redis 7.0", func(m met) bool {
		return m.cmd != nil && m.cmd.Way == router.Refused && berthSays("-ERR wrong number of arguments")(m) &&
			(redisSays("-ERR ")(m) || redisSays("+QUEUED")(m))
	}, true},
	{"", "Valkey says it first if a CR has no LF after it", both(berthSays("-ERR Protocol error: "), redisSays("-ERR Protocol error: invalid CRLF in request")), true},
	{"", "Valkey lets words follow a closing quote", berthSays("-ERR Protocol error: unbalanced quotes"), true},
	{"msetex", "Valkey looks at no slot but the first key's", berthSays("-CROSSSLOT "), true},
}

// passwordDifferences are those of clients that have to say who they are, besides.
var passwordDifferences = []difference{
	{"", "Redis closes clients that RESET makes nobody, if it owes them replies that began without their length", func(m met) bool {
		return m.direct == nil && (strings.Contains(m.input, "reset") || strings.Contains(m.input, "reply")) // exchange may add one
	}, true},
	{"", "Valkey has read what comes with a RESET before RESET makes the client nobody", func(m met) bool {
		return strings.Contains(m.input, "reset") && berthSays("-ERR Protocol error: unauthenticated ")(m)
	}, true},
}

// channelDifferences are those of subscribers, besides.
var channelDifferences = []difference{
	{"pubsub|channels pubsub|shardchannels", "berth ends its subscriptions when it finds the time", hears, false},
	{"publish spublish", "before 7.2 Redis writes a subscriber's own message into EXEC's reply", func(m met) bool { return m.direct[0] == '>' }, true},
	{"unsubscribe punsubscribe sunsubscribe", "hash tables have their own order in each process", func(m met) bool { return len(m.words) == 1 && sameTree(m) }, false},
}

// clusterDifferences are those over a cluster, besides.
var clusterDifferences = []difference{
	{"mget mset del unlink exists touch", "berth splits it", func(m met) bool { return bytes.HasPrefix(m.direct, []byte("-CROSSSLOT")) }, true},
	{"cluster|slots cluster|shards cluster|links", "berth shows itself as the one node", sameTree, false},
	{"cluster|nodes cluster|info cluster|myid cluster|myshardid", "berth shows itself as the one node", sameType, false},
	{"scan", "cursors name a shard, too", func(m met) bool {
		return cursorAndList(m) || berthSays("-ERR berth: this SCAN cursor is not remembered")(m)
	}, false},
	{"", "refused by design, with the reason", func(m met) bool {
		return m.cmd != nil && bytes.HasPrefix(m.berth, []byte("-ERR "+strings.ToUpper(strings.ReplaceAll(m.cmd.Name, "|", " "))+" is not possible through berth"))
	}, true},
	{"", "between WATCH and EXEC nothing blocks, watches or travels apart at another slot", func(m met) bool {
		return m.cmd != nil && (m.cmd.Way == router.Blocking || m.cmd.Name == "watch" || m.cmd.MayQuote()) && string(m.berth) == "-"+errCrossSlot+"\r\n"
	}, true},
	{"exec", "between WATCH and EXEC nothing is transacted at another slot", both(berthSays("-"+errCrossSlot), redisSays("*")), true},
	{"evalsha evalsha_ro", "a script without keys is known where it was run", berthSays("-NOSCRIPT"), true},
	{"evalsha evalsha_ro", "a script that has run at one node is known at all", redisSays("-NOSCRIPT"), true},
	{"script|exists", "a script without keys is known where it was run", sameTree, false},
	{"eval eval_ro evalsha evalsha_ro fcall fcall_ro", "a script that names no keys may use those of one node only", func(m met) bool {
		return bytes.Contains(m.berth, []byte("ttempted to access a non local key in a cluster node"))
	}, true},
	{"", "speaks of all shards: not inside MULTI", func(m met) bool {
		return m.cmd != nil && m.cmd.Way == router.FanOut && bytes.HasPrefix(m.berth, []byte("-ERR berth:")) ||
			bytes.Contains(m.berth, []byte("' speaks of all shards and cannot run inside MULTI")) // after a reply that was skipped
	}, true},
}

// clusterRegressions are those over a cluster.
var clusterRegressions = []diffSession{
	{{0, []string{"multi\r\n", "mget a b\r\n", "exec\r\n"}}},
	{{0, []string{"multi\r\n", "watch a b\r\n", "exec\r\n"}}},
	{{0, []string{"multi\r\n", "get a\r\n", "get b\r\n", "get\r\n", "exec\r\n"}}},
	{{0, []string{"multi\r\n", "get a\r\n", "get\r\n", "get b\r\n", "exec\r\n"}}},
	{{0, []string{"sort {k}list1 STORE STORE {k}new\r\n", "randomkey\r\n", "flushdb\r\n"}}},
	{{0, []string{"scan -3 COUNT\r\n", "scan +0 COUNT\r\n", "scan -0 COUNT 1\r\n", "scan +-1\r\n", "scan -\r\n"}}},
	{{0, []string{"pubsub numsub a a b\r\n", "pubsub shardnumsub {k}a {k}a\r\n", "select -1\r\n"}}},
}

// diffRegressions are sessions in which something differed once.
var diffRegressions = []diffSession{
	{{0, []string{"CLIENT REPLY OFF\r\n", "**2\r\n"}}},
	{{0, []string{"CLIENT REPLY SKIP\r\n", "\n", "get k:str1\r\n", "get k:str2\r\n"}}},
	{{0, []string{"CLIENT REPLY SKIP\r\n", " \r\n", "get k:str1\r\n", "get k:str2\r\n"}}},
	{{0, []string{"CLIENT REPLY SKIP\r\n", "reset\r\n", "get k:str1\r\n"}}},
	{{0, []string{"CLIENT REPLY OFF\r\n", "reset\r\n", "get k:str1\r\n"}}},
	{{0, []string{"MULTI\r\n", "cluster bumpepoch\r\n", "get k:str1\r\n", "EXEC\r\n"}}},
	{{0, []string{"MULTI\r\n", "module load /nosuch\r\n", "get k:str1\r\n", "EXEC\r\n"}}},
	{{0, []string{"MULTI\r\n", "httl k:hash1 fields 1 a\r\n", "EXEC\r\n"}}},
	{{0, []string{"MULTI\r\n", "command docs get\r\n", "EXEC\r\n"}}},
	{{0, []string{"HELLO 3 AUTH nobody x SETNAME \"a b\"\r\n", "hello 3 setname good nosuch\r\n", "client getname\r\n", "hello +3\r\n"}}},
	{{0, []string{"hello 2 auth \"\" x setname n\r\n", "client getname\r\n", "hello 2 auth \"\" x y\r\n", "hello 2 setname n auth \"\" x\r\n", "client getname\r\n"}}},
	{{0, []string{"client unblock 999999999 nosuch\r\n", "client unblock x 999999999 error\r\n", "client unblock 999999999 nosuch x\r\n"}}},
	{{0, []string{"client unPause x\r\n", "client UnBlock 999999999 ERROR x\r\n", "client Pause 0 ALL x\r\n"}}},
	{{0, []string{"watch k:num\r\n", "auth default x\r\n", "multi\r\n", "incr k:num\r\n", "exec\r\n"}}},
	{{0, []string{"watch k:num\r\n"}}, {1, []string{"incr k:num\r\n"}}, {0, []string{"auth guest guestpw\r\n", "multi\r\n", "incr k:num\r\n", "exec\r\n", "incr k:num\r\n"}}},
	{{0, []string{"xread block streams streams k:st1 k:st1 $\r\n"}}},
	{{0, []string{"select 9223372036854775807\r\n", "select +1\r\n", "*2\r\n$6\r\nclient\r\n$4\r\n+A\r\n\r\n", "client list type \"x\\r\\n\"\r\n"}}},
	{{0, []string{"auth \"\" guest\r\n", "hello 3 auth \"\" x\r\n"}}},
	{{0, []string{"multi\r\n", "get\r\n", "get k:num\r\n", "time\r\n", "exec\r\n"}}},
	{{0, []string{"client reply skip\r\n", "multi\r\n", "get k:str1\r\n", "vemb\r\n", "exec\r\n", "get k:str1\r\n", "randomkey\r\n"}}},
	{{0, []string{"waitaof 0 0 0\r\n", "himport x\r\n", "cluster slot-stats\r\n", "cluster myshardid\r\n"}}},
}
