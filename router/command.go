package router

import (
	"cmp"
	"slices"
)

// Way is how a command travels from a client to the nodes.
type Way uint8

const (
	Shared   Way = iota // on the pipe to the owner of its keys' slot; without keys to any primary, but see ChannelHome
	Local               // answered by the proxy itself
	Split               // cut by slot, sent to the owners, the replies joined
	FanOut              // sent to every primary, the replies joined
	Blocking            // when it blocks as written (Blocks): on a lane, or on a lease until its reply; else like Shared
	Pinned              // on a connection that keeps state for the client: SUBSCRIBE on a feed, MONITOR and PSYNC on a lease
	Script              // as Shared; the proxy remembers the script, or sees to it that the node has it
	Txn                 // MULTI EXEC DISCARD WATCH UNWATCH
	Refused             // never forwarded; Refusal has the error
)

var wayNames = [...]string{"shared", "local", "split", "fan-out", "blocking", "pinned", "script", "transaction", "refused"}

func (w Way) String() string { return wayNames[w] }

// Join is how the replies to the parts of a Split or FanOut command become one reply. One failed
// part fails the whole command, except for JoinAny.
type Join uint8

const (
	JoinNone   Join = iota // the command has no parts
	JoinMGet               // arrays: an element goes to the position that its key had in the request (MGET)
	JoinOK                 // every part answers +OK (MSET)
	JoinSum                // integers, or arrays of them, added (DEL, UNLINK, EXISTS, TOUCH, DBSIZE)
	JoinConcat             // arrays, one after the other (KEYS)
	JoinUnion              // arrays, each element once (PUBSUB CHANNELS)
	JoinPairs              // flat arrays of name and count; counts of the same name are added (PUBSUB NUMSUB)
	JoinSame               // every part must succeed; the first reply is the reply (FLUSHALL, SCRIPT LOAD)
	JoinAnd                // integers, or arrays of them, and-ed (SCRIPT EXISTS)
	JoinAny                // one success is enough, else the first error but NOTBUSY (SCRIPT KILL)
	JoinPick               // one shard at random, then the next as long as the reply is nil (RANDOMKEY)
	JoinCursor             // one shard after the other; the cursor carries the shard (SCAN)
	JoinMost               // integers, or arrays of them, the largest (PUBSUB NUMPAT)
	JoinNewest             // arrays, the newest entries first, as many as were asked for (SLOWLOG GET); +OK of all parts is +OK
	JoinLeast              // integers, or arrays of them, the smallest (commands that only nodes know)
	JoinOr                 // integers, or arrays of them, or-ed (commands that only nodes know)
	JoinReport             // maps of figures: counts are added, of shares and times the worst (MEMORY STATS)
)

var joinNames = [...]string{"", "mget", "ok", "sum", "concat", "union", "pairs", "same", "and", "any", "pick", "cursor", "most", "newest", "least", "or", "report"}

func (j Join) String() string { return joinNames[j] }

// Flags are the command flags of Redis, as COMMAND reports them.
type Flags uint32

const (
	Write           Flags = 1 << iota // may change data
	Readonly                          // reads data and changes none
	DenyOOM                           // refused by a node over its maxmemory
	Admin                             // an administrative command
	PubSub                            // deals with channels
	NoScript                          // not allowed in a script
	MayBlock                          // "blocking": may block; Command.Blocks reports whether a request does
	Loading                           // allowed while a node loads its data
	Stale                             // allowed on a replica that lost its primary
	SkipMonitor                       // not shown to MONITOR
	SkipSlowlog                       // not kept in the slow log
	Asking                            // behaves as if ASKING came before it
	Fast                              // takes constant or logarithmic time
	NoAuth                            // allowed before authentication
	NoMulti                           // not allowed inside MULTI
	MovableKeys                       // First, Last and Step do not say where all keys are
	NoMandatoryKeys                   // may have no key at all (EVAL script 0)
	NoAsyncLoading                    // not allowed while a replica loads asynchronously
	AllowBusy                         // allowed while a script has run for too long
	Module                            // comes from a module
)

// flagNames are the names that COMMAND uses, in the order of the bits.
var flagNames = [...]string{
	"write", "readonly", "denyoom", "admin", "pubsub", "noscript", "blocking", "loading", "stale", "skip_monitor",
	"skip_slowlog", "asking", "fast", "no_auth", "no_multi", "movablekeys", "no_mandatory_keys", "no_async_loading",
	"allow_busy", "module",
}

// Has reports whether all flags of want are set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// Command is one row of the table, or a command learned from a node. It is immutable, and all loops
// share it.
type Command struct {
	ID    int    // dense, 0 … len(Table.Commands())-1; a table made by With keeps the IDs of the old table
	Name  string // lower case; "get", and "config|get" for a subcommand
	Arity int    // words including the name(s): exactly n, or at least -n
	Flags Flags
	Way   Way
	Join  Join
	Traits
	Undo  Undo
	Since string // the version of Redis or Valkey that added it, when later than 7.0; "": an earlier one, or a learned command

	// First, Last and Step are the key positions as COMMAND reports them: 0 0 0 without keys; a
	// negative Last counts from the end. They do not describe a command with MovableKeys. For
	// routing use Keys.
	First, Last, Step int

	Categories []string // ACL categories, "@string" …, sorted
	Family     Family   // as the categories say
	Tips       []string // "request_policy:all_shards" …, as COMMAND reports them

	container *Command   // the container of a subcommand; else nil
	subs      []*Command // the subcommands of a container, sorted by name
	specs     []keySpec
	native    keyFinder // for the few commands whose keys no specification describes (SORT, MIGRATE)
	oneKey    bool      // every request has exactly one key, at First
	block     blockRule
	refusal   string
	learned   bool // from a node's COMMAND: the built-in table lacks it
	absent    bool // the nodes do not know the command, so it is unknown to clients too
}

// Container returns the command that a subcommand belongs to, nil for any other command.
func (c *Command) Container() *Command { return c.container }

// Subcommands returns the subcommands of a container, sorted by name; nil for any other command.
func (c *Command) Subcommands() []*Command { return c.subs }

// Keyless reports whether the command never has a key. If it is Shared, it may go to any primary.
// Shard channels (SPUBLISH) count as keys here and in Keys: they are routed like keys.
func (c *Command) Keyless() bool { return len(c.specs) == 0 && c.native == nil }

// KeysUnknown reports whether the node alone knows which arguments are keys: it says that they are
// not always at the same places, and does not say where.
func (c *Command) KeysUnknown() bool { return c.Flags.Has(MovableKeys) && c.Keyless() }

// MayUseOtherKeys reports whether the node may use keys that Keys does not find: those that a script
// does not name, or that SORT makes of its patterns.
func (c *Command) MayUseOtherKeys() bool {
	return c.Flags.Has(NoMandatoryKeys) || slices.ContainsFunc(c.specs, func(s keySpec) bool { return s.unknown })
}

// OneKey returns which word of every request is its one key; 0: the command has none, or more than one.
func (c *Command) OneKey() int {
	if c.oneKey && !c.Channels() {
		return c.First
	}
	return 0
}

// Channels reports whether Keys finds shard channels: they are routed like keys, but name no data.
func (c *Command) Channels() bool { return len(c.specs) > 0 && c.specs[0].flags&KeyChannel != 0 }

// CheckArity returns nil when nargs words, the name included, are a valid number for the command.
// Otherwise it returns the error of Redis.
func (c *Command) CheckArity(nargs int) error {
	if nargs == c.Arity || c.Arity < 0 && nargs >= -c.Arity {
		return nil
	}
	return arityError(c.Name)
}

// CheckSteps returns nil unless the keys of the command come in steps (MSET key value …) and nargs
// words end within a step. Then it returns the error that a node would give. Call it before cutting
// a request at its keys.
func (c *Command) CheckSteps(nargs int) error {
	if c.Step > 1 && c.Last == -1 && (nargs-c.First)%c.Step != 0 {
		return arityError(c.Name)
	}
	return nil
}

// Travels returns the way of one request: the command's Way, but Shared for a Blocking command that
// does not block as written.
func (c *Command) Travels(args [][]byte) Way {
	if c.Way == Blocking && !c.Blocks(args) {
		return Shared
	}
	return c.Way
}

// Learned reports whether only the nodes told of the command: a module's, or a newer one.
func (c *Command) Learned() bool { return c.learned }

// MayQuote reports whether an error of the command may have words that its client chose: it is a
// script, comes from a module, or has a trait that says so.
func (c *Command) MayQuote() bool {
	return c.learned || c.Flags.Has(NoMandatoryKeys) || c.Traits&(Quotes|Registers) != 0
}

// Moves reports whether Moved may change the way of the command: it is a module's, or a newer one, and
// goes to one node.
func (c *Command) Moves() bool { return (c.learned || c.Flags.Has(Module)) && c.Way != FanOut }

// Refusal returns the error for a client that sends a Refused command, as codec.AppendError takes
// it; "" for any other command.
func (c *Command) Refusal() string { return c.refusal }

// RefusalInCluster is Refusal over a Cluster, where the nodes refuse some commands themselves.
func (c *Command) RefusalInCluster() string { return cmp.Or(clusterRefusals[c.Name], c.refusal) }
