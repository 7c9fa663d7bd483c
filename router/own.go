package router

import (
	_ "embed"
	"slices"
)

//go:embed own.tbl
var ownSource string

var withOwn = newTable(slices.Concat(cloneCommands(builtin.commands), parseCommands("own.tbl", ownSource)))

// WithOwn returns the commands of Builtin, with the same IDs, and after them the commands that
// berth adds (PROXY). They hide a node's commands of the same names.
func WithOwn() *Table { return withOwn }
