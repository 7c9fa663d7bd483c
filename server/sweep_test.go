package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// Every command that the server has, with few words, with right ones on a key of each type, and in a
// transaction, is answered by berth as by the server, in both protocols.
func TestEveryCommandIsAnsweredAsByTheServer(t *testing.T) {
	parallel(t)
	differOverOne(t).sweep("k:")
}

func TestEveryCommandOverAClusterIsAnsweredAsByTheServer(t *testing.T) {
	parallel(t)
	differOverACluster(t).sweep(diffTag)
}

// sweep has each command of the servers said in every way.
func (d *differ) sweep(prefix string) {
	d.t.Helper()
	d.met = map[string]int{}
	commands, inputs := 0, 0
	for i, cmd := range d.berth.srv.table().Commands() {
		switch {
		case i%sized(24, 1) != 0, len(cmd.Subcommands()) > 0:
			continue
		case strings.HasPrefix(cmd.Name, "proxy"): // berth's
			continue
		case cmd.Name == "bgsave" || cmd.Name == "bgrewriteaof": // whether one is under way is a matter of luck
			continue
		}
		commands++
		for _, resp := range []string{"2", "3"} {
			for _, s := range sweepOf(cmd, prefix, resp) {
				f, n := d.run(s)
				inputs += n
				if f != nil {
					d.t.Errorf("%s in RESP%s: %s", cmd.Name, resp, d.shrink(f))
				}
			}
		}
	}
	d.t.Logf("%d commands in %d inputs, %d replies compared, %d explained differences", commands, inputs, d.compared, total(d.met))
}

// sweepOf are sessions in which one client says a command in every way: one with a key of each type,
// for what has keys, and one with few words and in a transaction.
func sweepOf(cmd *router.Command, prefix, resp string) (all []diffSession) {
	say := func(lines ...[]string) {
		s := diffSession{{0, []string{string(redistest.Command("HELLO", resp))}}}
		for _, words := range lines {
			if !harmlessWords(words) {
				return
			}
			s = append(s, diffWrite{0, []string{string(redistest.Command(words))}})
		}
		all = append(all, s)
	}
	name := strings.Split(cmd.Name, "|")
	line := rightsLine(cmd, prefix+"none")
	say(name)
	say(line, append(slices.Clone(line), "x"))
	say([]string{"MULTI"}, line, []string{"EXEC"}, []string{"PING"})
	if cmd.Keyless() {
		return all
	}
	for _, key := range fixtureKeys {
		say(rightsLine(cmd, prefix+key[0]))
	}
	return all
}
