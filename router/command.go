package router

// Way is how a command travels from a client to the nodes.
type Way uint8

const (
	Shared   Way = iota // on the pipe to the owner of its keys' slot; on a pipe to any primary when it has none
	Local               // answered by the proxy itself
	Split               // cut by slot, sent to the owners, joined again
	FanOut              // to every primary, joined again
	Blocking            // on a lease, until its reply, when it blocks as written (Blocks); otherwise like Shared
	Pinned              // on a connection that keeps state for the client: a feed for subscriptions, else a lease until it goes
	Txn                 // MULTI EXEC DISCARD WATCH UNWATCH
	Refused             // never forwarded; Refusal has the words
)

var wayNames = [...]string{"shared", "local", "split", "fanout", "blocking", "pinned", "txn", "refused"}

func (w Way) String() string { return wayNames[w] }

// Join is how the replies to the parts of a Split or FanOut command become one. One failing part
// fails the whole command, except for JoinAny.
type Join uint8

const (
	JoinNone   Join = iota // not a command of several parts
	JoinMGet               // an array: each part's elements go back to the places their keys had (MGET)
	JoinOK                 // every part answers +OK (MSET)
	JoinSum                // integers, added (DEL, UNLINK, EXISTS, TOUCH, DBSIZE)
	JoinConcat             // arrays, one after the other (KEYS)
	JoinUnion              // arrays, each element once (PUBSUB CHANNELS)
	JoinPairs              // flat arrays of name and count, counts of the same name added (PUBSUB NUMSUB)
	JoinSame               // every part must succeed; the first reply stands for all (FLUSHALL, SCRIPT LOAD)
	JoinAnd                // arrays of 0 and 1 of one length, and-ed place by place (SCRIPT EXISTS)
	JoinAny                // one success is enough, else the first error (SCRIPT KILL)
	JoinPick               // one shard at random, the next one while the reply is nil (RANDOMKEY)
	JoinCursor             // one shard after the other; the cursor carries the shard (SCAN)
	JoinNewest             // arrays, the newest entries first, as many as were asked for (SLOWLOG GET); or all the same
)

var joinNames = [...]string{"", "mget", "ok", "sum", "concat", "union", "pairs", "same", "and", "any", "pick", "cursor", "newest"}

func (j Join) String() string { return joinNames[j] }

// Flags are the command flags of Redis, as COMMAND reports them.
type Flags uint32

const (
	Write           Flags = 1 << iota // may change data
	Readonly                          // reads data and changes none
	DenyOOM                           // refused by a node over its maxmemory
	Admin                             // an administrative command
	PubSub                            // about channels
	NoScript                          // not from a script
	MayBlock                          // "blocking": may block; Command.Blocks says whether it does as written
	Loading                           // allowed while a node loads its data
	Stale                             // allowed on a replica that lost its primary
	SkipMonitor                       // not shown to MONITOR
	SkipSlowlog                       // not kept in the slow log
	Asking                            // behaves as if ASKING came before it
	Fast                              // constant or logarithmic time
	NoAuth                            // allowed before authentication
	NoMulti                           // not inside MULTI
	MovableKeys                       // First, Last and Step do not say where all keys are
	NoMandatoryKeys                   // may have no key at all (EVAL script 0)
	NoAsyncLoading                    // not while a replica loads asynchronously
	AllowBusy                         // allowed while a script runs for too long
	Module                            // comes from a module
)

// flagNames are the names COMMAND uses, in the order of the bits.
var flagNames = [...]string{
	"write", "readonly", "denyoom", "admin", "pubsub", "noscript", "blocking", "loading", "stale", "skip_monitor",
	"skip_slowlog", "asking", "fast", "no_auth", "no_multi", "movablekeys", "no_mandatory_keys", "no_async_loading",
	"allow_busy", "module",
}

// Has reports whether all of want is set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// Command is one row of the table, or one learned from a node. It is immutable and shared by all
// who look it up.
type Command struct {
	ID    int    // dense, 0 … len(Table.Commands())-1; the same in a table and in all that were made from it by With
	Name  string // lower case; "get", and "config|get" for a subcommand
	Arity int    // words including the name(s): exactly n, or at least -n
	Flags Flags
	Way   Way
	Join  Join
	Traits
	Undo  Undo
	Since string // the Redis version that brought it, when later than 7.0; "" before, and for learned commands

	// First, Last and Step are the key positions as COMMAND reports them: 0 0 0 without keys; a
	// negative Last counts from the end. They do not cover a command with MovableKeys. For routing
	// use Keys.
	First, Last, Step int

	Categories []string // ACL categories, "@string" …, sorted
	Tips       []string // "request_policy:all_shards" …, as COMMAND reports them

	container *Command   // of a subcommand
	subs      []*Command // of a container, sorted by name
	specs     []keySpec
	native    keyFinder // for the few whose keys no spec describes (SORT, MIGRATE)
	oneKey    bool      // the key at First is the only one, always
	block     blockRule
	refusal   string
	absent    bool // the nodes lack it: unknown to a client, as to them
}

// Container is the command a subcommand belongs to, nil for others.
func (c *Command) Container() *Command { return c.container }

// Subcommands are the commands after a container's name, sorted by name; nil for a command that has
// none.
func (c *Command) Subcommands() []*Command { return c.subs }

// Keyless reports that the command never has a key: a Shared one may go to any primary. Shard
// channels (SPUBLISH) count as keys here and in Keys: they route alike.
func (c *Command) Keyless() bool { return len(c.specs) == 0 && c.native == nil }

// Channels reports that what Keys finds are shard channels: they route like keys, but name no data.
func (c *Command) Channels() bool { return len(c.specs) > 0 && c.specs[0].flags&KeyChannel != 0 }

// CheckArity returns nil when a command of nargs words, its name included, is complete, else the
// error Redis gives.
func (c *Command) CheckArity(nargs int) error {
	if nargs == c.Arity || c.Arity < 0 && nargs >= -c.Arity {
		return nil
	}
	return arityError(c.Name)
}

// CheckSteps returns nil when a command of nargs words whose keys come in steps (MSET key value …)
// ends with a whole step, else the error the node would give. Ask before cutting a request at its
// keys.
func (c *Command) CheckSteps(nargs int) error {
	if c.Step > 1 && c.Last == -1 && (nargs-c.First)%c.Step != 0 {
		return arityError(c.Name)
	}
	return nil
}

// Travels is the Way of this very request: Way, except that a Blocking command that does not block
// as written is Shared.
func (c *Command) Travels(args [][]byte) Way {
	if c.Way == Blocking && !c.Blocks(args) {
		return Shared
	}
	return c.Way
}

// Refusal is what a client gets that sends a Refused command, as codec.AppendError takes it; "" for
// all others.
func (c *Command) Refusal() string { return c.refusal }
