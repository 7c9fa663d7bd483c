package main

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// inputMaker makes the inputs of the differential tests: whatever a client could send, well-formed, odd or malformed, by the
// router's table and the grammar. The same seed makes the same inputs.
type inputMaker struct {
	*rand.Rand
	prefix  string // of all keys and sharded channels
	grammar grammar
	weird   bool // this input's commands are often mutated

	commands []*router.Command // all that may be sent
	channels bool              // sessions are about channels
	first    string            // most clients say so first
	theme    []*router.Command // from which this session mostly takes its own
	inside   bool              // most probably between MULTI and EXEC
}

// A diffSession is what one client, or two, send over their connections' lives, one write after the other's answers.
type diffSession []diffWrite

// diffWrite is one input: requests, or what resembles them, as one client sends them at once.
type diffWrite struct {
	client int
	pieces []string
}

func (w diffWrite) bytes() string { return strings.Join(w.pieces, "") }

// subscribes tells whether the input may make its client a subscriber.
func (w diffWrite) subscribes() bool {
	return strings.Contains(strings.ToLower(w.bytes()), "subscribe")
}

// newInputMaker makes inputs whose keys begin with prefix. Channels stay out unless they are asked for.
func newInputMaker(prefix string, channels bool) *inputMaker {
	g := &inputMaker{prefix: prefix, grammar: theGrammar(), channels: channels}
	for _, c := range router.Builtin().Commands() {
		if channels || c.Way != router.Pinned {
			g.commands = append(g.commands, c)
		}
	}
	return g
}

// session makes the n-th session of a seed.
func (g *inputMaker) session(seed uint64, n int) diffSession {
	g.Rand = rand.New(rand.NewPCG(seed, uint64(n)))
	g.weird = g.IntN(3) == 0
	g.inside = false
	g.theme = g.themeOf(g.commands[g.IntN(len(g.commands))])
	if g.channels {
		g.theme = g.themeOf(router.Builtin().Find("subscribe"))
	}
	writes, clients := 1, 1
	switch g.IntN(4) {
	case 0:
		writes = 2 + g.IntN(12)
	case 1:
		writes, clients = 2+g.IntN(8), 2
	}
	s := make(diffSession, writes)
	known := map[int]bool{}
	for i := range s {
		s[i].client = g.IntN(clients)
		if !known[s[i].client] && g.first != "" && g.IntN(4) > 0 {
			s[i].pieces = append(s[i].pieces, g.first)
		}
		known[s[i].client] = true
		for range 1 + g.IntN(8) {
			s[i].pieces = append(s[i].pieces, g.piece())
		}
		if g.IntN(40) == 0 {
			s[i].pieces = slices.Insert(s[i].pieces, g.IntN(len(s[i].pieces)+1), g.malformed())
		}
		if !g.harmless(s[i].bytes()) {
			s[i].pieces = []string{"PING\r\n"}
		}
	}
	return s
}

// themeOf is a command's neighbours: those that share its first ACL category of data.
func (g *inputMaker) themeOf(c *router.Command) []*router.Command {
	var theme []*router.Command
	category := ""
	for _, name := range c.Categories {
		switch name {
		case "@string", "@bitmap", "@hyperloglog", "@list", "@set", "@sortedset", "@hash", "@stream", "@geo", "@pubsub",
			"@transaction", "@scripting", "@connection", "@keyspace":
			category = name
		}
	}
	for _, other := range g.commands {
		for _, name := range other.Categories {
			if name == category {
				theme = append(theme, other)
			}
		}
	}
	return theme
}

// piece is one request in the bytes of a client.
func (g *inputMaker) piece() string {
	switch g.IntN(100) {
	case 0:
		return g.malformedBut(g.request())
	case 1:
		return []string{"\r\n", "*0\r\n", "*-1\r\n", "\n", "*-7\r\n"}[g.IntN(5)] + g.encode(g.request())
	case 2:
		return g.encode(g.unknown())
	}
	return g.encode(g.request())
}

// unknown is a request for a command there is none of.
func (g *inputMaker) unknown() []string {
	names := []string{"nosuch", "GETT", "", "get ", "a\r\nb", "\x00", "get\x00", "set\x00x", strings.Repeat("long", 50), "client|id", "'", "%s", "POSTX", "*1"}
	words := []string{names[g.IntN(len(names))]}
	for range g.IntN(5) {
		words = append(words, g.oddWord())
	}
	return words
}

// request is the words of one request.
func (g *inputMaker) request() []string {
	for {
		c := g.pick()
		words := g.words(c)
		if g.mutates(c) {
			words = g.mutate(words)
		}
		if !harmlessWords(words) {
			continue
		}
		switch c.Name {
		case "multi":
			g.inside = true
		case "exec", "discard", "reset":
			g.inside = false
		}
		return words
	}
}

// stateful are the commands that change what others of the same client mean; they come more often than others.
var stateful = []string{
	"multi", "multi", "exec", "exec", "exec", "discard", "watch", "watch", "unwatch", "select", "select", "hello", "reset",
	"client|reply", "client|setname", "client|getname", "auth", "ping", "echo", "get", "set", "incr", "mget", "del",
	"lpush", "blpop", "bzpopmin", "xread", "eval", "quit",
}

// notInsideMulti are the commands of which Redis may say more inside EXEC's reply than its length, or less.
var notInsideMulti = strings.Fields("client|reply subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe")

func (g *inputMaker) pick() *router.Command {
	for {
		var c *router.Command
		switch n := g.IntN(100); {
		case n < 25:
			c = router.Builtin().Find(stateful[g.IntN(len(stateful))])
		case n < 70 && len(g.theme) > 0:
			c = g.theme[g.IntN(len(g.theme))]
		default:
			c = g.commands[g.IntN(len(g.commands))]
		}
		switch {
		case c.Name == "quit" && g.IntN(8) > 0: // it would end most sessions early
		case g.inside && slices.Contains(notInsideMulti, c.Name): // a known difference
		default:
			return c
		}
	}
}

// words writes a request for c by its grammar.
func (g *inputMaker) words(c *router.Command) []string {
	var words []string
	for _, word := range strings.Split(c.Name, "|") {
		words = append(words, g.recase(word))
	}
	rules := g.grammar[c.Name]
	rule := rules[g.IntN(len(rules))]
	if !rule.never {
		return g.write(words, rule.args)
	}
	if c.Arity > 0 && g.IntN(2) == 0 { // too many words
		for len(words) <= c.Arity {
			words = append(words, g.oddWord())
		}
		return words
	}
	for len(words) < max(c.Arity, -c.Arity)-1 && g.IntN(2) == 0 {
		words = append(words, g.oddWord())
	}
	return words
}

func (g *inputMaker) mutates(c *router.Command) bool {
	switch c.Name {
	case "client|kill", "client|pause", "config|set", "acl|setuser", "acl|deluser":
		return false // a slip of theirs would hit others
	}
	if g.weird {
		return g.IntN(3) == 0
	}
	return g.IntN(20) == 0
}

// mutate makes a small mistake in a request.
func (g *inputMaker) mutate(words []string) []string {
	at := g.IntN(len(words))
	switch g.IntN(8) {
	case 0:
		return words[:len(words)-1+min(1, 2-min(2, len(words)))] // all but the last, unless it is the only one
	case 1:
		if len(words) > 1 {
			at = 1 + g.IntN(len(words)-1)
			return append(words[:at:at], words[at+1:]...)
		}
	case 2:
		return append(words[:at+1:at+1], words[at:]...)
	case 3:
		return append(words, g.oddWord())
	case 4, 5:
		if at > 0 {
			words[at] = g.oddWord()
		}
	case 6:
		to := g.IntN(len(words))
		words[at], words[to] = words[to], words[at]
	case 7:
		words[at] += []string{"\x00", " ", "x", "\r\n", "\xff"}[g.IntN(5)]
	}
	return words
}

// oddWord is a word that seldom fits.
func (g *inputMaker) oddWord() string {
	odd := []string{"", " ", "0", "-1", "+1", "01", "1.5", "1e3", "nan", "inf", "-inf", "9223372036854775807",
		"-9223372036854775808", "9223372036854775808", "99999999999999999999", "x", "\x00", "\r\n", "a\r\nb", "\xff\xfe", "*",
		"STREAMS", "STORE", "BLOCK", "LIMIT", "COUNT", "WITHSCORES", "(1", "[a", "-", "+", "$", ">", "%s", "'", "\"", "{}", "NX", "GET"}
	switch n := g.IntN(len(odd) + 6); {
	case n < len(odd):
		return odd[n]
	case n < len(odd)+4:
		return valueClasses["any"](g)
	default:
		return valueClasses["val"](g)
	}
}

// recase writes a keyword as somebody might who does not care.
func (g *inputMaker) recase(word string) string {
	switch g.IntN(6) {
	case 0:
		return strings.ToUpper(word)
	case 1:
		return strings.ToLower(word)
	case 2:
		return strings.Map(func(r rune) rune {
			if g.IntN(2) == 0 {
				return unicode.ToUpper(r)
			}
			return unicode.ToLower(r)
		}, word)
	}
	return word
}

// encode writes a request as multibulk, or inline.
func (g *inputMaker) encode(words []string) string {
	if g.IntN(8) > 0 || words[0] == "" {
		return string(redistest.Command(words))
	}
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString([]string{" ", " ", "  ", "\t"}[g.IntN(4)])
		}
		b.WriteString(g.quote(w))
	}
	b.WriteString([]string{"\r\n", "\r\n", "\n"}[g.IntN(3)])
	return b.String()
}

// quote writes a word of an inline request.
func (g *inputMaker) quote(word string) string {
	plain := word != "" && word[0] != '*'
	for _, c := range []byte(word) {
		if c <= ' ' || c > '~' || c == '"' || c == '\'' {
			plain = false
		}
	}
	switch {
	case plain && g.IntN(4) > 0:
		return word
	case !strings.ContainsAny(word, "'\r\n\x00") && g.IntN(2) == 0:
		return "'" + word + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(word) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "\\x%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// malformed is what no server understands, or not yet.
func (g *inputMaker) malformed() string {
	all := []string{
		"*x\r\n", "*01\r\n", "*+1\r\n", "*2147483648\r\n", "*99999999999999999999\r\n", "*1\r\nfoo\r\n", "*1\r\n*1\r\n",
		"*1\r\n$-1\r\n", "*1\r\n$04\r\nPING\r\n", "*1\r\n$x\r\n", "*2\r\n$3\r\nGET\r\n$536870913\r\n", "*1\r\n$\r\n", "*\r\n",
		"set a \"b\r\n", "set a 'b\r\n", "set a \"b\"c\r\n", "\"\\x\" a\r\n", "'a\\'b'\r\n", "\"\"\r\n", "*1 \r\n", "* 1\r\n",
		"*2\r\n$3\r\nGET\r\n$3\r\nab", "*2147483647\r\n$3\r\nGET\r\n", "*2\r\n$3\r\nGET\r\n$536870912\r\nabc", "*1\r", "*", "$",
		"*1\r\n$4\r\nPIN", "PIN", "*1\r\n:1\r\n", "+OK\r\n", "-ERR x\r\n", ":1\r\n", "$4\r\nPING\r\n", "~1\r\n", "*1\r\n\r\n", "%1\r\n",
		"*-99999999999\r\n", "\x00\r\n", "\xff\r\n", "\r\r\n", "\n\n\r\n", " \r\n", "\t\t\n", "''\r\n", "POST / HTTP/1.1\r\n", "Host: x\r\n",
		"GET / HTTP/1.1\r\n", "*1\r\n$18446744073709551616\r\n", "*1\r\n$4294967296\r\n", "PING\r", "PING x\r\r\n", "PING\x00x\r\n",
	}
	return all[g.IntN(len(all))]
}

// malformedBut is a request with one byte that is another, is missing, or is once too many.
func (g *inputMaker) malformedBut(words []string) string {
	b := redistest.Command(words)
	at := g.IntN(len(b))
	switch g.IntN(3) {
	case 0:
		b[at] = byte(g.IntN(256))
	case 1:
		b = append(b[:at:at], b[at+1:]...)
	default:
		b = append(b[:at+1:at+1], b[at:]...)
	}
	return string(b)
}

// harmless tells whether all requests in a client's bytes may be sent to servers that others use as well.
func (g *inputMaker) harmless(in string) bool {
	requests, _, bad := requestsIn(in)
	for _, words := range requests {
		if !harmlessWords(words) {
			return false
		}
	}
	return bad == nil || !harmfulText(in)
}

// harmfulText tells whether bytes that Redis may read otherwise than berth does hold the name of a command that must not be
// sent.
func harmfulText(in string) bool {
	in = strings.ToLower(in)
	for name, rules := range theGrammar() {
		if rules[0].never && strings.Contains(in, name[strings.IndexByte(name, '|')+1:]) {
			return true
		}
	}
	return false
}

// requestsIn is the requests in a client's bytes as berth reads them, empty ones too; partly: the last one is not
// complete; bad: what follows is none.
func requestsIn(in string) (requests [][]string, partly bool, bad error) {
	var p codec.RequestParser
	for buf := []byte(in); len(buf) > 0; {
		n, err := p.Parse(buf, nil)
		if err != nil {
			return requests, false, err
		}
		if n == 0 {
			return requests, true, nil
		}
		var words []string
		for _, a := range p.Args() {
			words = append(words, string(a))
		}
		requests = append(requests, words)
		p.Reset()
		buf = buf[n:]
	}
	return requests, false, nil
}

// harmlessWords tells whether a request may be sent: it ends no server, fills no memory, and lets nobody wait for long.
func harmlessWords(words []string) bool {
	c, args := commandOf(words)
	if c == nil || c.CheckArity(len(args)) != nil {
		return true
	}
	if rules := theGrammar()[c.Name]; len(rules) > 0 && rules[0].never {
		return false
	}
	if timeout, blocks := c.Timeout(args); blocks {
		longest := float64(50*time.Millisecond) / float64(timeout.Unit)
		v, err := strconv.ParseFloat(words[timeout.Arg], 64)
		return err != nil || v < 0 || v > 0 && v <= longest
	}
	switch c.Name {
	case "srandmember", "hrandfield", "zrandmember":
		return !anyNumber(words, func(v float64) bool { return v < -1000 && v > -1<<62 })
	case "setbit", "setrange", "bitfield", "getbit":
		return !anyNumber(words, func(v float64) bool { return v > 1e5 && v < 1<<33 })
	case "pexpire", "psetex", "restore": // who has expired when they are looked at is a matter of luck
		return !anyNumber(words[2:3], soon)
	case "set", "getex":
		return !strings.Contains(strings.ToLower(strings.Join(words, " ")), " px ") || !anyNumber(words[2:], soon)
	case "client|pause":
		return !anyNumber(words, func(v float64) bool { return v > 5 })
	}
	return true
}

// theGrammar is parsed once; its classes are known when tests run.
var theGrammar = sync.OnceValue(func() grammar { return parseGrammar(grammarSource) })

func soon(milliseconds float64) bool { return milliseconds > 0 && milliseconds < 1000 }

func anyNumber(words []string, bad func(v float64) bool) bool {
	for _, w := range words {
		if v, err := strconv.ParseFloat(strings.TrimPrefix(w, "#"), 64); err == nil && bad(v) {
			return true
		}
	}
	return false
}

// valueClasses make the words of the grammar's classes.
var valueClasses map[string]func(g *inputMaker) string

// fixtureKeys are the keys that stand at the start of each session, by type. See fixtures.
var fixtureKeys = map[string][]string{
	"str": {"str1", "str2", "bits", "num", "flt", "vol"}, "num": {"num", "flt"}, "list": {"list1", "list2"}, "set": {"set1", "set2", "ints"},
	"hash": {"hash1", "hash2"}, "zset": {"zset1", "zset2"}, "geo": {"geo1"}, "stream": {"st1"}, "hll": {"hll1"},
	"new": {"new1", "new2", "{x}new"}, "empty": {""},
}

func init() {
	anyKind := []string{"str", "num", "list", "set", "hash", "zset", "geo", "stream", "hll", "new", "new"}
	one := func(of ...string) func(g *inputMaker) string {
		return func(g *inputMaker) string { return of[g.IntN(len(of))] }
	}
	key := func(kind string) func(g *inputMaker) string {
		return func(g *inputMaker) string {
			k := kind
			if k == "any" || k != "new" && g.IntN(8) == 0 {
				k = anyKind[g.IntN(len(anyKind))]
			}
			names := fixtureKeys[k]
			return g.prefix + names[g.IntN(len(names))]
		}
	}
	valueClasses = map[string]func(g *inputMaker) string{
		"val": func(g *inputMaker) string {
			if g.IntN(20) == 0 {
				return strings.Repeat(string(rune('a'+g.IntN(26))), 1<<g.IntN(14))
			}
			return one("a", "b", "hello", "", "10", "-1", "3.14", "a b", "\r\n", "\x00\xff", "+OK\r\n", "$-1\r\n", "9223372036854775807", "{x}",
				"foobar", "1e5")(g)
		},
		"int":      one("0", "1", "2", "3", "5", "10", "100", "-1", "-2", "-3", "-100", "1", "2", "x", "1.5", "9223372036854775807"),
		"count":    one("0", "1", "2", "10", "100", "-1", "-2", "-5", "x"),
		"float":    one("0", "1", "-1", "2.5", "1e2", "100", "200", "-0.1", "1.1", "3.0e-2", "inf", "nan", "x", "10000"),
		"offset":   one("0", "1", "2", "7", "8", "100", "-1", "4294967296", "9223372036854775807", "x"),
		"mem":      one("a", "b", "c", "d", "1", "2", "10", "two", "Palermo", "", "zz"),
		"score":    one("0", "1", "2", "(1", "(2", "-inf", "+inf", "inf", "100", "x", "1.5"),
		"lex":      one("-", "+", "[a", "(a", "[b", "(c", "[zz", "x"),
		"secs":     one("100", "1000", "0", "-1", "x", "9223372036854775807", "100000"),
		"ms":       one("100000", "1000000", "0", "-1", "x", "9223372036854775807"),
		"ttl":      one("0", "0", "100000", "-1", "x"),
		"unix":     one("33177117420", "1", "0", "-1", "x", "9223372036854775807"),
		"unixms":   one("33177117420000", "1", "0", "-1", "x", "9223372036854775807"),
		"db":       one("0", "0", "0", "1", "2", "15", "16", "-1", "x", "99999"),
		"dumped":   one("\x00\x05hello\n\x00cr\xdfve4 \n", "\x12\x01\x02\r\r\x00\x00\x00\x02\x00\x81a\x02\x81b\x02\xff\n\x00h\xeb\n\x89\x13A\xbb\xb1", "x", ""),
		"bits":     one("u8", "i8", "u4", "i16", "u63", "i64", "u64", "x", "u1"),
		"bitat":    one("0", "1", "#1", "100", "#2", "x", "-1"),
		"block":    one("0.01", "0.001", "0.02", "-1", "x", "1e400", "0.005"),
		"blockms":  one("1", "10", "5", "-1", "x"),
		"group":    one("g1", "g1", "g2", "nosuch"),
		"consumer": one("c1", "c2", "c3"),
		"id":       one("0", "1-1", "2-1", "3-1", "0-0", "1", "99-1", "x", "-1"),
		"newid":    one("3-1", "4-1", "5-*", "10-1", "1-1", "0-0", "*", "x", "18446744073709551615-1"),
		"idle":     one("0", "-1", "1000000", "x"),
		"idbound":  one("-", "+", "1-1", "2", "(1-1", "(2-1", "0", "x"),
		"lon":      one("13.361389", "15.087269", "0", "15", "181", "x"),
		"lat":      one("38.115556", "37.502669", "0", "37", "91", "x"),
		"city":     one("Palermo", "Catania", "nosuch", "a"),
		"unit":     one("km", "m", "ft", "mi", "x"),
		"channel":  one("ch1", "ch2", "news.a", "", "\x00"),
		"chpat":    one("ch*", "news.*", "*", "nosuch", "[a"),
		"shch":     func(g *inputMaker) string { return g.prefix + one("sh1", "sh2")(g) },
		"user":     one("default", "default", "guest", "guest", "nobody"),
		"pass":     one("guestpw", "guestpw", "secret", "secret", "wrong", ""),
		"word":     one("name", "x", "", "with space", "a\nb", "\xff", "lib-1.0", "é"),
		"func":     one("f1", "f2", "fboom", "nosuch", "F1"),
		"lib":      one("lib1", "lib2", "nosuch", "l*"),
		"libcode": one("#!lua name=lib1\nredis.register_function('f1', function(keys, args) return #keys + #args end)",
			"#!lua name=lib2\nredis.register_function{function_name='f2', callback=function(keys, args) return args end, flags={'no-writes'}}",
			"#!lua name=lib3\nredis.register_function('fboom', function() error('boom') end)",
			"#!lua name=lib4\nreturn 1", "#!lua\nreturn 1", "return 1", "#!nosuch name=x\n", "#!lua name=lib5\nx("),
		"pat": func(g *inputMaker) string {
			return one("*", g.prefix+"*", g.prefix+"s*", "nosuch*", "*[12]", g.prefix+"str?", "[", "a*", "")(g)
		},
		"sortby":  func(g *inputMaker) string { return one(g.prefix+"w_*", "nosort", "*->a", g.prefix+"hash*->a")(g) },
		"sortget": func(g *inputMaker) string { return one(g.prefix+"w_*", "#", g.prefix+"hash*->a", "*")(g) },
		"command": func(g *inputMaker) string {
			return one("get", "SET", "nosuch", "config|get", "xgroup", "client|id", "mset", "eval", "config|nosuch", "sort", "zunionstore")(g)
		},
		"script0": one(scripts0...), "script1": one(scripts1...), "script2": one(scripts2...),
		"sha": func(g *inputMaker) string {
			return one(sha(scripts0[0]), sha(scripts0[1]), sha(scripts0[2]), sha(scripts1[0]), strings.ToUpper(sha(scripts0[0])),
				strings.Repeat("f", 40), "x", "")(g)
		},
	}
	for kind := range fixtureKeys {
		valueClasses[kind] = key(kind)
	}
	valueClasses["any"] = key("any")
}

func sha(script string) string {
	sum := sha1.Sum([]byte(script))
	return hex.EncodeToString(sum[:])
}

var (
	scripts0 = []string{
		"return 1", "return {1,2,{3,'a'}}", "return ARGV", "return redis.call('PING')", "return redis.error_reply('MY err')",
		"return redis.error_reply('nocode')", "return redis.status_reply('x')", "return {ok='fine'}", "return {err='bad'}", "error('boom')", "error({err='ERR tab'})",
		"return nosuch", "return (", "return nil", "return 3.99", "return true", "return false", "redis.setresp(3) return {double=3.5}",
		"redis.setresp(3) return {map={a=1}}", "redis.setresp(3) return {set={a=true}}", "redis.setresp(3) return {big_number='123'}",
		"redis.setresp(3) return {verbatim_string={format='txt', string='x'}}", "redis.setresp(3) return true", "#!lua\nreturn 1",
		"#!lua flags=no-writes\nreturn redis.call('incr','x')", "#!lua flags=nosuch\nreturn 1", "#!nosuch\nreturn 1", "return redis.call('nosuch')", "return redis.call('get')",
		"return redis.pcall('nosuch').err", "return redis.sha1hex('')", "return redis.call('multi')", "return redis.call('blpop','nosuch',0)",
		"return {1,nil,3}", "return {1,2,3,'foo',nil,'bar'}", "return cjson.encode({1,2,3})", "return #KEYS", "", "return redis.log(redis.LOG_DEBUG,'x')",
		"a = 1", "return redis.call('echo', ARGV[1])", "return redis.call('select', 1)", "return redis.call()", "return bit.band(7, 3)",
	}
	scripts1 = []string{
		"return redis.call('get',KEYS[1])", "return redis.call('set',KEYS[1],ARGV[1])", "return redis.call('incr',KEYS[1])",
		"redis.call('expire',KEYS[1],100) return redis.call('type',KEYS[1])", "return redis.pcall('lpush',KEYS[1],'a')",
		"return {redis.call('exists',KEYS[1]), KEYS, ARGV}", "redis.call('del',KEYS[1]) return redis.error_reply('DONE x')",
		"redis.setresp(3) return redis.call('hgetall',KEYS[1])", "return redis.call('type',KEYS[1])['ok']",
	}
	scripts2 = []string{
		"return {redis.call('get',KEYS[1]), redis.call('lrange',KEYS[2],0,-1)}", "return redis.call('rename',KEYS[1],KEYS[2])",
		"return redis.call('lpush',KEYS[2],unpack(ARGV))", "return {KEYS[1],KEYS[2],#ARGV}",
	}
)

// fixtures are the commands that make the keys every session finds.
func fixtures(prefix string) [][]string {
	k := func(name string) string { return prefix + name }
	return [][]string{
		{"SET", k("str1"), "hello"}, {"SET", k("str2"), "the quick brown fox"}, {"SET", k("num"), "10"}, {"SET", k("flt"), "3.5"},
		{"SET", k("bits"), "\xff\x0f\x00"}, {"SET", k("vol"), "v", "EX", "1000"}, {"SET", k("w_1"), "3"}, {"SET", k("w_2"), "1"}, {"SET", k("w_3"), "2"},
		{"RPUSH", k("list1"), "a", "b", "c", "a"}, {"RPUSH", k("list2"), "3", "1", "2"},
		{"SADD", k("set1"), "a", "b", "c"}, {"SADD", k("set2"), "b", "c", "d"}, {"SADD", k("ints"), "1", "2", "3", "10"},
		{"HSET", k("hash1"), "a", "1", "b", "two", "c", "3.5"}, {"HSET", k("hash2"), "a", strings.Repeat("x", 80), "b", "1"},
		{"ZADD", k("zset1"), "1", "a", "2", "b", "3", "c"}, {"ZADD", k("zset2"), "0", "a", "0", "b", "5", "d"},
		{"GEOADD", k("geo1"), "13.361389", "38.115556", "Palermo", "15.087269", "37.502669", "Catania"},
		{"XADD", k("st1"), "1-1", "a", "1"}, {"XADD", k("st1"), "2-1", "b", "2", "c", "3"}, {"XGROUP", "CREATE", k("st1"), "g1", "0"},
		{"XREADGROUP", "GROUP", "g1", "c1", "COUNT", "1", "STREAMS", k("st1"), ">"}, {"PFADD", k("hll1"), "a", "b", "c"},
	}
}
