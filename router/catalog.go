package router

import (
	"strings"

	"github.com/berth-proxy/berth/codec"
)

// Catalog is what COMMAND and its subcommands say about all commands. It is made of a node's reply,
// once: many clients ask when they connect, and no node has to answer them. Immutable.
type Catalog struct {
	Reply    []byte                // the node's reply to COMMAND; nil: no node has answered yet
	Commands int                   // how many there are, without subcommands
	Names    []string              // of commands and subcommands, as the node writes them
	Rows     map[string]CatalogRow // by name in lower case
	Whole    [4][]byte             // the reply to COMMAND, by RESP version
}

// CatalogRow is one command.
type CatalogRow struct {
	Name       string
	Categories []string // "@read" …
	Append     func(dst []byte, resp int) []byte
}

// SameBytes reports whether a and b are the same memory, not just equal bytes.
func SameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// CatalogOfNodes makes a catalog of a reply to COMMAND. It returns nil for any other reply. emptySet
// says that no subcommands are an empty set in RESP3, as the nodes send them, not an empty array.
func CatalogOfNodes(reply []byte, emptySet bool) *Catalog {
	v, err := codec.ParseValue(reply)
	if err != nil || v.Type != '*' || len(v.Elems) == 0 {
		return nil
	}
	c := &Catalog{Reply: reply, Commands: len(v.Elems), Rows: map[string]CatalogRow{}}
	var enter func(row codec.Value)
	enter = func(row codec.Value) {
		if len(row.Elems) < rowKeys {
			return
		}
		r := CatalogRow{
			Name:   strings.ToLower(row.Elems[0].Text()),
			Append: func(dst []byte, resp int) []byte { return appendRow(dst, row, resp, emptySet) },
		}
		if len(row.Elems) > rowCategories {
			for _, category := range row.Elems[rowCategories].Elems {
				r.Categories = append(r.Categories, category.Text())
			}
		}
		c.add(r)
		c.Names[len(c.Names)-1] = row.Elems[0].Text()
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
			dst = appendRow(dst, row, resp, emptySet)
		}
		return dst
	})
	return c
}

// CatalogOfTable makes a catalog of berth's own table, for the time until a node has answered.
func CatalogOfTable(table *Table) *Catalog {
	c := &Catalog{Commands: table.Len(), Rows: map[string]CatalogRow{}}
	for _, cmd := range table.Commands() {
		c.add(CatalogRow{Name: cmd.Name, Categories: cmd.Categories, Append: cmd.AppendInfo})
	}
	c.fill(table.AppendInfo)
	return c
}

func (c *Catalog) add(r CatalogRow) {
	c.Names = append(c.Names, r.Name)
	c.Rows[r.Name] = r
}

func (c *Catalog) fill(whole func(dst []byte, resp int) []byte) {
	for _, resp := range []int{2, 3} {
		c.Whole[resp] = whole(nil, resp)
	}
}

// Find returns the row of a command by its full name, in any case.
func (c *Catalog) Find(name []byte) (CatalogRow, bool) {
	r, ok := c.Rows[strings.ToLower(string(name))]
	return r, ok
}

// Positions in a row of COMMAND. In a row of a node before 7.0 the categories are last.
const (
	rowFlags       = 2
	rowKeys        = 6 // every row has at least so many elements
	rowCategories  = 6
	rowTips        = 7
	rowKeySpecs    = 8
	rowSubcommands = 9
)

// appendRow writes a row of a RESP2 reply for a client of either version. In RESP3 some of its
// arrays are sets and maps.
func appendRow(dst []byte, row codec.Value, resp int, emptySet bool) []byte {
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
		case rowSubcommands: // Redis sends a set only when there are none, and Valkey 9 never
			if len(e.Elems) == 0 && emptySet {
				dst = codec.AppendSet(dst, 0, resp)
				continue
			}
			dst = codec.AppendArray(dst, len(e.Elems))
			for _, sub := range e.Elems {
				dst = appendRow(dst, sub, resp, emptySet)
			}
		default:
			dst = appendScalar(dst, e, resp)
		}
	}
	return dst
}

// appendSpec writes a key specification: nested maps, in which only the flags are a set.
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

// appendScalar writes an element that is not an array.
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
