package main

import (
	"fmt"
	"iter"
	"strings"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// answerFunc answers a command out of berth's own knowledge: it appends the reply to out.
type answerFunc func(s *session, args [][]byte, out []byte) []byte

// runFunc runs a command that changes the session, or that needs a node's word first. As dispatch
// does, it returns false when the request has to wait.
type runFunc func(s *session, cmd *router.Command, raw []byte, args [][]byte) bool

// ownCommand is a command that berth answers itself, alone or with a node's help.
type ownCommand struct {
	name   string
	answer answerFunc
	run    runFunc // before answer, if there are both

	// Who may run the command the nodes know. like names commands instead, for one that no node
	// knows: who may run all of them. mayAsk is for a node that cannot be asked about a user: words
	// that do nothing there, which the user says itself, commands apart by semicolons. mayAskOld
	// are the words before Redis 7.0.
	like, mayAsk, mayAskOld string

	atNode func(s *session) bool // reports whether a node answers it nevertheless; nil: none does

	// Between MULTI and EXEC the command is queued, and EXEC runs it. refusal says why it cannot be
	// queued, in words for the client; "": it can be. Commands that change what the next ones mean
	// go to the node as well: inExec makes of the client what the node has agreed to, and appends
	// the reply. With nodeInExec the node alone answers.
	refusal    func(s *session, args [][]byte) (text string)
	inExec     func(s *session, c *ownInExec, reply, out []byte) []byte
	nodeInExec bool

	ask *question // of like, mayAsk and mayAskOld
}

// ownCommands is the table of all of them.
func ownCommands() []ownCommand {
	return []ownCommand{
		{name: "ping", answer: ping, run: pingInOrder, mayAsk: "PING", atNode: pingsNode},
		{name: "echo", answer: echo, mayAsk: "ECHO berth"},
		{name: "time", answer: serverTime, mayAsk: "TIME"},
		{name: "quit", run: quit},
		{name: "reset", run: reset},
		{name: "auth", run: auth, refusal: (*session).authRefusal},
		{name: "hello", run: hello, refusal: (*session).helloRefusal, inExec: turnedHello},
		{name: "select", run: selectDB, inExec: turnedDB, mayAsk: "SELECT berth"},
		{name: "readonly", answer: readMode(true), mayAsk: "READONLY; READWRITE"},
		{name: "readwrite", answer: readMode(false), mayAsk: "READWRITE"},
		{name: "asking", answer: clusterOnly(asking), mayAsk: "ASKING; READWRITE"},

		{name: "multi", run: multi, mayAsk: "MULTI; EXEC"},
		{name: "exec", run: execTransaction, mayAsk: "EXEC"},
		{name: "discard", run: discard, mayAsk: "DISCARD"},
		{name: "watch", run: watchKeys},
		{name: "unwatch", run: unwatchKeys, nodeInExec: true, mayAsk: "UNWATCH"},

		{name: "client|id", answer: clientID, mayAsk: "CLIENT ID"},
		{name: "client|getname", answer: clientGetName, mayAsk: "CLIENT GETNAME"},
		{name: "client|setname", answer: clientSetName, mayAsk: "CLIENT SETNAME \n"},
		{name: "client|setinfo", answer: clientSetInfo, mayAsk: "CLIENT SETINFO berth berth"},
		{name: "client|no-evict", answer: clientSwitch(func(s *session, on bool) { s.noEvict = on }), mayAsk: "CLIENT NO-EVICT berth"},
		{name: "client|no-touch", answer: clientSwitch(func(s *session, on bool) { s.noTouch = on }), mayAsk: "CLIENT NO-TOUCH berth"},
		{name: "client|capa", answer: clientCapa, mayAsk: "CLIENT CAPA berth"},
		{name: "client|import-source", answer: clientImportSource, mayAsk: "CLIENT IMPORT-SOURCE off"},
		{name: "client|help", answer: clientHelp, mayAsk: "CLIENT HELP", atNode: (*session).overNodes},
		{name: "client|reply", run: clientReply, mayAsk: "CLIENT REPLY berth"},
		{name: "client|info", answer: clientInfo, mayAsk: "CLIENT INFO"},
		{name: "client|list", run: clientList, mayAsk: "CLIENT LIST TYPE berth"},
		{name: "client|kill", run: clientKill, mayAsk: "CLIENT KILL TYPE berth"},
		{name: "client|pause", run: pauseCommand, mayAsk: "CLIENT PAUSE never"},
		{name: "client|unpause", run: unpauseCommand, mayAskOld: "CLIENT UNPAUSE berth"},
		{name: "client|unblock", run: clientUnblock, mayAsk: "CLIENT UNBLOCK berth"},
		{name: "client|tracking", run: clientTracking, refusal: (*session).trackingRefusalInExec, inExec: turnedTracking, mayAsk: "CLIENT TRACKING berth"},
		{name: "client|caching", answer: clientCaching, inExec: passOn, mayAsk: "CLIENT CACHING berth"},
		{name: "client|trackinginfo", run: askTracking, refusal: (*session).askTrackingRefusal, nodeInExec: true, mayAsk: "CLIENT TRACKINGINFO"},
		{name: "client|getredir", run: askRedirect, refusal: (*session).askTrackingRefusal, nodeInExec: true, mayAsk: "CLIENT GETREDIR"},
		{name: "acl|whoami", answer: aclWhoAmI, mayAsk: "ACL WHOAMI"},

		{name: "cluster|slots", answer: clusterOnly(clusterSlots), mayAsk: "CLUSTER SLOTS"},
		{name: "cluster|shards", answer: clusterOnly(clusterShards), mayAsk: "CLUSTER SHARDS"},
		{name: "cluster|nodes", answer: clusterOnly(clusterNodes), mayAsk: "CLUSTER NODES"},
		{name: "cluster|info", run: clusterInfo, mayAsk: "CLUSTER INFO"},
		{name: "cluster|myid", answer: clusterOnly(clusterMyID), mayAsk: "CLUSTER MYID"},
		{name: "cluster|myshardid", answer: clusterOnly(clusterMyShardID), mayAsk: "CLUSTER MYSHARDID"},
		{name: "cluster|keyslot", answer: clusterKeySlot, mayAsk: "CLUSTER KEYSLOT berth"},
		{name: "cluster|links", answer: clusterOnly(clusterLinks), mayAsk: "CLUSTER LINKS"},
		{name: "cluster|replicas", answer: clusterOnly(clusterReplicas), mayAsk: "CLUSTER REPLICAS berth"},
		{name: "cluster|slaves", answer: clusterOnly(clusterReplicas), mayAsk: "CLUSTER SLAVES berth"},
		{name: "cluster|count-failure-reports", answer: clusterOnly(clusterFailureReports), mayAsk: "CLUSTER COUNT-FAILURE-REPORTS berth"},
		{name: "cluster|help", answer: clusterOnly(clusterHelp), mayAsk: "CLUSTER HELP"},
		{name: "cluster|countkeysinslot", run: askSlot, mayAsk: "CLUSTER COUNTKEYSINSLOT -1"},
		{name: "cluster|getkeysinslot", run: askSlot, mayAsk: "CLUSTER GETKEYSINSLOT -1 0"},

		{name: "command", answer: commandAll, mayAsk: "COMMAND"},
		{name: "command|count", answer: commandCount, mayAsk: "COMMAND COUNT"},
		{name: "command|info", answer: commandInfo, run: commandInfoAside, mayAsk: "COMMAND INFO get"},
		{name: "command|list", answer: commandList, mayAsk: "COMMAND LIST FILTERBY PATTERN berth"},
		{name: "command|help", answer: commandHelp, mayAsk: "COMMAND HELP"},
		{name: "command|getkeys", run: commandGetKeys, atNode: (*session).overNodes},
		{name: "command|docs", run: commandDocs, atNode: (*session).overNodes},

		{name: "config|help", answer: configHelp, mayAsk: "CONFIG HELP"},
		{name: "config|get", run: configGet, mayAsk: "CONFIG GET berth"},
		{name: "config|set", run: configSet, mayAsk: "CONFIG SET berth no"},
		{name: "config|rewrite", run: configRewrite, mayAskOld: "CONFIG REWRITE berth"},
		{name: "config|resetstat", run: configResetStat, mayAskOld: "CONFIG RESETSTAT berth"},
		{name: "info", run: info, mayAsk: "INFO berth"},
		{name: "wait", run: waitForReplicas, refusal: waitInMulti, nodeInExec: true, mayAsk: "WAIT 0 0"},

		// berth asks about these and runs them by the way of subscribers.
		{name: "unsubscribe", mayAsk: "UNSUBSCRIBE"},
		{name: "punsubscribe", mayAsk: "PUNSUBSCRIBE"},
		{name: "sunsubscribe", mayAsk: "SUNSUBSCRIBE"},

		{name: "proxy|help", answer: proxyHelp, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|backends", run: proxyBackends, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|bigkeys", run: proxyBigKeys, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|cache", run: proxyCache, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|clients", run: proxyClients, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|hotkeys", run: proxyHotKeys, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|pins", run: proxyPins, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|pools", run: proxyPools, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|reconnect", run: proxyReconnect, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|slowlog", run: proxySlowlog, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|slots", run: proxySlots, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|stats", run: proxyStats, like: likeAdmin, mayAsk: mayAdmin},
		{name: "proxy|top", run: proxyTop, like: likeAdmin, mayAsk: mayAdmin},
	}
}

// noOwn stands for a command that nodes answer.
var noOwn ownCommand

// ownIndex finds rows by router.Command.ID. It is made once: what is learned from nodes later has
// higher IDs, and is theirs.
type ownIndex []*ownCommand

func newOwnIndex(table *router.Table) ownIndex {
	return indexRows(table, ownCommands())
}

// indexRows panics unless each command that berth adds can be answered, and says who may run it:
// what is left out here would be open to everybody.
func indexRows(table *router.Table, rows []ownCommand) ownIndex {
	index := make(ownIndex, len(table.Commands()))
	for i := range index {
		index[i] = &noOwn
	}
	for _, row := range rows {
		cmd := table.Find(row.name)
		if cmd == nil || index[cmd.ID] != &noOwn {
			panic(fmt.Sprintf("own command %s: not in the table of commands, or twice", row.name))
		}
		row.ask = newQuestion(&row)
		index[cmd.ID] = &row
	}
	for _, cmd := range table.Commands() {
		if !isAdded(cmd) || cmd.Subcommands() != nil {
			continue
		}
		switch row := index[cmd.ID]; {
		case row.answer == nil && row.run == nil:
			panic(fmt.Sprintf("own command %s: nobody answers it: add a row to commands.go", cmd.Name))
		case row.ask.like == nil:
			panic(fmt.Sprintf("own command %s: no node knows it, so its row needs like", cmd.Name))
		}
	}
	return index
}

// Who may use PROXY: whoever may look into a server as an administrator does. A user without
// @admin, or without @dangerous, may run neither.
const (
	likeAdmin = "CONFIG GET berth; CLIENT LIST"
	mayAdmin  = "CONFIG GET berth; CLIENT LIST TYPE berth"
)

// newQuestion returns how a node is asked about the command of a row.
func newQuestion(row *ownCommand) *question {
	q := &question{}
	for words := range eachCommand(row.like) {
		command := make([][]byte, len(words))
		for i, word := range words {
			command[i] = []byte(word)
		}
		q.like = append(q.like, command)
	}
	for words := range eachCommand(row.mayAsk) {
		q.words = codec.AppendCommandString(q.words, words...)
		q.n++
	}
	for words := range eachCommand(row.mayAskOld) {
		q.old = codec.AppendCommandString(q.old, words...)
		q.n++
	}
	return q
}

// eachCommand yields the words of each command in text.
func eachCommand(text string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for command := range strings.SplitSeq(text, ";") {
			if command = strings.TrimLeft(command, " "); command != "" && !yield(strings.Split(command, " ")) {
				return
			}
		}
	}
}

// of returns the row of a command, an empty one for a command that nodes answer.
func (index ownIndex) of(cmd *router.Command) *ownCommand {
	if cmd.ID < len(index) {
		return index[cmd.ID]
	}
	return &noOwn
}

// own returns the row of a command.
func (s *session) own(cmd *router.Command) *ownCommand { return s.loop.srv.own.of(cmd) }

// isOurs reports whether the nodes that there are leave the command to berth.
func (s *session) isOurs(own *ownCommand) bool { return own.atNode == nil || !own.atNode(s) }

// overNodes reports whether the backend is not the embedded one.
func (s *session) overNodes() bool { return s.loop.srv.nodes.Info().Kind != nodes.Embedded }

// answersItself reports whether no node sees the command.
func (s *session) answersItself(cmd *router.Command) bool {
	own := s.own(cmd)
	return (own.answer != nil || own.run != nil) && s.isOurs(own) || cmd.Way == router.Refused && !s.debugs(cmd)
}
