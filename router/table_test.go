package router

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIDsAreDenseAndContainersComeFirst(t *testing.T) {
	for i, c := range Builtin().Commands() {
		if c.ID != i {
			t.Errorf("%s: ID %d at %d", c.Name, c.ID, i)
		}
		head, _, isSub := strings.Cut(c.Name, "|")
		if isSub != (c.Container() != nil) {
			t.Errorf("%s: container %v", c.Name, c.Container())
			continue
		}
		if isSub && (c.Container().Name != head || c.Container().ID >= c.ID || !slices.Contains(c.Container().Subcommands(), c)) {
			t.Errorf("%s: not after its container", c.Name)
		}
	}
}

func TestEveryRowIsCompleteInItself(t *testing.T) {
	for _, c := range Builtin().Commands() {
		if c.Arity == 0 {
			t.Errorf("%s: no arity", c.Name)
		}
		if (c.Way == Split || c.Way == FanOut) != (c.Join != JoinNone) {
			t.Errorf("%s: %v with join %q", c.Name, c.Way, c.Join)
		}
		if (c.Way == Refused) != (c.Refusal() != "") || strings.ContainsAny(c.Refusal(), "\r\n") {
			t.Errorf("%s: %v with refusal %q", c.Name, c.Way, c.Refusal())
		}
		if c.Is(Protected) != strings.Contains(c.Refusal(), "command not allowed. If the enable-") || c.Is(Debug) && !c.Is(Protected) {
			t.Errorf("%s: protected %v with refusal %q", c.Name, c.Is(Protected), c.Refusal())
		}
		if c.Way == Split && c.Keyless() || c.Way == FanOut && !c.Keyless() {
			t.Errorf("%s: %v, keyless %v", c.Name, c.Way, c.Keyless())
		}
		if c.Flags.Has(MayBlock) && c.Way != Blocking && c.Way != Refused {
			t.Errorf("%s: may block, but is %v", c.Name, c.Way)
		}
		if c.Flags.Has(Write | Readonly) {
			t.Errorf("%s: writes and is read-only", c.Name)
		}
	}
}

func TestCommandsTravelTheirWay(t *testing.T) {
	ways := map[Way]string{
		Local: `ping echo hello auth select quit reset info time client|id client|setinfo client|no-touch client|tracking
			command command|docs config|get config|set cluster|slots cluster|shards cluster|keyslot readonly readwrite asking acl|whoami wait`,
		Shared: "get set fcall zunionstore sort publish spublish xadd object|encoding lolwut script|help hgetex vcard",
		Split:  "mget mset del unlink exists touch",
		FanOut: `dbsize keys flushall flushdb scan randomkey script|load script|exists script|flush script|kill
			function|load function|delete pubsub|channels pubsub|numsub pubsub|numpat`,
		Blocking: "blpop brpop brpoplpush blmove blmpop bzpopmin bzpopmax bzmpop xread xreadgroup migrate vadd vsim",
		Pinned:   "subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe monitor sync psync replconf",
		Script:   "eval eval_ro evalsha evalsha_ro",
		Txn:      "multi exec discard watch unwatch",
		Refused: `replicaof slaveof failover shutdown module|load debug waitaof
			restore-asking cluster|meet cluster|setslot himport`,
	}
	for way, names := range ways {
		for _, name := range strings.Fields(names) {
			c := Builtin().Find(name)
			if c == nil || c.Way != way {
				t.Errorf("%s: %v, want %v", name, c, way)
			}
		}
	}
}

func TestWhatThreadsOfANodeAnswerHasAConnectionOfItsOwn(t *testing.T) {
	for request, way := range map[string]Way{
		"VSIM v ELE e": Blocking, "VADD v VALUES 1 1 e CAS": Blocking, "vadd v VALUES 1 1 e cas": Blocking,
		"VADD v VALUES 1 1 e": Shared, "VADD CAS VALUES 1 1 e": Shared, "VCARD v": Shared,
		"FT.SEARCH i *": Blocking, "GRAPH.QUERY g q": Blocking, "FTX i": Shared,
	} {
		args := words(strings.Fields(request)...)
		table, err := Builtin().With([]byte("*3\r\n*6\r\n$9\r\nft.search\r\n:-3\r\n*1\r\n+readonly\r\n:0\r\n:0\r\n:0\r\n" +
			"*6\r\n$11\r\ngraph.query\r\n:-3\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n*6\r\n$3\r\nftx\r\n:-2\r\n*1\r\n+readonly\r\n:0\r\n:0\r\n:0\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		cmd, err := table.Lookup(args)
		if err != nil {
			t.Fatal(err)
		}
		if got := cmd.Travels(args); got != way {
			t.Errorf("%s: %v", request, got)
		}
	}
}

func TestBlockIsAnOptionAndNotAnyWordCalledBlock(t *testing.T) {
	for _, c := range []struct {
		request string
		arg     int
		unit    time.Duration
		way     Way
	}{
		{"BLPOP a b 0", 3, time.Second, Blocking},
		{"BRPOP a 0.5", 2, time.Second, Blocking},
		{"BLMOVE a b LEFT RIGHT 1", 5, time.Second, Blocking},
		{"BRPOPLPUSH a b 7", 3, time.Second, Blocking},
		{"BLMPOP 3 2 a b LEFT", 1, time.Second, Blocking},
		{"BZMPOP 3 1 a MIN", 1, time.Second, Blocking},
		{"BZPOPMIN a 2", 2, time.Second, Blocking},
		{"XREAD BLOCK 100 STREAMS a 0", 2, time.Millisecond, Blocking},
		{"xread count 2 block 0 streams a $", 4, time.Millisecond, Blocking},
		{"XREAD COUNT 2 STREAMS BLOCK 0", -1, 0, Shared},
		{"XREAD STREAMS BLOCK a 0 0", -1, 0, Shared},
		{"XREADGROUP GROUP BLOCK c STREAMS s >", -1, 0, Shared},
		{"XREADGROUP GROUP g BLOCK STREAMS s >", -1, 0, Shared},
		{"XREADGROUP GROUP g BLOCK BLOCK 5 STREAMS s >", 5, time.Millisecond, Blocking},
		{"XREADGROUP GROUP g c NOACK BLOCK 5 STREAMS s >", 6, time.Millisecond, Blocking},
		{"XREADGROUP GROUP g c CLAIM 100 STREAMS s >", -1, 0, Shared},
		{"XREADGROUP GROUP g c COUNT BLOCK STREAMS s >", -1, 0, Shared},
		{"GET BLOCK", -1, 0, Shared},
	} {
		args := words(strings.Fields(c.request)...)
		cmd, err := Builtin().Lookup(args)
		if err != nil {
			t.Fatal(err)
		}
		arg, unit := cmd.timeoutArg(args)
		if arg != c.arg || arg >= 0 && unit != c.unit || cmd.Blocks(args) != (c.arg >= 0) || cmd.Travels(args) != c.way {
			t.Errorf("%s: argument %d in %v, %v", c.request, arg, unit, cmd.Travels(args))
		}
	}
	hidden := words("XREAD", "BLOCK\x00", "0", "STREAMS", "a", "$")
	if cmd, _ := Builtin().Lookup(hidden); !cmd.Blocks(hidden) {
		t.Error("BLOCK with a NUL byte after it is an option to Redis")
	}
}

func TestKeysOfLaterCommandsAreKnown(t *testing.T) {
	for request, want := range map[string][]int{
		"MSETEX 2 a 1 b 2 EX 10": {2, 4}, "HGETEX h EX 1 FIELDS 1 f": {1}, "VADD v FP32 x e": {1}, "XACKDEL s g IDS 1 0-1": {1}, "DELEX k": {1},
	} {
		args := words(strings.Fields(request)...)
		cmd, err := Builtin().Lookup(args)
		if err != nil {
			t.Fatal(err)
		}
		if at, err := cmd.Keys(args, nil); err != nil || !slices.Equal(at, want) || cmd.CheckArity(len(args)) != nil {
			t.Errorf("%s: %v %v", request, at, err)
		}
	}
}

func TestKeysOfSeveralSlotsAreCrossSlot(t *testing.T) {
	cmd := Builtin().Find("mset")
	slot, keys, err := cmd.SlotOf(words("MSET", "{a}1", "x", "{a}2", "y"), nil)
	if err != nil || slot != int(Slot([]byte("a"))) || !slices.Equal(keys, []int{1, 3}) {
		t.Errorf("one slot: %d %v %v", slot, keys, err)
	}
	if _, keys, err := cmd.SlotOf(words("MSET", "a", "x", "b", "y"), nil); err != ErrCrossSlot || !slices.Equal(keys, []int{1, 3}) {
		t.Errorf("two slots: %v %v", keys, err)
	}
	if slot, _, err := Builtin().Find("eval").SlotOf(words("EVAL", "return 1", "0"), nil); slot != -1 || err != nil {
		t.Errorf("no key: %d %v", slot, err)
	}
}

func TestAnMSETThatLacksAValueIsNotCut(t *testing.T) {
	for nargs, complete := range map[int]bool{3: true, 4: false, 5: true, 6: false} {
		for _, name := range []string{"mset", "msetnx"} {
			if err := Builtin().Find(name).CheckSteps(nargs); (err == nil) != complete {
				t.Errorf("%s of %d words: %v", name, nargs, err)
			}
		}
	}
	if err := Builtin().Find("mget").CheckSteps(4); err != nil {
		t.Error(err)
	}
}

func TestTheWayFromRequestToShardDoesNotAllocate(t *testing.T) {
	top := Even([]string{"a:1", "b:2", "c:3"})
	at := make([]int, 0, 16)
	for _, request := range []string{"GET k", "MSET {a}1 1 {a}2 2", "ZUNIONSTORE {a} 2 {a}b {a}c", "XREAD BLOCK 0 STREAMS a 0", "CONFIG GET x", "EVAL s 1 k v"} {
		args := words(strings.Fields(request)...)
		if n := testing.AllocsPerRun(100, func() {
			cmd, err := Builtin().Lookup(args)
			if err != nil || cmd.CheckArity(len(args)) != nil {
				t.Fatal(err)
			}
			slot, _, err := cmd.SlotOf(args, at)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Travels(args)
			top.Shard(uint16(max(slot, 0)))
		}); n != 0 {
			t.Errorf("%s: %v allocations", request, n)
		}
	}
}

func TestHTTPIsRecognised(t *testing.T) {
	for name, want := range map[string]bool{"POST": true, "post": true, "Host:": true, "POST\x00x": true, "GET": false, "POSTS": false, "Host": false, "": false} {
		if CrossProtocol([]byte(name)) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}

func FuzzLookupAndKeysStayWithinTheRequest(f *testing.F) {
	for _, s := range []string{
		"GET k", "EVAL s 2 a b", "ZUNIONSTORE d 2 a b", "XREAD BLOCK 0 STREAMS a 0", "MIGRATE h 1  0 1 KEYS a b", "CONFIG GET x",
		"SORT k LIMIT", "GEORADIUS k 1 2 3 m STORE", "MSET a 1 b", "ZUNION 4294967295 a", "foo\r a", "XREADGROUP GROUP", "MSETEX 9 a",
	} {
		f.Add(s)
	}
	tables := []*Table{Builtin(), learnedTable(f)}
	f.Fuzz(func(t *testing.T, s string) {
		args := words(strings.Split(s, " ")...)
		for _, table := range tables {
			cmd, err := table.Lookup(args)
			if err != nil {
				if cmd != nil || strings.ContainsAny(err.Error(), "\r\n") {
					t.Fatalf("%q: %v", s, err)
				}
				continue
			}
			checkKeys(t, cmd, args)
		}
		// Any command with any arguments, also ones its arity forbids.
		sum := 0
		for _, b := range []byte(s) {
			sum += int(b)
		}
		all := tables[1].Commands()
		checkKeys(t, all[sum%len(all)], args)
	})
}

func checkKeys(t *testing.T, cmd *Command, args [][]byte) {
	at, err := cmd.Keys(args, nil)
	if err != nil && len(at) > 0 {
		t.Fatalf("%s %q: %v and an error", cmd.Name, args, at)
	}
	for _, k := range at {
		if k < 1 || k >= len(args) {
			t.Fatalf("%s %q: key at %d", cmd.Name, args, k)
		}
	}
	if arg, _ := cmd.timeoutArg(args); arg == 0 || arg < -1 || arg >= len(args) {
		t.Fatalf("%s %q: timeout at %d", cmd.Name, args, arg)
	}
	cmd.Travels(args)
	_ = cmd.CheckArity(len(args))
}

func BenchmarkLookup(b *testing.B) {
	for _, request := range []string{"GET k", "set k v", "ZRANGEBYSCORE k 0 1", "CONFIG GET x"} {
		args := words(strings.Fields(request)...)
		b.Run(strings.Fields(request)[0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Builtin().Lookup(args); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkKeys(b *testing.B) {
	for _, request := range []string{
		"GET k", "MSET a 1 b 2 c 3 d 4", "ZUNIONSTORE d 3 a b c", "XREAD BLOCK 0 STREAMS a b 0 0", "SORT k BY x STORE d", "EVAL s 2 a b 1",
	} {
		args := words(strings.Fields(request)...)
		cmd, err := Builtin().Lookup(args)
		if err != nil {
			b.Fatal(err)
		}
		at := make([]int, 0, 16)
		b.Run(strings.Fields(request)[0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if at, err = cmd.Keys(args, at); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLookupToSlot(b *testing.B) {
	args := words("GET", "key:000000000042")
	at := make([]int, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		cmd, err := Builtin().Lookup(args)
		if err != nil || cmd.CheckArity(len(args)) != nil {
			b.Fatal(err)
		}
		if _, _, err := cmd.SlotOf(args, at); err != nil {
			b.Fatal(err)
		}
	}
}
