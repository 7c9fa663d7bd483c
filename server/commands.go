package main

import (
	"cmp"
	"fmt"
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

	// mayAsk is for users who may run a command, and no others: in these words a node is asked,
	// which does nothing there but say no. mayAs names the command that is asked about in its
	// place.
	mayAsk, mayAs string

	embedded bool // berth answers for the embedded backend only; other nodes do so themselves

	// Between MULTI and EXEC the command is queued, and EXEC runs it. refusal says why it cannot be
	// queued, in words for the client; "": it can be. Commands that change what the next ones mean
	// go to the node as well: inExec makes of the client what the node has agreed to, and appends
	// the reply. With nodeInExec the node alone answers.
	refusal    func(s *session, args [][]byte) (text string)
	inExec     func(s *session, c *ownInExec, reply, out []byte) []byte
	nodeInExec bool

	ask *question // of mayAsk and mayAs; nil: every user may run it
}

// ownCommands is the table of all of them.
func ownCommands() []ownCommand {
	return []ownCommand{
		{name: "ping", answer: ping, run: pingInOrder},
		{name: "echo", answer: echo},
		{name: "time", answer: serverTime},
		{name: "quit", run: quit},
		{name: "reset", run: reset},
		{name: "auth", run: auth, refusal: (*session).authRefusal, inExec: turnedUser},
		{name: "hello", run: hello, refusal: (*session).helloRefusal, inExec: turnedHello},
		{name: "select", run: selectDB, inExec: turnedDB},
		{name: "readonly", answer: clusterMode(func(s *session) { s.readonly = true })},
		{name: "readwrite", answer: clusterMode(func(s *session) { s.readonly = false })},
		{name: "asking", answer: clusterMode(func(*session) {})},

		{name: "multi", run: multi},
		{name: "exec", run: execTransaction},
		{name: "discard", run: discard},
		{name: "watch", run: watchKeys},
		{name: "unwatch", run: unwatchKeys, nodeInExec: true},

		{name: "client|id", answer: clientID},
		{name: "client|getname", answer: clientGetName},
		{name: "client|setname", answer: clientSetName},
		{name: "client|setinfo", answer: clientSetInfo},
		{name: "client|no-evict", answer: clientSwitch(func(s *session, on bool) { s.noEvict = on })},
		{name: "client|no-touch", answer: clientSwitch(func(*session, bool) {})},
		{name: "client|help", answer: clientHelp},
		{name: "client|reply", run: clientReply},
		{name: "client|info", answer: clientInfo},
		{name: "client|list", run: clientList, mayAsk: "CLIENT LIST ID 0"},
		{name: "client|kill", run: clientKill, mayAsk: "CLIENT KILL ID 0"},
		{name: "client|pause", run: pauseCommand, mayAsk: "CLIENT PAUSE never"},
		{name: "client|unpause", run: unpauseCommand, mayAsk: "CLIENT PAUSE never", mayAs: "client|pause"},
		{name: "client|unblock", run: clientUnblock, mayAsk: "CLIENT UNBLOCK 0"},
		{name: "client|tracking", run: clientTracking, refusal: (*session).trackingRefusal, inExec: turnedTracking},
		{name: "client|caching", answer: clientCaching, inExec: passOn},
		{name: "client|trackinginfo", run: askTracking, nodeInExec: true},
		{name: "client|getredir", run: askTracking, nodeInExec: true},
		{name: "acl|whoami", answer: aclWhoAmI},

		{name: "cluster|slots", answer: clusterOnly(clusterSlots)},
		{name: "cluster|shards", answer: clusterOnly(clusterShards)},
		{name: "cluster|nodes", answer: clusterOnly(clusterNodes)},
		{name: "cluster|info", answer: clusterOnly(clusterInfo)},
		{name: "cluster|myid", answer: clusterOnly(clusterMyID)},
		{name: "cluster|myshardid", answer: clusterOnly(clusterMyShardID)},
		{name: "cluster|keyslot", answer: clusterOnly(clusterKeySlot)},
		{name: "cluster|links", answer: clusterOnly(clusterLinks)},
		{name: "cluster|replicas", answer: clusterOnly(clusterReplicas)},
		{name: "cluster|slaves", answer: clusterOnly(clusterReplicas)},
		{name: "cluster|count-failure-reports", answer: clusterOnly(clusterFailureReports)},
		{name: "cluster|help", answer: clusterOnly(clusterHelp)},
		{name: "cluster|countkeysinslot", run: askSlot},
		{name: "cluster|getkeysinslot", run: askSlot},

		{name: "command", answer: commandAll},
		{name: "command|count", answer: commandCount},
		{name: "command|info", answer: commandInfo, run: commandInfoAside},
		{name: "command|list", answer: commandList},
		{name: "command|help", answer: commandHelp},
		{name: "command|getkeys", run: commandGetKeys, embedded: true},
		{name: "command|docs", run: commandDocs, embedded: true},

		{name: "config|help", answer: configHelp},
		{name: "config|get", run: configGet},
		{name: "config|set", run: configSet, mayAsk: "CONFIG SET berth no"},
		{name: "config|rewrite", run: configRewrite},
		{name: "config|resetstat", run: configResetStat},
		{name: "info", run: info},
		{name: "wait", run: waitForReplicas, refusal: waitInMulti, nodeInExec: true},

		{name: "proxy|help", answer: proxyHelp},
		{name: "proxy|backends", run: proxyBackends, mayAsk: "CLIENT LIST ID 0", mayAs: "client|list"},
		{name: "proxy|clients", run: proxyClients, mayAsk: "CLIENT LIST ID 0", mayAs: "client|list"},
		{name: "proxy|pins", run: proxyPins, mayAsk: "CLIENT LIST ID 0", mayAs: "client|list"},
		{name: "proxy|pools", run: proxyPools, mayAsk: "CLIENT LIST ID 0", mayAs: "client|list"},
		{name: "proxy|slots", run: proxySlots, mayAsk: "CLIENT LIST ID 0", mayAs: "client|list"},
		{name: "proxy|stats", run: proxyStats, mayAsk: "CLIENT LIST ID 0", mayAs: "client|list"},
	}
}

// noOwn stands for a command that nodes answer.
var noOwn ownCommand

// ownIndex finds rows by router.Command.ID. It is made once: what is learned from nodes later has
// higher IDs, and is theirs.
type ownIndex []*ownCommand

func newOwnIndex(table *router.Table) ownIndex {
	index := make(ownIndex, len(table.Commands()))
	for i := range index {
		index[i] = &noOwn
	}
	for _, row := range ownCommands() {
		cmd := table.Find(row.name)
		if cmd == nil || index[cmd.ID] != &noOwn {
			panic(fmt.Sprintf("own command %s: not in the table of commands, or twice", row.name))
		}
		if row.mayAsk != "" {
			row.ask = &question{codec.AppendCommandString(nil, strings.Fields(row.mayAsk)...), 1, cmp.Or(row.mayAs, row.name)}
		}
		index[cmd.ID] = &row
	}
	return index
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

// runOwn runs a command that has a run function, for those users who may.
func (s *session) runOwn(own *ownCommand, cmd *router.Command, raw []byte, args [][]byte) bool {
	if own.ask == nil {
		return own.run(s, cmd, raw, args)
	}
	return s.permitted(own.ask, own.run, cmd, raw, args)
}

// isOurs reports whether the nodes that there are leave the command to berth.
func (s *session) isOurs(own *ownCommand) bool {
	return !own.embedded || s.loop.srv.nodes.Info().Kind == nodes.Embedded
}

// answersItself reports whether no node sees the command.
func (s *session) answersItself(cmd *router.Command) bool {
	own := s.own(cmd)
	return (own.answer != nil || own.run != nil) && s.isOurs(own) || cmd.Way == router.Refused && !s.debugs(cmd)
}
