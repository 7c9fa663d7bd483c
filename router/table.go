package router

import (
	_ "embed"
	"slices"
	"strings"
)

// Table is an immutable set of commands. Builtin has the ones of Redis; With adds what a node knows
// beyond them.
type Table struct {
	commands []*Command // by ID
	top      []*Command // without subcommands, by ID
	index    nameIndex
}

//go:embed commands.tbl
var builtinSource string

var builtin = newTable(parseCommands("commands.tbl", builtinSource))

// Builtin is the table of all commands known when this was built: Redis 7.0 exactly, and the names
// Redis 7.2 to 8 added.
func Builtin() *Table { return builtin }

// Commands are all commands and subcommands; the one with ID i is at index i. Not to be changed.
func (t *Table) Commands() []*Command { return t.commands }

// Lookup finds the command of a request, case aside, and resolves a container to the subcommand:
// CONFIG GET x is "config|get", CONFIG alone is "config" (whose arity then fails). It does not
// allocate, except for an error.
//
// The error is the one Redis 7.0 gives for an unknown command or subcommand, with its prefix.
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

// Find returns the command of that full name ("get", "config|get"), case aside, or nil. For COMMAND
// INFO and for binding handlers to rows.
func (t *Table) Find(name string) *Command {
	head, tail, isSub := strings.Cut(name, "|")
	c := t.index.find(nil, []byte(head))
	if c == nil || !isSub {
		return c
	}
	return t.index.find(c, []byte(tail))
}

// newTable takes ownership of commands: containers stand before their subcommands, IDs are set
// here.
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

// lastName is the name without the container's.
func (c *Command) lastName() string {
	return c.Name[strings.IndexByte(c.Name, '|')+1:]
}
