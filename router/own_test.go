package router

import (
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestOwnCommandsComeAfterThoseOfRedisAndChangeNone(t *testing.T) {
	own := WithOwn().Commands()[len(Builtin().Commands()):]
	if len(own) == 0 {
		t.Fatal("no own commands")
	}
	for i, c := range Builtin().Commands() {
		if got := WithOwn().Commands()[i]; got == c || got.Name != c.Name || got.ID != c.ID {
			t.Fatalf("%d is %s, want a copy of %s", i, got.Name, c.Name)
		}
	}
	for i, c := range own {
		if c.ID != len(Builtin().Commands())+i || WithOwn().Find(c.Name) != c {
			t.Errorf("%s: ID %d, not found by its name", c.Name, c.ID)
		}
		if Builtin().Find(c.Name) != nil {
			t.Errorf("%s: Redis has it too", c.Name)
		}
		if c.Way != Local || c.Flags.Has(NoAuth) || !c.Keyless() {
			t.Errorf("%s: %v, flags %b", c.Name, c.Way, c.Flags)
		}
	}
}

func TestNoNodeKnowsAnOwnCommand(t *testing.T) {
	c := redistest.Dial(t, redistest.Start(t).Addr())
	for _, cmd := range WithOwn().Commands()[len(Builtin().Commands()):] {
		if cmd.Container() == nil {
			if got := c.Do("COMMAND", "INFO", cmd.Name); len(got.([]any)) != 1 || got.([]any)[0] != nil {
				t.Errorf("%s: %v", cmd.Name, got)
			}
		}
	}
}

func TestOwnCommandsOutliveWhatANodeSays(t *testing.T) {
	// A module of the node has a PROXY, with one subcommand that berth has too and one that it lacks.
	reply := "*1\r\n*10\r\n$5\r\nproxy\r\n:-1\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n" +
		"*1\r\n*6\r\n$11\r\nproxy|steal\r\n:9\r\n*0\r\n:0\r\n:0\r\n:0\r\n"
	table, err := WithOwn().With([]byte(reply))
	if err != nil {
		t.Fatal(err)
	}
	if c := table.Find("proxy"); c.Way != Local || c.Arity != -2 || table.Find("proxy|steal") != nil {
		t.Errorf("PROXY travels %v with arity %d", c.Way, c.Arity)
	}
	if _, err := table.Lookup(words("proxy", "steal")); err == nil ||
		err.Error() != "ERR unknown subcommand 'steal'. Try PROXY HELP." {
		t.Errorf("unknown subcommand: %v", err)
	}
}
