package router

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parseCommands reads a file such as commands.tbl. The head of commands.tbl explains the columns.
// The file is a part of the program, so a mistake in it is a panic: every test would find it.
func parseCommands(file, source string) []*Command {
	var commands []*Command
	var container *Command
	var category string
	for n, line := range strings.Split(source, "\n") {
		line, _, _ = strings.Cut(line, " # ")
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if section, ok := strings.CutPrefix(line, "["); ok {
			category, _, _ = strings.Cut(section, "]")
			continue
		}
		c, err := parseCommand(fields, category)
		if err != nil {
			panic(fmt.Sprintf("%s line %d: %v", file, n+1, err))
		}
		if head, _, isSub := strings.Cut(c.Name, "|"); !isSub {
			container = c
		} else if container.Name != head {
			panic(fmt.Sprintf("%s line %d: %s does not come after %s", file, n+1, c.Name, head))
		} else {
			c.container = container
		}
		commands = append(commands, c)
	}
	return commands
}

// parseCommand reads one row: name, arity, way and flags, then keys, categories, tips, version,
// traits and undo in any order.
func parseCommand(fields []string, category string) (*Command, error) {
	if len(fields) < 4 {
		return nil, fmt.Errorf("%d columns, at least 4 are needed", len(fields))
	}
	c := &Command{Name: fields[0]}
	var err error
	if c.Arity, err = strconv.Atoi(fields[1]); err != nil {
		return nil, err
	}
	if err := c.parseWay(fields[2]); err != nil {
		return nil, err
	}
	if fields[3] != "-" {
		for _, name := range strings.Split(fields[3], ",") {
			i := slices.Index(flagNames[:], name)
			if i < 0 {
				return nil, fmt.Errorf("no flag %q", name)
			}
			c.Flags |= 1 << i
		}
	}
	categories := category
	for _, f := range fields[4:] {
		switch f[0] {
		case '@':
			categories = f
		case '+':
			c.Tips = append(c.Tips, tip(f[1:]))
		case '^':
			c.Since = f[1:]
		case '!':
			i := slices.Index(traitNames[:], f[1:])
			if i < 0 {
				return nil, fmt.Errorf("no trait %q", f[1:])
			}
			c.Traits |= 1 << i
		default:
			if word, ok := strings.CutPrefix(f, "undo:"); ok {
				i := slices.Index(undoNames[:], word)
				if i <= 0 {
					return nil, fmt.Errorf("no undo %q", word)
				}
				c.Undo = Undo(i)
				continue
			}
			s, err := parseKeySpec(f)
			if err != nil {
				return nil, err
			}
			c.specs = append(c.specs, s)
		}
	}
	c.complete(strings.Split(categories, ","))
	return c, nil
}

// parseWay reads "shared", "split:sum", "blocking:-1".
func (c *Command) parseWay(s string) error {
	way, rest, _ := strings.Cut(s, ":")
	i := slices.Index(wayNames[:], way)
	if i < 0 {
		return fmt.Errorf("no way %q", way)
	}
	c.Way = Way(i)
	switch c.Way {
	case Blocking:
		switch rest {
		case "BLOCK":
			c.block.option = true
			return nil
		case "NODE":
			c.block.node = true
			return nil
		case "CAS":
			c.block.cas = true
			return nil
		case "ALWAYS":
			c.block.always = true
			return nil
		}
		arg, err := strconv.Atoi(rest)
		c.block.arg = arg
		return err
	case Split, FanOut:
		j := slices.Index(joinNames[:], rest)
		if j <= 0 {
			return fmt.Errorf("%s without a known join: %q", way, rest)
		}
		c.Join = Join(j)
	case Refused:
		if c.refusal = refusalFor(c.Name); c.refusal == "" {
			return errors.New("refused without a reason")
		}
	}
	return nil
}

// tip spells out the two tips that carry a value.
func tip(s string) string {
	if value, ok := strings.CutPrefix(s, "request:"); ok {
		return "request_policy:" + value
	}
	if value, ok := strings.CutPrefix(s, "response:"); ok {
		return "response_policy:" + value
	}
	return s
}

// parseKeySpec reads one column of key positions: "1", "1..-1", "1..-1/2", "2#", "STORE>6",
// "STREAMS>1..-1%2" or "?", then "=" and the key flags.
func parseKeySpec(s string) (keySpec, error) {
	spec := keySpec{step: 1}
	where, flags, ok := strings.Cut(s, "=")
	if !ok {
		return spec, fmt.Errorf("keys %q: no key flags", s)
	}
	for _, name := range strings.Split(flags, ",") {
		i := slices.Index(keyFlagNames[:], name)
		if i < 0 {
			return spec, fmt.Errorf("keys %q: no key flag %q", s, name)
		}
		spec.flags |= 1 << i
	}
	if where == "?" {
		spec.unknown = true
		return spec, nil
	}
	var err error
	number := func(s string) int {
		n, e := strconv.Atoi(s)
		if e != nil {
			err = fmt.Errorf("keys %q: %w", where, e)
		}
		return n
	}
	rest := where
	if head, tail, ok := strings.Cut(rest, "%"); ok {
		rest, spec.limit = head, number(tail)
	}
	if head, tail, ok := strings.Cut(rest, "/"); ok {
		rest, spec.step = head, number(tail)
	}
	rest, spec.counted = strings.CutSuffix(rest, "#")
	last := ""
	if head, tail, ok := strings.Cut(rest, ".."); ok {
		rest, last = head, tail
	}
	if word, from, ok := strings.Cut(rest, ">"); ok {
		spec.keyword, rest = word, from
	}
	spec.begin = number(rest)
	if last != "" {
		if spec.last = number(last); spec.last > 0 {
			spec.last -= spec.begin
		}
	}
	return spec, err
}

// complete fills in the fields that follow from the columns.
func (c *Command) complete(categories []string) {
	c.native = keyFinders[c.Name]
	c.deriveRange()
	c.deriveCategories(categories)
	s := c.specs
	c.oneKey = c.native == nil && len(s) == 1 && s[0].keyword == "" && !s[0].counted && !s[0].unknown && s[0].last == 0
	c.Tips = slices.Clip(c.Tips)
}

// deriveRange computes First, Last, Step and MovableKeys from the key specifications, as Redis does
// for clients that do not know key specifications. Adjacent plain ranges become one range; keys
// anywhere else are "movable".
func (c *Command) deriveRange() {
	const open = 1 << 30 // the end of a range without a fixed end: no range is adjacent to it
	end := 0
	for i := range c.specs {
		s := &c.specs[i]
		if s.keyword != "" || s.counted || s.unknown || c.First > 0 && s.begin != end+1 {
			c.Flags |= MovableKeys
			continue
		}
		if c.First == 0 {
			c.First, c.Step = s.begin, s.step
		}
		if s.last < 0 {
			c.Last, end = s.last, open
		} else {
			c.Last, end = s.begin+s.last, s.begin+s.last
		}
	}
}

// deriveCategories sets the ACL categories: those of the command's group, and those that Redis
// derives from the flags.
func (c *Command) deriveCategories(group []string) {
	var all []string
	for _, name := range group {
		if name != "@-" && name != "" {
			all = append(all, name)
		}
	}
	add := func(name string, when bool) {
		if when && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	add("@write", c.Flags.Has(Write))
	add("@read", c.Flags.Has(Readonly) && !slices.Contains(all, "@scripting"))
	add("@admin", c.Flags.Has(Admin))
	add("@dangerous", c.Flags.Has(Admin))
	add("@pubsub", c.Flags.Has(PubSub))
	add("@blocking", c.Flags.Has(MayBlock))
	add("@fast", c.Flags.Has(Fast))
	add("@slow", !c.Flags.Has(Fast))
	slices.Sort(all)
	c.Categories = all
	c.deriveFamily()
}
