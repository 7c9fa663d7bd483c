package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// infoWords writes an element of a COMMAND reply as one line, subcommands apart: sets sorted, notes
// left out.
func infoWords(v codec.Value) string {
	var b strings.Builder
	for i, e := range v.Elems[:9] {
		switch i {
		case 2, 6, 7:
			var names []string
			for _, n := range e.Elems {
				names = append(names, n.Text())
			}
			slices.Sort(names)
			fmt.Fprintf(&b, " %v", names)
		case 8:
			for _, spec := range e.Elems {
				flags, _ := spec.Lookup("flags")
				var names []string
				for _, n := range flags.Elems {
					names = append(names, n.Text())
				}
				slices.Sort(names)
				begin, _ := spec.Lookup("begin_search")
				find, _ := spec.Lookup("find_keys")
				fmt.Fprintf(&b, " {%v %s %s}", names, leaves(begin), leaves(find))
			}
		default:
			b.WriteString(" " + e.Text())
		}
	}
	return b.String()
}

func leaves(v codec.Value) string {
	if v.Elems == nil {
		return v.Text()
	}
	words := make([]string, len(v.Elems))
	for i, e := range v.Elems {
		words[i] = leaves(e)
	}
	return "(" + strings.Join(words, " ") + ")"
}

// infoByName maps every command and subcommand of a COMMAND reply to its words.
func infoByName(t *testing.T, reply []byte) map[string]string {
	t.Helper()
	v, err := codec.ParseValue(reply)
	if err != nil {
		t.Fatalf("COMMAND reply: %v", err)
	}
	all := map[string]string{}
	var walk func(list []codec.Value)
	walk = func(list []codec.Value) {
		for _, e := range list {
			all[e.Elems[0].Text()] = infoWords(e)
			walk(e.Elems[9].Elems)
		}
	}
	walk(v.Elems)
	return all
}

func TestTableSaysWhatALiveServersCOMMANDSays(t *testing.T) {
	c := redistest.Dial(t, redistest.Start(t).Addr())
	for _, resp := range []int{2, 3} {
		c.Do("HELLO", resp)
		live := infoByName(t, []byte(c.DoRaw("COMMAND")))
		ours := infoByName(t, Builtin().AppendInfo(nil, resp))
		if len(live) < 360 {
			t.Fatalf("the server knows only %d commands", len(live))
		}
		for name, want := range live {
			if got := ours[name]; got != want {
				t.Errorf("RESP%d %s:\n got %s\nwant %s", resp, name, got, want)
			}
		}
		for _, c := range Builtin().Commands() {
			if _, ok := live[c.Name]; !ok && c.Since == "" {
				t.Errorf("%s: not a command of this server, and no later version is named", c.Name)
			} else if ok && c.Since != "" {
				t.Errorf("%s: said to come with %s, but this server has it", c.Name, c.Since)
			}
		}
	}
}

func TestErrorsHaveTheWordsOfALiveServer(t *testing.T) {
	c := redistest.Dial(t, redistest.Start(t).Addr())
	long := strings.Repeat("x", 300)
	// No name that is another one up to a NUL byte: whether the server takes "get\x00" for GET
	// depends on the seed of its hash function.
	requests := [][]any{
		{"foo"}, {"FOO", "a", "b"}, {""}, {"", ""}, {"foo", "", ""}, {"foo\x00bar", "a\x00b", "c"},
		{"foo\r\nbar", "a\r\n+OK\r\n"}, {"\xff\xfe\x01", "\x80\x90", "\t'quoted'"}, {long}, {long, long}, {"foo", long},
		{"foo", long[:127]}, {"foo", long[:125]}, {"foo", long[:124], "b"}, {"foo", long[:122], "b", "c"},
		{"foo", long[:60], long[:60], long[:60]}, {"foo", long[:123], "yz"}, {long[:128], "a"}, {long[:129], "a"},
		{"foo%s%d", "%s", "%n"}, {"config|get", "a"}, {"foo", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"},
		{"config", "foo"}, {"CONFIG", "Foo", "a"}, {"cOnFiG", long}, {"config", ""}, {"config", "a\x00b"}, {"object", "a\r\nb"},
		{"client", "MAINT_NOTIFICATIONS", "ON"}, {"command", "foo"}, {"config", "get|x"},
		{"get"}, {"GET", "a", "b"}, {"set", "a"}, {"config"}, {"config", "get"}, {"Config", "Set", "a"}, {"client", "id", "x"},
		{"xgroup", "create", "k"}, {"object", "freq"}, {"memory", "usage"}, {"blpop", "k"}, {"exec", "x"}, {"command", "count", "x"},
		{"sentinel", "masters"}, {"zrank", "k", "m", "withscore"}, {"latency"}, {"eval", "x"}, {"mset", "a"}, {"spublish", "a"},
	}
	for _, request := range requests {
		args := byteArgs(request)
		cmd, err := Builtin().Lookup(args)
		if err == nil {
			err = cmd.CheckArity(len(args))
		}
		if err == nil {
			t.Errorf("%q: no error", request)
			continue
		}
		if got, want := string(codec.AppendError(nil, err.Error())), c.DoRaw(request...); got != want {
			t.Errorf("%q:\n got %q\nwant %q", request, got, want)
		}
	}
}

func TestRefusedCommandsHaveTheWordsOfALiveServerWhereItRefusesToo(t *testing.T) {
	s := redistest.Start(t, "--cluster-enabled", "yes", "--enable-debug-command", "no")
	c := redistest.Dial(t, s.Addr())
	for _, request := range [][]any{
		{"replicaof", "a", "1"}, {"slaveof", "a", "1"}, {"failover"}, {"debug", "sleep", "0"}, {"module", "load", "x"},
		{"module", "loadex", "x"}, {"module", "unload", "x"},
	} {
		cmd, err := Builtin().Lookup(byteArgs(request))
		if err != nil || cmd.Way != Refused {
			t.Errorf("%q: %v, way %v", request, err, cmd.Way)
			continue
		}
		if got, want := string(codec.AppendError(nil, cmd.RefusalInCluster())), c.DoRaw(request...); got != want {
			t.Errorf("%q:\n got %q\nwant %q", request, got, want)
		}
	}
}

func TestTimeoutsThatAreReadAreTimeoutsToALiveServer(t *testing.T) {
	c := redistest.Dial(t, redistest.Start(t).Addr())
	for _, text := range []string{"0", "00", "7", "007", "0250", "0.0", "0.5", "00.5", "1.", ".5", "1.2.3", "-1", "-0", "+1", " 1", "1e1", "0x10", "", "nan"} {
		for _, request := range [][]any{{"BLPOP", "k", text}, {"XREAD", "BLOCK", text, "STREAMS", "s", "0"}} {
			args := byteArgs(request)
			cmd, err := Builtin().Lookup(args)
			if err != nil {
				t.Fatal(err)
			}
			c.Do("MULTI") // nothing blocks in it
			c.Do(request...)
			reply := c.DoRaw("EXEC")
			if timeout, _ := cmd.Timeout(args); !timeout.Opaque && reply != "*1\r\n*-1\r\n" {
				t.Errorf("%q is read as %v, and the server says %q", request, timeout.Asked, reply)
			}
		}
	}
}

func byteArgs(words []any) [][]byte {
	args := make([][]byte, len(words))
	for i, w := range words {
		args[i] = []byte(fmt.Sprint(w))
	}
	return args
}

func words(s ...string) [][]byte {
	args := make([][]byte, len(s))
	for i, w := range s {
		args[i] = []byte(w)
	}
	return args
}
