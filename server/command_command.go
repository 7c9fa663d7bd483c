package main

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/glob"
)

// COMMAND. What stands in no handler here (GETKEYSANDFLAGS) a node answers: it is local, but has no
// function.

func commandAll(s *session, _ [][]byte, out []byte) []byte {
	return append(out, s.loop.srv.commandCatalog().Whole[s.resp()]...)
}

func commandCount(s *session, _ [][]byte, out []byte) []byte {
	return codec.AppendInt(out, int64(s.loop.srv.commandCatalog().Commands))
}

// commandDocs has a node answer. The embedded backend has no documentation and would send its
// COMMAND reply; redis-cli asks this first of all, and helps itself when it is told that there is
// none.
func commandDocs(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	return s.refuse(cmd, "ERR unknown subcommand 'DOCS'. Try COMMAND HELP.")
}

// commandInfo describes the commands of the given names, or all.
func commandInfo(s *session, args [][]byte, out []byte) []byte {
	c := s.loop.srv.commandCatalog()
	if len(args) == 2 {
		return append(out, c.Whole[s.resp()]...)
	}
	return appendCommandInfo(out, c, args[2:], s.resp())
}

// namesOnLoop is how many commands a loop describes in one go.
const namesOnLoop = 512

// commandInfoAside describes very many commands off the loop: a client may name each a million
// times.
func commandInfoAside(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	if len(args) <= namesOnLoop {
		return s.answerLocal(cmd, args)
	}
	c, resp := s.loop.srv.commandCatalog(), s.resp()
	words := newWordReader(bytes.Clone(raw))
	return s.offLoop(cmd, func() []byte {
		words.next()
		words.next()
		var names [][]byte
		for words.left() {
			names = append(names, words.next())
		}
		return appendCommandInfo(nil, c, names, resp)
	})
}

func appendCommandInfo(out []byte, c *router.Catalog, names [][]byte, resp int) []byte {
	out = codec.AppendArray(out, len(names))
	for _, name := range names {
		if row, ok := c.Find(name); ok {
			out = row.Append(out, resp)
		} else {
			out = codec.AppendNull(out, resp)
		}
		if len(out) > maxAside {
			return codec.AppendError(nil, errTooLong)
		}
	}
	return out
}

var errLongPattern = "ERR berth: a pattern has at most " + strconv.Itoa(glob.MaxLength) + " bytes"

// commandList names all commands and subcommands, or those a filter admits. Which module a command
// comes from COMMAND does not tell: by module none is found.
func commandList(s *session, args [][]byte, out []byte) []byte {
	admits := func(router.CatalogRow) bool { return true }
	switch words := args[2:]; {
	case len(words) == 0:
	case len(words) == 3 && strings.EqualFold(string(words[0]), "filterby"):
		by := string(words[2])
		switch strings.ToLower(string(words[1])) {
		case "module":
			admits = func(router.CatalogRow) bool { return false }
		case "aclcat":
			category := "@" + strings.ToLower(by)
			admits = func(r router.CatalogRow) bool { return slices.Contains(r.Categories, category) }
		case "pattern":
			if len(by) > glob.MaxLength {
				return codec.AppendError(out, errLongPattern)
			}
			pattern := glob.Compile(strings.ToLower(by))
			admits = func(r router.CatalogRow) bool { return pattern.Match(r.Name) }
		default:
			return codec.AppendError(out, errSyntax)
		}
	default:
		return codec.AppendError(out, errSyntax)
	}
	c := s.loop.srv.commandCatalog()
	var names []string
	for _, name := range c.Names {
		if row, _ := c.Find([]byte(name)); admits(row) {
			names = append(names, name)
		}
	}
	out = codec.AppendArray(out, len(names))
	for _, name := range names {
		out = codec.AppendBulkString(out, name)
	}
	return out
}

// commandGetKeys has a node find the keys of a whole command: what it says of arguments that make
// no sense is its own. The embedded backend does not know how.
func commandGetKeys(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	s.answer(cmd, appendKeys(nil, s.loop.srv.table(), args[2:]))
	return true
}

// appendKeys appends the keys of a whole command, found by the table.
func appendKeys(out []byte, table *router.Table, args [][]byte) []byte {
	cmd, err := table.Lookup(args)
	switch {
	case err != nil:
		return codec.AppendError(out, "ERR Invalid command specified")
	case cmd.Keyless() || cmd.Channels():
		return codec.AppendError(out, "ERR The command has no key arguments")
	case cmd.CheckArity(len(args)) != nil:
		return codec.AppendError(out, "ERR Invalid number of arguments specified for command")
	}
	keys, err := cmd.Keys(args, nil)
	if err != nil && !cmd.Flags.Has(router.NoMandatoryKeys) {
		return codec.AppendError(out, err.Error())
	}
	out = codec.AppendArray(out, len(keys))
	for _, i := range keys {
		out = codec.AppendBulk(out, args[i])
	}
	return out
}

func commandHelp(_ *session, _ [][]byte, out []byte) []byte {
	return appendHelp(out, "COMMAND",
		"(no subcommand)",
		"    All commands of the nodes.",
		"COUNT",
		"    How many commands there are.",
		"DOCS [<command-name> ...]",
		"    The documentation of all commands, or of those named.",
		"GETKEYS <full-command>",
		"    The keys of a command.",
		"GETKEYSANDFLAGS <full-command>",
		"    The keys of a command, and what it does with them.",
		"INFO [<command-name> ...]",
		"    All commands, or those named.",
		"LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
		"    The names of all commands, or of those the filter admits.")
}

// commandCatalog returns the catalog of now. When the nodes have not said, it is the built-in
// table.
func (srv *server) commandCatalog() *router.Catalog {
	reply := srv.nodes.Info().Commands
	if c := srv.catalog.Load(); c != nil && router.SameBytes(c.Reply, reply) {
		return c
	}
	c := router.CatalogOfNodes(reply, !srv.isValkeySince(9, 0))
	if c == nil {
		c = router.CatalogOfTable(router.Builtin())
		c.Reply = reply
	}
	srv.catalog.Store(c) // two loops that come here at once have made the same
	return c
}
