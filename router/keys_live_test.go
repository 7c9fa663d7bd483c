package router

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A syntax is a way to write a command, for commands whose keys are not simply at First, Last and
// Step. In it K is a key, V any word, I an integer, N{...} a number and then so many of what is in
// the braces, {...}* none or more, {...}+ one or more, {a|b|} one of them. All else is literal.
var syntaxes = map[string][]string{
	"blmpop":               {"V N{K} LEFT", "V N{K} RIGHT COUNT I"},
	"bzmpop":               {"V N{K} MIN", "V N{K} MAX COUNT I"},
	"lmpop":                {"N{K} LEFT", "N{K} RIGHT COUNT I"},
	"zmpop":                {"N{K} MIN", "N{K} MAX COUNT I"},
	"eval":                 {"V N{K} {V}*", "V 0 {V}*"},
	"eval_ro":              {"V N{K} {V}*", "V 0 {V}*"},
	"evalsha":              {"V N{K} {V}*", "V 0 {V}*"},
	"evalsha_ro":           {"V N{K} {V}*", "V 0 {V}*"},
	"fcall":                {"V N{K} {V}*", "V 0 {V}*"},
	"fcall_ro":             {"V N{K} {V}*", "V 0 {V}*"},
	"sintercard":           {"N{K}", "N{K} LIMIT I"},
	"zintercard":           {"N{K}", "N{K} LIMIT I"},
	"zdiff":                {"N{K}", "N{K} WITHSCORES"},
	"zinter":               {"N{K}", "N{K} AGGREGATE MAX WITHSCORES", "N{K} WEIGHTS {I}+"},
	"zunion":               {"N{K}", "N{K} AGGREGATE MAX WITHSCORES", "N{K} WEIGHTS {I}+"},
	"zdiffstore":           {"K N{K}"},
	"zinterstore":          {"K N{K}", "K N{K} AGGREGATE SUM", "K N{K} WEIGHTS {I}+"},
	"zunionstore":          {"K N{K}", "K N{K} AGGREGATE SUM", "K N{K} WEIGHTS {I}+"},
	"xread":                {"{COUNT I|} {BLOCK I|} STREAMS M", "BLOCK I COUNT I STREAMS M", "{block I|} streams M"},
	"xreadgroup":           {"GROUP V V {COUNT I|} {BLOCK I|} {NOACK|} STREAMS M", "group V V streams M"},
	"sort":                 {"K", "K {BY V|} {LIMIT I I|} {GET V}* {ASC|DESC|} {ALPHA|} {STORE K|}", "K store K", "K BY STORE STORE K"},
	"sort_ro":              {"K", "K {BY V|} {LIMIT I I|} {GET V}* {ASC|DESC|} {ALPHA|}"},
	"georadius":            {"K I I I m {WITHDIST|} {COUNT I|} {STORE K|STOREDIST K|}", "K I I I km store K", "K I I I m STORE K STOREDIST K"},
	"georadiusbymember":    {"K V I m {WITHDIST|} {COUNT I|} {STORE K|STOREDIST K|}", "K V I km storedist K"},
	"migrate":              {"V I K I I {COPY|} {REPLACE|}", "V I  I I {COPY|} {AUTH V|AUTH2 V V|} KEYS {K}+", "V I  I I REPLACE keys {K}+"},
	"bitop":                {"AND K {K}+", "not K K"},
	"geosearchstore":       {"K K FROMLONLAT I I BYRADIUS I m"},
	"lcs":                  {"K K {LEN|IDX|}"},
	"pfmerge":              {"K {K}+"}, // PFMERGE key alone: see TestADestinationAloneRoutesTheRequest
	"object|freq":          {"K"},
	"memory|usage":         {"K {SAMPLES I|}"},
	"xgroup|create":        {"K V V {MKSTREAM|}"},
	"copy":                 {"K K {DB I|} {REPLACE|}"},
	"georadius_ro":         {"K I I I m {COUNT I|}"},
	"georadiusbymember_ro": {"K V I m {COUNT I|}"},
}

// awkward words are options, numbers and bytes, used as keys and values.
var awkward = []string{
	"STREAMS", "streams", "BLOCK", "STORE", "store", "STOREDIST", "KEYS", "GROUP", "COUNT", "BY", "GET", "LIMIT", "0", "1", "2", "-1", "",
	"{}", "{", "}", "a{b", "a}b{c}", "{a}{b}", "{}{a}", "a{}b", "{{a}}", "\x00", "\xff\xfe{\x80}\r\n", "{user:1}:name", "$", ">",
}

type writer struct{ r *rand.Rand }

func (w writer) key() string {
	switch w.r.IntN(6) {
	case 0:
		return awkward[w.r.IntN(len(awkward))]
	case 1:
		b := make([]byte, w.r.IntN(40))
		for i := range b {
			b[i] = byte(w.r.IntN(256))
		}
		return string(b)
	case 2:
		return fmt.Sprintf("k{%d}%d", w.r.IntN(100), w.r.IntN(1000))
	}
	return "key:" + strconv.Itoa(w.r.IntN(100000))
}

// value is a word that may be anything but a keyword of its own command: as an argument BY STORE
// would be legal, as a group name "STREAMS" is not what COMMAND GETKEYS expects.
func (w writer) value() string {
	if w.r.IntN(4) == 0 {
		return strings.Repeat("v", w.r.IntN(30))
	}
	return "v" + strconv.Itoa(w.r.IntN(1000))
}

// write expands a syntax.
func (w writer) write(syntax string) []string {
	var args []string
	for len(syntax) > 0 {
		word, rest, _ := strings.Cut(syntax, " ")
		if i := strings.IndexByte(syntax, '{'); i >= 0 && i <= 1 && i < len(word) {
			body, after, _ := strings.Cut(syntax[i+1:], "}")
			repeat, mark := 1, byte(' ')
			if after != "" {
				mark = after[0]
			}
			switch {
			case i == 1:
				repeat = 1 + w.r.IntN(6)
				args = append(args, strconv.Itoa(repeat))
			case mark == '*':
				repeat = w.r.IntN(4)
			case mark == '+':
				repeat = 1 + w.r.IntN(5)
			}
			choices := strings.Split(body, "|")
			for range repeat {
				if choice := choices[w.r.IntN(len(choices))]; choice != "" {
					args = append(args, w.write(choice)...)
				}
			}
			syntax = strings.TrimPrefix(strings.TrimLeft(after, "*+"), " ")
			continue
		}
		switch word {
		case "K":
			args = append(args, w.key())
		case "V":
			args = append(args, w.value())
		case "I":
			args = append(args, strconv.Itoa(w.r.IntN(100)))
		case "M": // streams, then as many IDs
			n := 1 + w.r.IntN(5)
			for range n {
				args = append(args, w.key())
			}
			for range n {
				args = append(args, "0-"+strconv.Itoa(w.r.IntN(9)))
			}
		default:
			args = append(args, word)
		}
		syntax = rest
	}
	return args
}

// plain fills a command of plain ranges: as many words as its arity allows, in whole steps.
func (w writer) plain(c *Command, nameWords int) []string {
	total := c.Arity
	if total < 0 {
		total = -total + w.r.IntN(6)*max(c.Step, 1)
	}
	args := make([]string, total-nameWords)
	for i := range args {
		args[i] = w.key()
	}
	return args
}

// request writes a valid request for the command.
func (w writer) request(c *Command) []string {
	name := strings.Split(c.Name, "|")
	for i := range name {
		if w.r.IntN(2) == 0 {
			name[i] = strings.ToUpper(name[i])
		}
	}
	var args []string
	if forms := syntaxes[c.Name]; forms != nil {
		args = w.write(forms[w.r.IntN(len(forms))])
	} else {
		args = w.plain(c, len(name))
	}
	return append(name, args...)
}

func TestKeysAndSlotsAreThoseOfALiveServer(t *testing.T) {
	const requests = 12000
	s := redistest.Start(t, "--cluster-enabled", "yes")
	conn := redistest.Dial(t, s.Addr())
	w := writer{rand.New(rand.NewPCG(1, 2))}

	var moving, ranged []*Command
	for _, c := range Builtin().Commands() {
		switch {
		case c.Since != "" || c.Keyless() || c.Channels():
		case syntaxes[c.Name] != nil:
			moving = append(moving, c)
		case c.Flags.Has(MovableKeys):
			t.Errorf("%s: no syntax to generate it by", c.Name)
		default:
			ranged = append(ranged, c)
		}
	}
	if len(moving) != len(syntaxes) {
		t.Errorf("%d of %d syntaxes are of commands with keys", len(moving), len(syntaxes))
	}

	var at []int
	seen := map[string]int{}
	mismatches, keyCount := 0, 0
	const batch = 200
	for done := 0; done < requests; done += batch {
		var asked [][]string
		for i := range batch {
			from := moving
			if i%2 == 0 {
				from = ranged
			}
			c := from[(done+i)/2%len(from)]
			request := w.request(c)
			seen[c.Name]++
			asked = append(asked, request)
			conn.Send("COMMAND", "GETKEYS", request)
		}
		var keys []string
		for _, request := range asked {
			want := fmt.Sprintf("%q", conn.Recv())
			args := words(request...)
			cmd, err := Builtin().Lookup(args)
			if err != nil {
				t.Fatalf("%q: %v", request, err)
			}
			at, err = cmd.Keys(args, at)
			found := make([]any, len(at))
			for i, k := range at {
				found[i] = request[k]
				keys = append(keys, request[k])
			}
			got := fmt.Sprintf("%q", found)
			if err != nil {
				got = fmt.Sprintf("%q", redistest.Error(err.Error()))
			}
			if got != want {
				mismatches++
				t.Errorf("%q:\n got %s\nwant %s", request, got, want)
			}
		}
		for _, k := range keys {
			conn.Send("CLUSTER", "KEYSLOT", k)
		}
		keyCount += len(keys)
		for _, k := range keys {
			if got, want := int64(Slot([]byte(k))), conn.Recv(); got != want {
				mismatches++
				t.Errorf("slot of %q: got %d, want %v", k, got, want)
			}
		}
	}
	t.Logf("%d requests of %d commands, %d keys, %d mismatches", requests, len(seen), keyCount, mismatches)
	if len(seen) != len(moving)+len(ranged) {
		t.Errorf("%d commands of %d were generated", len(seen), len(moving)+len(ranged))
	}
}

func TestShardChannelsAreFoundLikeKeys(t *testing.T) {
	for _, request := range [][]string{{"SPUBLISH", "ch", "m"}, {"ssubscribe", "a", "b"}, {"SUNSUBSCRIBE", "a"}} {
		cmd, err := Builtin().Lookup(words(request...))
		if err != nil {
			t.Fatal(err)
		}
		at, err := cmd.Keys(words(request...), nil)
		if err != nil || at[0] != 1 || cmd.Keyless() || !cmd.Channels() {
			t.Errorf("%q: %v %v", request, at, err)
		}
	}
}

func TestRequestsWithoutRecognisableKeysAreAnError(t *testing.T) {
	for _, request := range [][]string{
		{"zunion", "0", "a"}, {"zunion", "3", "a", "b"}, {"zunion", "-1", "a"}, {"zunion", "x", "a"},
		{"zunion", "99999999999999999999", "a"}, {"eval", "s", "x"}, {"eval", "s", "2", "a"},
		{"eval", "s", ""}, {"xread", "count", "1", "stream", "a"}, {"xread", "block", "0", "streams"},
		{"xread", "block", "streams", "streams", "a", "b", "0"}, {"sort"}, {"get"}, {"mget"},
		{"migrate", "h", "1", "k", "0", "1", "keys", "a"}, {"migrate", "h", "1", "", "0", "1", "keys"}, {"object", "freq"},
	} {
		cmd, err := Builtin().Lookup(words(request...))
		if err != nil {
			t.Fatal(err)
		}
		if at, err := cmd.Keys(words(request...), nil); err != ErrKeys || len(at) != 0 {
			t.Errorf("%q: %v %v", request, at, err)
		}
	}
}

// A number of keys that is no plain number counts keys all the same: a Cluster's node redirects by them.
func TestNumbersOfKeysAreReadAsRedisReadsThem(t *testing.T) {
	conn := redistest.Dial(t, redistest.Start(t).Addr())
	for _, request := range []string{"eval s N a b c", "fcall_ro f N a b", "zunion N a b", "zunionstore d N a b", "zintercard N a b", "sintercard N a b",
		"lmpop N a b left", "bzmpop 0 N a b min", "blmpop 1 N a b left count 2"} {
		for _, number := range []string{"1", "2", "01", "+1", "1 ", " 2", "\t\v2", "1x", "2\x00", "1e5", "1.9", "-1", "-0", "--1", "+-1", "x", "", " ", "3x", "99x",
			"2147483648", "4294967297", "-4294967295", "18446744073709551618", "9223372036854775807x", "9223372036854775806", "-9223372036854775809", "99999999999999999999"} {
			line := strings.Fields(request)
			line[slices.Index(line, "N")] = number
			cmd, _ := Builtin().Lookup(words(line...))
			at, _ := cmd.Keys(words(line...), nil)
			var got []string
			for _, i := range at {
				got = append(got, line[i])
			}
			if line[0] == "zunionstore" && slices.Equal(got, []string{"d"}) {
				continue // berth sends it to the owner of the destination
			}
			reply := conn.Do("COMMAND", "GETKEYS", line)
			list, _ := reply.([]any)
			var want []string
			for _, key := range list {
				want = append(want, key.(string))
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%q: got %q; Redis says %q", line, got, reply)
			}
		}
	}
}

func TestADestinationAloneRoutesTheRequest(t *testing.T) {
	for _, request := range [][]string{{"pfmerge", "d"}, {"zunionstore", "d", "0", "a"}, {"zunionstore", "d", "9", "a"}} {
		cmd, _ := Builtin().Lookup(words(request...))
		if at, err := cmd.Keys(words(request...), nil); err != nil || !slices.Equal(at, []int{1}) {
			t.Errorf("%q: %v %v", request, at, err)
		}
	}
}
