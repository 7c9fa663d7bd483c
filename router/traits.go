package router

// Traits are what a proxy has to know about a command beyond what COMMAND reports. They are columns
// of commands.tbl, so that no code compares names. A command that was learned from a node has none.
type Traits uint64

const (
	Replicates      Traits = 1 << iota // passed on to replicas without being a write: CLIENT PAUSE WRITE holds it
	Echoes                             // publishes: its client may have subscribed to the channel itself
	Unqueued                           // runs at once between MULTI and EXEC
	Exec                               // runs what was queued
	Watch                              // begins a WATCH
	Broadcast                          // a blocking read that takes nothing away: all waiting clients get the reply
	Personal                           // blocks on behalf of one consumer: no other client may have the reply
	Monitor                            // the node then sends the commands of other clients
	Replication                        // speaks of the replica that its client is, or begins to be
	BeginsStream                       // unless it fails, all that the node says afterwards is replication's
	Subscribes                         // adds channels to a client
	Unsubscribes                       // takes channels from a client
	Patterns                           // its channels are patterns
	WhileSubscribed                    // allowed to a RESP2 client with subscriptions
	Protected                          // refused to every client, before authentication: Redis' PROTECTED flag
	Debug                              // a Protected command that enable-debug-command allows
	ClusterOnly                        // a container that a standalone node refuses as a whole
	Connection                         // a container of commands about the connection itself
	Rules                              // changes what users may do
	BySHA                              // names a script by the SHA1 of its body
	LoadsScript                        // gives a script to the nodes
	FindsScripts                       // asks whether the nodes have scripts
	FlushesScripts                     // has the nodes forget all scripts
	Flushes                            // ends all keys
	Undoes                             // ends what a connection was used for: berth says it for itself, too
	Listeners                          // tells who listens: nodes count berth's feeds in place of its clients
	Sharded                            // is about shard channels
	Quotes                             // its error may quote a word of the client's as it is, with line breaks
	TakesCode                          // has a script's or a library's code among its words
	Registers                          // has a node run a library's code, and may quote what that raises
	AtPrimary                          // a read of what each node keeps for itself: when a key was used last, what a cursor means
	Cacheable                          // a read whose reply depends on its words and on its keys alone; the second word is the first key
	Swaps                              // has databases change places, of which no node tells
)

// traitNames are the names in commands.tbl, in the order of the bits.
var traitNames = [...]string{
	"replicates", "echoes", "unqueued", "exec", "watch", "broadcast", "personal", "monitor", "replication", "stream", "subscribes", "unsubscribes",
	"patterns", "whilesubscribed", "protected", "debug", "cluster", "client", "rules",
	"bysha", "loadsscript", "findsscripts", "flushesscripts", "flushes", "undoes", "listeners", "sharded", "quotes", "takescode", "registers", "atprimary", "cacheable", "swaps",
}

// Is reports whether the command has all of these traits.
func (t Traits) Is(want Traits) bool { return t&want == want }

// Within reports whether the command is a subcommand of a container with these traits.
func (c *Command) Within(want Traits) bool { return c.container != nil && c.container.Is(want) }

// Undo is how an element that a blocking command has popped goes back to its key.
type Undo uint8

const (
	UndoNone       Undo = iota // nothing is popped, or the command itself moves it to another key
	UndoLeft                   // LPUSH
	UndoRight                  // RPUSH
	UndoSide                   // LPUSH or RPUSH, as the command says LEFT or RIGHT
	UndoScore                  // ZADD of one member
	UndoManyScores             // ZADD of several
)

// undoNames are the names in commands.tbl.
var undoNames = [...]string{"", "lpush", "rpush", "push", "zadd", "zaddall"}
