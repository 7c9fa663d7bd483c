package main

import (
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

func TestCommandAnswersAsRedis(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	asRedis(t, startBerth(t, node.Addr()), node,
		"command nothing", "command count", "command count x", "command info get", "command info GET nothing config|get config|nothing |",
		"command info xread eval sort object|freq bitfield set client|kill config|set",
		"command list nothing", "command list filterby", "command list filterby nothing x", "command list filterby module x",
		"command list filterby aclcat nothing", "command list filterby pattern", "command list filterby pattern x y",
		"command getkeys", "command getkeys x", "command getkeys get", "command getkeys get a b", "command getkeys nothing a",
		"command getkeys ping a", "command getkeys mset a b c d", "command getkeys config get", "command getkeys config nothing x",
		"command getkeys eval x 0 a", "command getkeys eval x 2 a b c", "command getkeys eval x 5 a", "command getkeys zunionstore d 1 a",
		"command getkeys zunionstore d x a", "command getkeys spublish a b", "command getkeys xread streams a 0",
		"command getkeys sort a store b", "command getkeys migrate h 1 k 0 1",
		"command getkeysandflags", "command getkeysandflags mset a b", "command getkeysandflags evalsha x 0",
		"command getkeysandflags sort a store b", "command docs get", "command docs get nothing set", "command docs nothing")
}

// Rows, and subcommands within a row, come in the order of hash tables, which changes: only their
// parts can be compared.
func TestCommandHasEveryRowOfRedis(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	for _, resp := range []int{2, 3} {
		rows := func(addr string, words ...any) []string {
			c := dial(t, addr)
			c.Do("HELLO", resp)
			c.Send(words...)
			var rows []string
			for element := range elementsOf(t, c.RecvRaw()) {
				parts := strings.Split(element, "*10\r\n")
				slices.Sort(parts)
				rows = append(rows, strings.Join(parts, ""))
			}
			slices.Sort(rows)
			return rows
		}
		for _, words := range [][]any{
			{"COMMAND"}, {"COMMAND", "INFO"}, {"COMMAND", "LIST"}, {"COMMAND", "LIST", "FILTERBY", "ACLCAT", "Admin"},
			{"COMMAND", "LIST", "FILTERBY", "PATTERN", "*X*"}, {"COMMAND", "LIST", "FILTERBY", "PATTERN", "CONFIG|[^g]*"},
		} {
			if got, want := rows(b.Addr(), words...), rows(node.Addr(), words...); !slices.Equal(got, want) {
				t.Errorf("RESP%d %v: %d elements, want %d", resp, words, len(got), len(want))
				for _, row := range want {
					if !slices.Contains(got, row) {
						t.Errorf("missing: %q", row)
						break
					}
				}
			}
		}
	}
}

// elementsOf are the raw elements of an array.
func elementsOf(t *testing.T, reply string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	if err := elements([]byte(reply), func(_ int, e []byte) { all[string(e)] = true }); err != nil {
		t.Fatalf("no array: %.80q", reply)
	}
	return all
}

func TestCommandWithoutTheNodesWordIsTheBuiltInTable(t *testing.T) {
	parallel(t)
	c := dial(t, startBerth(t, "").Addr())
	if got := c.Do("COMMAND", "COUNT"); got != int64(router.Builtin().Len()) {
		t.Errorf("COUNT: %v", got)
	}
	row := c.Do("COMMAND", "INFO", "get").([]any)[0].([]any)
	if row[0] != "get" || row[1] != int64(2) {
		t.Errorf("INFO get: %v", row)
	}
	c.Do("HELLO", 3)
	config := c.Do("COMMAND", "INFO", "config", "get").([]any)
	if subs := config[0].([]any)[9].([]any); len(subs) != len(router.Builtin().Find("config").Subcommands()) {
		t.Errorf("INFO config: subcommands %v", subs)
	}
	if none, ok := config[1].([]any)[9].(redistest.Set); !ok || len(none) != 0 {
		t.Errorf("INFO get: subcommands %v", none)
	}
	c.Do("HELLO", 2)
	if all := c.Do("COMMAND").([]any); len(all) != router.Builtin().Len() {
		t.Errorf("COMMAND: %d rows", len(all))
	}
	if keys := c.DoRaw("COMMAND", "GETKEYS", "GET", "a"); keys != "*1\r\n$1\r\na\r\n" {
		t.Errorf("GETKEYS: %q", keys)
	}
}

func TestHelpNamesEverySubcommandThatAnswers(t *testing.T) {
	b := startBerth(t, clusterURL(sharedCluster(t)))
	c := dial(t, b.Addr())
	for _, container := range []string{"client", "cluster", "command", "config"} {
		text := ""
		for _, line := range c.Do(container, "help").([]any) {
			text += line.(string) + "\n"
		}
		for _, cmd := range b.srv.table().Find(container).Subcommands() {
			name := strings.ToUpper(cmd.Name[len(container)+1:])
			known := strings.Contains(text, "\n"+name+" ") || strings.Contains(text, "\n"+name+"\n")
			if answers := cmd.Way != router.Refused && name != "SLAVES"; known != answers {
				t.Errorf("%s %s: in HELP %v, answered %v", container, name, known, answers)
			}
		}
	}
}

// The first thing an interactive redis-cli asks is COMMAND DOCS; it aborts when it gets anything
// but documentation or an error.
func TestInteractiveRedisCLIOnTheEmbeddedBackend(t *testing.T) {
	parallel(t)
	b := startBerth(t, "")
	host, port, _ := net.SplitHostPort(b.Addr())
	cli := exec.Command("redis-cli", "-h", host, "-p", port)
	cli.Stdin = strings.NewReader("SET a 1\nMULTI\nINCR a\nEXEC\nRPUSH q x\nBLPOP q 1\n")
	out, err := cli.CombinedOutput()
	want := "OK\nOK\nQUEUED\n2\n1\nq\nx\n"
	if got := strings.ReplaceAll(string(out), "\n\n", "\n"); err != nil || got != want {
		t.Fatalf("redis-cli said %q (%v), want %q", got, err, want)
	}
}
