package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// commandRow is an element of a COMMAND reply as Redis 6 wrote it, for commands that carry no key
// specification.
func commandRow(name string, arity, first, last, step int, flags, categories string) []byte {
	b := codec.AppendArray(nil, 7)
	b = codec.AppendBulkString(b, name)
	b = codec.AppendInt(b, int64(arity))
	list := func(words []string) {
		b = codec.AppendArray(b, len(words))
		for _, w := range words {
			b = codec.AppendSimple(b, w)
		}
	}
	list(strings.Fields(flags))
	for _, n := range []int{first, last, step} {
		b = codec.AppendInt(b, int64(n))
	}
	list(strings.Fields(categories))
	return b
}

// containerRow is an element as Redis 7 writes it, for a container with one subcommand.
func containerRow(container, name, flags string) []byte {
	c := Builtin().Find(container)
	b := codec.AppendArray(nil, 10)
	b = codec.AppendBulkString(b, container)
	b = codec.AppendInt(b, int64(c.Arity))
	b = codec.AppendArray(b, 0)
	for range 3 {
		b = codec.AppendInt(b, 0)
	}
	for range 3 {
		b = codec.AppendArray(b, 0)
	}
	b = codec.AppendArray(b, 1)
	return append(b, commandRow(container+"|"+name, 3, 2, 2, 1, flags, "")...)
}

func commandReply(rows ...[]byte) []byte {
	b := codec.AppendArray(nil, len(rows))
	for _, row := range rows {
		b = append(b, row...)
	}
	return b
}

func learnedTable(t testing.TB) *Table {
	t.Helper()
	table, err := Builtin().With(commandReply(
		commandRow("json.set", -4, 1, 1, 1, "write denyoom module", ""),
		commandRow("JSON.MGET", -3, 1, -2, 1, "readonly module", ""),
		commandRow("pair.cmp", 5, 2, 4, 2, "readonly module", ""),
		commandRow("ft.info", 2, 0, 0, 0, "readonly module", ""),
		commandRow("mod.wait", -2, 1, 1, 1, "write blocking module", ""),
		commandRow("zrank", -3, 1, 1, 1, "readonly fast", ""),
		commandRow("session", 2, 0, 0, 0, "fast", "@connection"),
		commandRow("begin", 1, 0, 0, 0, "fast", "@transaction"),
		commandRow("listen", -2, 0, 0, 0, "pubsub", ""),
		commandRow("login", -2, 0, 0, 0, "no_auth", ""),
		commandRow(strings.Repeat("long", 9), -2, 1, 1, 1, "write", ""),
		commandRow("two\r\nlines", -2, 1, 1, 1, "write", ""),
		commandRow("odd", -2, 1, 1, 0, "write", ""),
		[]byte("*-1\r\n"), []byte(":7\r\n"),
		commandRow("flushall", -1, 0, 0, 0, "write", ""),
		commandRow("config", -9, 0, 0, 0, "", ""),
	))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestACommandOnlyTheNodeKnowsTravelsByItsFirstKeys(t *testing.T) {
	table := learnedTable(t)
	for request, want := range map[string][]int{
		"JSON.SET k $ 1": {1}, "json.mget a b $": {1, 2}, "pair.cmp x a y b": {2, 4}, "FT.INFO i": nil, "mod.wait k": {1}, "odd k": nil,
	} {
		args := words(strings.Fields(request)...)
		cmd, err := table.Lookup(args)
		if err != nil {
			t.Errorf("%s: %v", request, err)
			continue
		}
		at, err := cmd.Keys(args, nil)
		if err != nil || !slices.Equal(at, want) || cmd.CheckArity(len(args)) != nil {
			t.Errorf("%s: %v %v", request, at, err)
		}
		if _, err := Builtin().Lookup(args); err == nil {
			t.Errorf("%s: the built-in table has learned it too", request)
		}
	}
	if c := table.Find("mod.wait"); c.Travels(words("mod.wait", "k")) != Blocking {
		t.Errorf("a blocking command is %v", c.Way)
	}
}

func TestTheNodesArityWinsWhereTheNodeAnswers(t *testing.T) {
	table := learnedTable(t)
	if err := table.Find("zrank").CheckArity(4); err != nil {
		t.Errorf("ZRANK with an option of 7.2: %v", err)
	}
	if err := Builtin().Find("zrank").CheckArity(4); err == nil {
		t.Error("the built-in table has changed")
	}
	if got := table.Find("config").Arity; got != -2 {
		t.Errorf("a local command took the node's arity %d", got)
	}
}

// A Valkey lists WATCH and CLIENT REPLY as not allowed inside MULTI.
func TestWhatTheNodeRefusesInsideMultiIsLearned(t *testing.T) {
	table, err := Builtin().With(commandReply(commandRow("watch", -2, 1, -1, 1, "noscript no_multi", ""),
		containerRow("client", "reply", "no_multi"), containerRow("config", "odd", "no_multi")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"watch", "client|reply"} {
		if !table.Find(name).Flags.Has(NoMulti) || Builtin().Find(name).Flags.Has(NoMulti) {
			t.Errorf("%s: not as its node says", name)
		}
	}
	if table.Find("multi").Flags.Has(NoMulti) || table.Find("config|odd") != nil {
		t.Error("learned what the node did not say")
	}
}

func TestCommandsThatKeepStateOnTheirConnectionAreNotLearned(t *testing.T) {
	table := learnedTable(t)
	for _, name := range []string{"session", "begin", "listen", "login", strings.Repeat("long", 9), "two\r\nlines"} {
		if table.Find(name) != nil {
			t.Errorf("%q was learned", name)
		}
	}
}

func TestLearningKeepsIDsAndContainers(t *testing.T) {
	table := learnedTable(t)
	for i, c := range Builtin().Commands() {
		if got := table.Commands()[i]; got.ID != i || got.Name != c.Name || got == c {
			t.Fatalf("ID %d was %s, is %s", i, c.Name, got.Name)
		}
	}
	for i, c := range table.Commands() {
		if c.ID != i || c.Container() != nil && table.Commands()[c.Container().ID] != c.Container() {
			t.Errorf("%s: ID %d, container %v", c.Name, c.ID, c.Container())
		}
	}
	again, err := table.With(commandReply(commandRow("json.del", -2, 1, 1, 1, "write", "")))
	if err != nil || again.Find("json.set") == nil || again.Find("json.del").ID != len(table.Commands()) {
		t.Errorf("a second reply: %v", err)
	}
	if c, err := again.Lookup(words("config", "get", "x")); err != nil || c.Name != "config|get" {
		t.Errorf("config get: %v", err)
	}
}

func TestALiveServerOfTheTablesVersionAddsNothing(t *testing.T) {
	s := redistest.Start(t, "--rename-command", "GET", "fetch", "--rename-command", "DEBUG", "")
	c := redistest.Dial(t, s.Addr())
	for _, resp := range []int{2, 3} {
		c.Do("HELLO", resp)
		table, err := Builtin().With([]byte(c.DoRaw("COMMAND")))
		if err != nil {
			t.Fatal(err)
		}
		added := table.Commands()[len(Builtin().Commands()):]
		for _, c := range added {
			// COMMAND still uses the old name of a renamed command, so that is not new either.
			t.Errorf("learned %s", c.Name)
		}
	}
}

func TestKeySpecificationsAreLearned(t *testing.T) {
	for _, resp := range []int{2, 3} {
		row := Builtin().Find("xreadgroup").AppendInfo(nil, resp)
		row = append(row, Builtin().Find("zunionstore").AppendInfo(nil, resp)...)
		row = append(row, Builtin().Find("mset").AppendInfo(nil, resp)...)
		for _, rename := range [][2]string{{"$10\r\nxreadgroup", "$10\r\nmod.xreads"}, {"$11\r\nzunionstore", "$11\r\nmod.zunions"}, {"$4\r\nmset", "$4\r\nmods"}} {
			row = []byte(strings.Replace(string(row), rename[0], rename[1], 1))
		}
		table, err := Builtin().With(append(codec.AppendArray(nil, 3), row...))
		if err != nil {
			t.Fatal(err)
		}
		for request, want := range map[string][]int{
			"MOD.XREADS a b c d STREAMS s1 s2 > >": {6, 7}, "mod.zunions d 2 a b WEIGHTS 1 2": {1, 3, 4}, "mods a 1 b 2": {1, 3},
		} {
			args := words(strings.Fields(request)...)
			cmd, err := table.Lookup(args)
			if err != nil {
				t.Errorf("RESP%d %s: %v", resp, request, err)
				continue
			}
			if at, err := cmd.Keys(args, nil); err != nil || !slices.Equal(at, want) {
				t.Errorf("RESP%d %s: %v %v", resp, request, at, err)
			}
		}
	}
}

func TestNewSubcommandsAreLearnedOnlyWhereTheyAreForwarded(t *testing.T) {
	table, err := Builtin().With(commandReply(containerRow("object", "age", "readonly"), containerRow("client", "age", "readonly"),
		containerRow("cluster", "bump", "readonly")))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := table.Lookup(words("OBJECT", "AGE", "k")); err != nil || c.Name != "object|age" || c.First != 2 {
		t.Errorf("object age: %v", err)
	}
	for _, name := range []string{"client|age", "cluster|bump"} {
		if table.Find(name) != nil {
			t.Errorf("%s was learned", name)
		}
	}
}

func TestAReplyThatIsNoCommandListChangesNothing(t *testing.T) {
	for _, reply := range []string{"", "+OK\r\n", "-ERR unknown command 'COMMAND'\r\n", "*1\r\n", ":1\r\n"} {
		if table, err := Builtin().With([]byte(reply)); !errors.Is(err, ErrNotCommandReply) || table != nil {
			t.Errorf("%q: %v", reply, err)
		}
	}
}

func TestACommandLaterThanTheNodeIsUnknown(t *testing.T) {
	node := redistest.Start(t)
	old, err := Builtin().With([]byte(redistest.Dial(t, node.Addr()).DoRaw("COMMAND")))
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{"httl k FIELDS 1 f", "WAITAOF 0 0 0", "vadd k", "CLUSTER MYSHARDID", "cluster slot-stats",
		"client setinfo lib-name x", "client no-touch on", "client capa redirect", "client import-source on"} {
		args := words(strings.Fields(request)...)
		if cmd, err := old.Lookup(args); err == nil {
			t.Errorf("%s is %s, which Redis 7.0 has not", request, cmd.Name)
		}
		if _, err := Builtin().Lookup(args); err != nil {
			t.Errorf("before any node has said: %v", err)
		}
	}
	for _, request := range []string{"client setname x", "get a", "cluster shards", "xgroup create a b c"} {
		if _, err := old.Lookup(words(strings.Fields(request)...)); err != nil {
			t.Error(err)
		}
	}
	if len(old.Commands()) != len(Builtin().Commands()) {
		t.Error("a command that is left out has lost its ID")
	}
	again, err := old.With(commandReply(commandRow("get", 2, 1, 1, 1, "", "")))
	if err != nil {
		t.Fatal(err)
	}
	if cmd, err := again.Lookup(words("httl", "k", "FIELDS", "1", "f")); err != nil || cmd.ID != Builtin().Find("httl").ID {
		t.Errorf("a node that does not say what it lacks: %v", err)
	}
}

func TestLearnedCommandsMove(t *testing.T) {
	table, err := Builtin().With([]byte("*2\r\n*6\r\n$3\r\nm.x\r\n:-2\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n" +
		"*6\r\n$3\r\nm.y\r\n:-2\r\n*1\r\n+blocking\r\n:1\r\n:1\r\n:1\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	moved := table.Moved(func(c *Command) (leased, named bool) {
		return c.Name == "m.x" || c.Name == "vcard", !slices.Contains([]string{"vadd", "vinfo"}, c.Name)
	})
	for request, way := range map[string][2]Way{
		"m.x k": {Shared, Blocking}, "m.y k": {Blocking, Shared}, "vcard v": {Shared, Blocking}, "vsim v ELE e": {Blocking, Shared},
		"vinfo v": {Shared, Shared}, "VADD v VALUES 1 1 e CAS": {Blocking, Blocking}, "GET k": {Shared, Shared}, "BLPOP k 0": {Blocking, Blocking},
	} {
		args := words(strings.Fields(request)...)
		for i, of := range []*Table{table, moved} {
			cmd, err := of.Lookup(args)
			if err != nil {
				t.Fatal(err)
			}
			if got := cmd.Travels(args); got != way[i] {
				t.Errorf("%s: %v, want %v", request, got, way[i])
			}
			if keys, err := cmd.Keys(args, nil); err != nil || len(keys) != 1 {
				t.Errorf("%s: keys %v %v", request, keys, err)
			}
		}
	}
}

func TestTipsOfALearnedCommandMakeItAFanOut(t *testing.T) {
	for _, c := range []struct {
		first         int
		flag, request string
		response      string
		way           Way
		join          Join
	}{
		{0, "write", "all_shards", "agg_sum", FanOut, JoinSum},
		{0, "write", "all_nodes", "agg_min", FanOut, JoinLeast},
		{0, "write", "all_shards", "agg_max", FanOut, JoinMost},
		{0, "write", "all_shards", "agg_logical_and", FanOut, JoinAnd},
		{0, "write", "all_shards", "agg_logical_or", FanOut, JoinOr},
		{0, "write", "all_nodes", "all_succeeded", FanOut, JoinSame},
		{0, "write", "all_shards", "one_succeeded", FanOut, JoinAny},
		{0, "write", "all_shards", "special", Shared, JoinNone},
		{0, "write", "special", "agg_sum", Shared, JoinNone},
		{1, "write", "all_shards", "agg_sum", Shared, JoinNone},
		{0, "movablekeys", "all_shards", "agg_sum", Shared, JoinNone},
		{0, "blocking", "all_shards", "agg_sum", Blocking, JoinNone},
	} {
		request, response := "request_policy:"+c.request, "response_policy:"+c.response
		table, err := Builtin().With(fmt.Appendf(nil, "*1\r\n*8\r\n+m.x\r\n:-1\r\n*1\r\n+%s\r\n:%d\r\n:%[2]d\r\n:%[2]d\r\n*0\r\n*2\r\n+%s\r\n+%s\r\n", c.flag, c.first, request, response))
		if err != nil {
			t.Fatal(err)
		}
		cmd := table.Find("m.x")
		if cmd.Way != c.way || cmd.Join != c.join || cmd.Moves() != (c.way != FanOut) {
			t.Errorf("%+v: %v %v", c, cmd.Way, cmd.Join)
		}
	}
}
