package router

import (
	_ "embed"
	"slices"
)

//go:embed own.tbl
var ownSource string

var withOwn = newTable(slices.Concat(cloneCommands(builtin.commands), parseCommands("own.tbl", ownSource)))

// WithOwn is Builtin and, after it, the commands of berth's own (PROXY), which no node knows. IDs
// are those of Builtin as far as that goes. A node's command of the same name stays hidden.
func WithOwn() *Table { return withOwn }
