package router

import "github.com/berth-proxy/berth/codec"

// AppendInfo appends the command's element of a COMMAND or COMMAND INFO reply in RESP version resp:
// name, arity, flags, first, last, step, ACL categories, tips, key specifications, subcommands.
func (c *Command) AppendInfo(dst []byte, resp int) []byte {
	dst = codec.AppendArray(dst, 10)
	dst = codec.AppendBulkString(dst, c.Name)
	dst = codec.AppendInt(dst, int64(c.Arity))
	dst = appendNames(dst, resp, uint(c.Flags), flagNames[:])
	dst = codec.AppendInt(dst, int64(c.First))
	dst = codec.AppendInt(dst, int64(c.Last))
	dst = codec.AppendInt(dst, int64(c.Step))
	dst = codec.AppendSet(dst, len(c.Categories), resp)
	for _, name := range c.Categories {
		dst = codec.AppendSimple(dst, name)
	}
	dst = codec.AppendSet(dst, len(c.Tips), resp)
	for _, name := range c.Tips {
		dst = codec.AppendBulkString(dst, name)
	}
	dst = codec.AppendSet(dst, len(c.specs), resp)
	for i := range c.specs {
		dst = c.specs[i].appendInfo(dst, resp)
	}
	if len(c.subs) == 0 { // Redis sends a set only then
		return codec.AppendSet(dst, 0, resp)
	}
	dst = codec.AppendArray(dst, len(c.subs))
	for _, sub := range c.subs {
		dst = sub.AppendInfo(dst, resp)
	}
	return dst
}

// AppendInfo appends the whole COMMAND reply.
func (t *Table) AppendInfo(dst []byte, resp int) []byte {
	dst = codec.AppendArray(dst, len(t.top))
	for _, c := range t.top {
		dst = c.AppendInfo(dst, resp)
	}
	return dst
}

// Len returns the number of commands without subcommands, as COMMAND COUNT does.
func (t *Table) Len() int { return len(t.top) }

func appendNames(dst []byte, resp int, bits uint, names []string) []byte {
	n := 0
	for i := range names {
		n += int(bits >> i & 1)
	}
	dst = codec.AppendSet(dst, n, resp)
	for i, name := range names {
		if bits>>i&1 != 0 {
			dst = codec.AppendSimple(dst, name)
		}
	}
	return dst
}

func (s *keySpec) appendInfo(dst []byte, resp int) []byte {
	field := func(name string, value int) {
		dst = codec.AppendBulkString(dst, name)
		dst = codec.AppendInt(dst, int64(value))
	}
	kind := func(name, value string, fields int) {
		dst = codec.AppendBulkString(dst, name)
		dst = codec.AppendMap(dst, 2, resp)
		dst = codec.AppendBulkString(dst, "type")
		dst = codec.AppendBulkString(dst, value)
		dst = codec.AppendBulkString(dst, "spec")
		dst = codec.AppendMap(dst, fields, resp)
	}
	dst = codec.AppendMap(dst, 3, resp)
	dst = codec.AppendBulkString(dst, "flags")
	dst = appendNames(dst, resp, uint(s.flags), keyFlagNames[:])
	switch {
	case s.unknown:
		kind("begin_search", "unknown", 0)
	case s.keyword != "":
		kind("begin_search", "keyword", 2)
		dst = codec.AppendBulkString(dst, "keyword")
		dst = codec.AppendBulkString(dst, s.keyword)
		field("startfrom", s.begin)
	default:
		kind("begin_search", "index", 1)
		field("index", s.begin)
	}
	switch {
	case s.unknown:
		kind("find_keys", "unknown", 0)
	case s.counted:
		kind("find_keys", "keynum", 3)
		field("keynumidx", 0)
		field("firstkey", 1)
		field("keystep", s.step)
	default:
		kind("find_keys", "range", 3)
		field("lastkey", s.last)
		field("keystep", s.step)
		field("limit", s.limit)
	}
	return dst
}
