package main

import (
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// catalog is what COMMAND says of the commands there are: the nodes' own words, kept so that clients that ask when they
// connect cost no node anything. Immutable.
type catalog struct {
	reply    []byte // the nodes' reply to COMMAND it was made from; nil: the nodes have not said
	commands int    // without counting subcommands
	names    []string
	rows     map[string]catalogRow // by name, subcommands too
	whole    [4][]byte             // COMMAND's reply by RESP version
}

// catalogRow is one command.
type catalogRow struct {
	name       string
	categories []string // "@read" …
	append     func(dst []byte, resp int) []byte
}

// commandCatalog returns the catalog of now. When the nodes have not said, it is the built-in table.
func (srv *server) commandCatalog() *catalog {
	reply := srv.nodes.Info().Commands
	if c := srv.catalog.Load(); c != nil && sameBytes(c.reply, reply) {
		return c
	}
	c := catalogOfNodes(reply)
	if c == nil {
		c = catalogOfTable(router.Builtin())
		c.reply = reply
	}
	srv.catalog.Store(c) // two loops that come here at once have made the same
	return c
}

// sameBytes tells whether both are one slice, not only of the same content.
func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// catalogOfNodes reads a reply to COMMAND, nil if it is none.
func catalogOfNodes(reply []byte) *catalog {
	v, err := codec.ParseValue(reply)
	if err != nil || v.Type != '*' || len(v.Elems) == 0 {
		return nil
	}
	c := &catalog{reply: reply, commands: len(v.Elems), rows: map[string]catalogRow{}}
	var enter func(row codec.Value)
	enter = func(row codec.Value) {
		if len(row.Elems) < rowKeys {
			return
		}
		r := catalogRow{
			name:   strings.ToLower(row.Elems[0].Text()),
			append: func(dst []byte, resp int) []byte { return appendRow(dst, row, resp) },
		}
		if len(row.Elems) > rowCategories {
			for _, category := range row.Elems[rowCategories].Elems {
				r.categories = append(r.categories, category.Text())
			}
		}
		c.add(r)
		if len(row.Elems) > rowSubcommands {
			for _, sub := range row.Elems[rowSubcommands].Elems {
				enter(sub)
			}
		}
	}
	for _, row := range v.Elems {
		enter(row)
	}
	c.fill(func(dst []byte, resp int) []byte {
		dst = codec.AppendArray(dst, len(v.Elems))
		for _, row := range v.Elems {
			dst = appendRow(dst, row, resp)
		}
		return dst
	})
	return c
}

func catalogOfTable(table *router.Table) *catalog {
	c := &catalog{commands: table.Len(), rows: map[string]catalogRow{}}
	for _, cmd := range table.Commands() {
		c.add(catalogRow{name: cmd.Name, categories: cmd.Categories, append: cmd.AppendInfo})
	}
	c.fill(table.AppendInfo)
	return c
}

func (c *catalog) add(r catalogRow) {
	c.names = append(c.names, r.name)
	c.rows[r.name] = r
}

func (c *catalog) fill(whole func(dst []byte, resp int) []byte) {
	for _, resp := range []int{2, 3} {
		c.whole[resp] = whole(nil, resp)
	}
}

// find is the row of a command's full name, case aside.
func (c *catalog) find(name []byte) (catalogRow, bool) {
	r, ok := c.rows[strings.ToLower(string(name))]
	return r, ok
}

// The places in a row of COMMAND. Nodes before 7.0 end it at the categories.
const (
	rowFlags       = 2
	rowKeys        = 6 // so many places every node has
	rowCategories  = 6
	rowTips        = 7
	rowKeySpecs    = 8
	rowSubcommands = 9
)

// appendRow writes a row that a node gave in RESP2 for a client of either version: in RESP3 some of its arrays are sets
// and maps.
func appendRow(dst []byte, row codec.Value, resp int) []byte {
	dst = codec.AppendArray(dst, len(row.Elems))
	for i, e := range row.Elems {
		switch i {
		case rowFlags, rowCategories, rowTips:
			dst = appendSetOf(dst, e, resp)
		case rowKeySpecs:
			dst = codec.AppendSet(dst, len(e.Elems), resp)
			for _, spec := range e.Elems {
				dst = appendSpec(dst, spec, resp)
			}
		case rowSubcommands: // a set only when there are none, says Redis
			if len(e.Elems) == 0 {
				dst = codec.AppendSet(dst, 0, resp)
				continue
			}
			dst = codec.AppendArray(dst, len(e.Elems))
			for _, sub := range e.Elems {
				dst = appendRow(dst, sub, resp)
			}
		default:
			dst = appendScalar(dst, e, resp)
		}
	}
	return dst
}

// appendSpec writes a key specification: maps within maps, and among their values one set, the flags.
func appendSpec(dst []byte, spec codec.Value, resp int) []byte {
	dst = codec.AppendMap(dst, len(spec.Elems)/2, resp)
	for i := 0; i+1 < len(spec.Elems); i += 2 {
		key, value := spec.Elems[i], spec.Elems[i+1]
		dst = appendScalar(dst, key, resp)
		switch {
		case value.Type != '*':
			dst = appendScalar(dst, value, resp)
		case key.Text() == "flags":
			dst = appendSetOf(dst, value, resp)
		default:
			dst = appendSpec(dst, value, resp)
		}
	}
	return dst
}

func appendSetOf(dst []byte, v codec.Value, resp int) []byte {
	dst = codec.AppendSet(dst, len(v.Elems), resp)
	for _, e := range v.Elems {
		dst = appendScalar(dst, e, resp)
	}
	return dst
}

// appendScalar writes what is no array.
func appendScalar(dst []byte, v codec.Value, resp int) []byte {
	switch {
	case v.Null:
		return codec.AppendNull(dst, resp)
	case v.Type == ':':
		return codec.AppendInt(dst, v.Int)
	case v.Type == '+':
		return codec.AppendSimple(dst, string(v.Str))
	}
	return codec.AppendBulk(dst, v.Str)
}
