package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-proxy/berth/codec"
)

// ErrNotCommandReply is wrapped by the error of With.
var ErrNotCommandReply = errors.New("not a COMMAND reply")

// With returns a table that also has the commands that a node knows. reply is the node's raw answer
// to COMMAND, in RESP2 or RESP3, from any version of Redis. t is unchanged. Its commands keep their
// IDs, and new commands follow.
//
//   - A command that the table lacks (of a module, or newer) is added and travels by its keys: by
//     the key specifications of the reply if there are any, else by first, last and step. A command
//     renamed by rename-command stays unknown: COMMAND still uses the old name.
//   - Its tips may say that it goes to every node, and how replies become one: see learnJoin.
//   - A command that the table has takes the node's arity: ZRANK has one more option since 7.2.
//     Local and refused commands keep theirs: the node never sees them. Each command is refused
//     inside MULTI where the node refuses it there, as Valkey does MULTI and WATCH. Nothing else changes.
//   - A new command that leaves state on its connection (connection and transaction commands,
//     channels) is not learned: on a shared connection it would act on other clients. For the same
//     reason a new subcommand of a local or refused container is not learned.
//   - A command that is newer than the node becomes unknown: berth must not queue, answer or refuse a
//     command that the node does not have.
func (t *Table) With(reply []byte) (*Table, error) {
	v, err := codec.ParseValue(reply)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotCommandReply, err)
	}
	if v.IsError() {
		return nil, fmt.Errorf("%w: %s", ErrNotCommandReply, v.Text())
	}
	if v.Type != '*' {
		return nil, fmt.Errorf("%w: its type is %q", ErrNotCommandReply, v.Type)
	}
	l := learner{commands: cloneCommands(t.commands), byName: map[string]*Command{}}
	for _, c := range l.commands {
		l.byName[c.Name] = c
	}
	l.leaveOut(v)
	for _, row := range v.Elems {
		l.learn(row, nil)
	}
	return newTable(l.commands), nil
}

// cloneCommands copies the commands, so that the old table stays unchanged. The container of a copy
// is a copy too.
func cloneCommands(from []*Command) []*Command {
	to := make([]*Command, len(from))
	for i, c := range from {
		copied := *c
		copied.subs = nil
		if c.container != nil {
			copied.container = to[c.container.ID]
		}
		to[i] = &copied
	}
	return to
}

// maxCommands is how many commands a table has at most. Redis 8 with all its modules has some 700.
// A table keeps what it has learned, and each loop counts for each command.
const maxCommands = 4 << 10

type learner struct {
	commands []*Command // by ID; copies of the old table's come first
	byName   map[string]*Command
}

// leaveOut marks as absent the commands of later versions that the reply does not have. Only a node
// of 7.0 or later lists its subcommands. For an older node, or a server that only resembles Redis,
// leaveOut marks nothing.
func (l *learner) leaveOut(reply codec.Value) {
	named, whole := map[string]bool{}, false
	var enter func(rows []codec.Value)
	enter = func(rows []codec.Value) {
		for _, row := range rows {
			if len(row.Elems) < rowKeys {
				continue
			}
			name := strings.ToLower(row.Elems[0].Text())
			named[name] = true
			if len(row.Elems) > rowSubcommands {
				whole = whole || name == "get"
				enter(row.Elems[rowSubcommands].Elems)
			}
		}
	}
	enter(reply.Elems)
	for _, c := range l.commands {
		c.absent = whole && c.Since != "" && !named[c.Name]
	}
}

// learn reads one element of a COMMAND reply. It skips an element that it cannot read (null for a
// removed command, a form of a later version): the table is useful without it.
func (l *learner) learn(row codec.Value, container *Command) {
	if len(row.Elems) < rowKeys || row.Elems[1].Type != ':' {
		return
	}
	name := strings.ToLower(row.Elems[0].Text())
	arity := int(row.Elems[1].Int)
	c := l.byName[name]
	switch {
	case c == nil:
		if len(l.commands) >= maxCommands {
			return
		}
		if container != nil && !container.mayGrow() {
			return
		}
		if c = learnCommand(name, arity, row.Elems); c == nil {
			return
		}
		c.ID, c.container = len(l.commands), container
		l.commands = append(l.commands, c)
		l.byName[name] = c
	case c.Way != Local && c.Way != Refused && arity != 0,
		strings.HasPrefix(name, "command|getkeys") && arity == -3: // a node answers; before Redis 7.2 -4
		c.Arity = arity
	}
	c.Flags |= flagsOf(row.Elems) & NoMulti
	if container != nil || len(row.Elems) <= rowSubcommands {
		return
	}
	for _, sub := range row.Elems[rowSubcommands].Elems {
		l.learn(sub, c)
	}
}

// flagsOf reads the flags of a row.
func flagsOf(row []codec.Value) (flags Flags) {
	for _, f := range row[rowFlags].Elems {
		if i := slices.Index(flagNames[:], f.Text()); i >= 0 {
			flags |= 1 << i
		}
	}
	return flags
}

// mayGrow reports whether unknown subcommands of c may be forwarded.
func (c *Command) mayGrow() bool { return c.Way != Local && c.Way != Refused }

// stateful are the categories of commands that change the connection on which they arrive.
var stateful = []string{"@connection", "@transaction", "@pubsub"}

// learnCommand makes a command of the elements of its row. It returns nil when the command must not
// be forwarded.
func learnCommand(name string, arity int, row []codec.Value) *Command {
	if name == "" || len(name) > maxName || arity == 0 || strings.ContainsAny(name, "\r\n\x00") {
		return nil
	}
	c := &Command{Name: name, Arity: arity, Flags: flagsOf(row), Family: Family(NumFamilies - 1), learned: true}
	var categories []string
	if len(row) > rowCategories {
		for _, e := range row[rowCategories].Elems {
			categories = append(categories, e.Text())
		}
	}
	for _, s := range stateful {
		if slices.Contains(categories, s) {
			return nil
		}
	}
	if c.Flags&(NoAuth|NoMulti|PubSub) != 0 {
		return nil
	}
	if c.Flags.Has(MayBlock) || answeredAside(name) {
		c.Way = Blocking
		c.block.always = true
	}
	if len(row) > rowTips {
		for _, e := range row[rowTips].Elems {
			c.Tips = append(c.Tips, e.Text())
		}
	}
	if len(row) > rowKeySpecs {
		c.specs = learnKeySpecs(row[rowKeySpecs].Elems)
	}
	first, last, step := int(row[3].Int), int(row[4].Int), int(row[5].Int)
	if len(c.specs) == 0 && first > 0 && step > 0 {
		s := keySpec{begin: first, last: last, step: step, flags: KeyRW | KeyVariable}
		if last > 0 {
			s.last = max(0, last-first)
		}
		c.specs = []keySpec{s}
	}
	movable := c.Flags & MovableKeys
	c.complete(categories)
	c.Flags |= movable
	c.learnJoin()
	return c
}

// responses are the joins that tips ask for. A fan-out with another tip, or none, is not learned.
var responses = map[string]Join{
	"response_policy:agg_sum": JoinSum, "response_policy:agg_min": JoinLeast, "response_policy:agg_max": JoinMost,
	"response_policy:agg_logical_and": JoinAnd, "response_policy:agg_logical_or": JoinOr,
	"response_policy:all_succeeded": JoinSame, "response_policy:one_succeeded": JoinAny,
}

// learnJoin makes the command a fan-out, if its tips say that clients should send it to every node
// and how they should join the replies. berth sends it to every primary.
func (c *Command) learnJoin() {
	everywhere := slices.Contains(c.Tips, "request_policy:all_shards") || slices.Contains(c.Tips, "request_policy:all_nodes")
	if !everywhere || c.Way != Shared || !c.Keyless() || c.KeysUnknown() {
		return
	}
	for _, tip := range c.Tips {
		if join, known := responses[tip]; known {
			c.Way, c.Join = FanOut, join
		}
	}
}

// learnKeySpecs reads the key specifications of a COMMAND reply. It leaves out the ones that it
// does not understand; the command then travels by the others.
func learnKeySpecs(list []codec.Value) []keySpec {
	var specs []keySpec
	for _, v := range list {
		begin, _ := v.Lookup("begin_search")
		find, _ := v.Lookup("find_keys")
		flags, _ := v.Lookup("flags")
		s := keySpec{step: 1}
		for _, f := range flags.Elems {
			if i := slices.Index(keyFlagNames[:], f.Text()); i >= 0 {
				s.flags |= 1 << i
			}
		}
		beginSpec, _ := begin.Lookup("spec")
		switch text(begin, "type") {
		case "index":
			s.begin = number(beginSpec, "index")
		case "keyword":
			s.keyword = strings.ToUpper(text(beginSpec, "keyword"))
			s.begin = number(beginSpec, "startfrom")
		}
		findSpec, _ := find.Lookup("spec")
		switch text(find, "type") {
		case "range":
			s.last, s.step, s.limit = number(findSpec, "lastkey"), number(findSpec, "keystep"), number(findSpec, "limit")
		case "keynum":
			s.counted, s.step = true, number(findSpec, "keystep")
			if number(findSpec, "keynumidx") != 0 || number(findSpec, "firstkey") != 1 {
				continue
			}
		default:
			continue
		}
		if s.begin == 0 || s.begin < 0 && s.keyword == "" || s.step < 1 || s.limit < 0 {
			continue
		}
		specs = append(specs, s)
	}
	return specs
}

func text(v codec.Value, key string) string {
	e, _ := v.Lookup(key)
	return e.Text()
}

func number(v codec.Value, key string) int {
	e, _ := v.Lookup(key)
	return int(e.Int)
}
