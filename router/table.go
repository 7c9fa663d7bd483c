package router

import (
	_ "embed"
	"slices"
	"strings"
)

// Table is an immutable set of commands. Builtin has the commands of Redis; With adds those that
// only a node knows.
type Table struct {
	commands []*Command // by ID
	top      []*Command // without subcommands, by ID
	index    nameIndex
}

//go:embed commands.tbl
var builtinSource string

var builtin = newTable(parseCommands("commands.tbl", builtinSource))

// Builtin returns the table of all commands known when berth was built: exactly those of Redis 7.0,
// and the names that Redis 7.2 to 8 added.
func Builtin() *Table { return builtin }

// Commands returns all commands and subcommands; the one with ID i is at index i. The caller must
// not change it.
func (t *Table) Commands() []*Command { return t.commands }

// Lookup finds the command of a request, in any case, and resolves a container to the subcommand:
// CONFIG GET x is "config|get", CONFIG alone is "config" (its arity is then wrong). Lookup does not
// allocate, except for an error.
//
// The error is the one of Redis 7.0 for an unknown command or subcommand, with its prefix.
func (t *Table) Lookup(args [][]byte) (*Command, error) {
	if len(args) == 0 {
		return nil, unknownCommandError(args)
	}
	c := t.index.find(nil, args[0])
	if c == nil {
		return nil, unknownCommandError(args)
	}
	if c.subs == nil || len(args) == 1 {
		return c, nil
	}
	if sub := t.index.find(c, args[1]); sub != nil {
		return sub, nil
	}
	return nil, unknownSubcommandError(args)
}

// Moved returns a table in which commands travel on leases, or on shared pipes, as `which` says of each
// that moves (Moves). t is unchanged.
func (t *Table) Moved(which func(c *Command) (leased, named bool)) *Table {
	commands := cloneCommands(t.commands)
	for _, c := range commands {
		if !c.Moves() {
			continue
		}
		if leased, named := which(c); named {
			c.move(leased)
		}
	}
	return newTable(commands)
}

// move gives the command its way.
func (c *Command) move(leased bool) {
	c.Way, c.block = Shared, blockRule{}
	if leased {
		c.Way, c.block = Blocking, blockRule{always: true}
	}
}

// Find returns the command with a full name ("get", "config|get"), in any case, or nil. It serves
// COMMAND INFO and binds handlers to rows.
func (t *Table) Find(name string) *Command {
	head, tail, isSub := strings.Cut(name, "|")
	c := t.index.find(nil, []byte(head))
	if c == nil || !isSub {
		return c
	}
	return t.index.find(c, []byte(tail))
}

// newTable makes a table of commands, which it owns from then on, and sets their IDs. A container
// comes before its subcommands.
func newTable(commands []*Command) *Table {
	t := &Table{commands: commands}
	for i, c := range commands {
		c.ID = i
		if c.container == nil && !c.absent {
			t.top = append(t.top, c)
		}
	}
	for _, c := range commands {
		if c.container != nil && !c.absent {
			c.container.subs = append(c.container.subs, c)
		}
	}
	for _, c := range t.top {
		slices.SortFunc(c.subs, func(a, b *Command) int { return strings.Compare(a.Name, b.Name) })
	}
	t.index = makeNameIndex(commands)
	return t
}

// lastName returns the name without the container's name.
func (c *Command) lastName() string {
	return c.Name[strings.IndexByte(c.Name, '|')+1:]
}
