package main

import (
	"slices"

	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// dispatch sends one request on its way. raw is the request as multibulk, args are its words; both
// are valid during the call only. It returns false when the session has to wait first: then nothing
// was done, and the same request is dispatched again when it goes on.
func (s *session) dispatch(raw []byte, args [][]byte) bool {
	s.muteThis = s.muteAll || s.muteNext == 1
	if s.isFull() {
		return s.holdFull()
	}
	cmd, err := s.loop.srv.table().Lookup(args)
	s.lastCmd = cmd
	if !s.maySubscribe(cmd) {
		return s.hold(pauseSubscribing)
	}
	early := s.stranger() && s.loop.srv.vetsFirst() && !router.CrossProtocol(args[0])
	if early {
		if admitted, taken := s.vetRequest(cmd, err); !admitted {
			return taken
		}
	}
	if err != nil {
		return s.notCommand(args, err)
	}
	if s.large != nil && (cmd.Way != router.Shared || s.txn != nil) {
		return s.refuse(cmd, "TRYAGAIN berth: '"+cmd.Name+"' changed its meaning while it came, command not executed")
	}
	if err := cmd.CheckArity(len(args)); err != nil {
		return s.refuse(cmd, err.Error())
	}
	if cmd.Is(router.Protected) && !s.debugs(cmd) {
		return s.refuse(cmd, cmd.Refusal()) // what a server allows only if its configuration says so
	}
	if !s.authenticated && !early {
		if admitted, taken := s.vetRequest(cmd, nil); !admitted {
			return taken
		}
	}
	if s.txn != nil && cmd.Flags.Has(router.NoMulti) {
		return s.refuse(cmd, s.loop.srv.noMulti(cmd))
	}
	if plain := cmd.Way == router.Shared && s.txn == nil && s.sub == nil; !plain && s.isJudged(cmd, args) {
		if refusal, ready := s.judge(cmd, args); !ready || refusal != "" {
			return ready && s.refuse(cmd, refusal)
		}
	}
	if s.subscribed() && s.resp() == 2 && !cmd.Is(router.WhileSubscribed) {
		return s.refuse(cmd, "ERR Can't execute '"+cmd.Name+
			"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	}
	if cmd.Is(router.Unsubscribes) && !s.subscribed() && s.loop.srv.isValkeySince(8, 0) && !s.loop.srv.isValkeySince(8, 1) {
		return s.refuse(cmd, "NOSUB '"+cmd.Name+"' command executed not in subscribed mode") // no other version says so
	}
	if s.monitors() && (cmd.Flags.Has(router.Readonly) || s.mayReplicate(cmd, args)) {
		return s.refuse(cmd, "ERR Replica can't interact with the keyspace") // what MONITOR makes of a client
	}
	if s.loop.srv.gate.stops(s, cmd, args) {
		return s.hold(pauseGated)
	}
	if cmd.Is(router.TakesCode) && !cmd.Is(router.Registers) && hasBackslash(args) {
		return s.refuse(cmd, errBackslash)
	}
	if s.txn != nil && !cmd.Is(router.Unqueued) {
		return s.queue(cmd, raw, args)
	}
	return s.travel(cmd, raw, args)
}

// travel takes a request that may run on the way of its command.
func (s *session) travel(cmd *router.Command, raw []byte, args [][]byte) (taken bool) {
	if s.fetching > 0 && s.awaitsFetch(cmd, args) {
		return s.hold(pauseFetching)
	}
	switch cmd.Travels(args) {
	case router.Local, router.Txn:
		return s.local(cmd, raw, args)
	case router.Split:
		return s.split(cmd, raw, args)
	case router.FanOut:
		if cmd.Is(router.Rules) {
			return s.changeRules(cmd, raw, args)
		}
		if cmd.Is(router.LoadsScript) || cmd.Is(router.FindsScripts) || cmd.Is(router.FlushesScripts) {
			return s.manageScripts(cmd, raw, args)
		}
		return s.fanOut(cmd, raw, args)
	case router.Script:
		return s.runScript(cmd, raw, args)
	case router.Blocking:
		return s.block(cmd, raw, args)
	case router.Pinned:
		return s.subscribe(cmd, raw, args)
	case router.Refused:
		if s.debugs(cmd) {
			return s.share(cmd, raw, args)
		}
		return s.refuse(cmd, s.refusal(cmd))
	case router.Shared:
		return s.share(cmd, raw, args)
	}
	panic("a way of commands without a case")
}

// errProxyHeader is the answer to a load balancer that berth has not been told of. Anybody could say
// that he is another.
const errProxyHeader = "ERR berth: no PROXY header is taken from this address, which is not in proxy-protocol-networks"

// isProxyHeader reports whether a line is a PROXY header of version 1. berth has a command of that
// name.
func isProxyHeader(args [][]byte) bool {
	return len(args) > 1 && string(args[0]) == "PROXY" && slices.Contains([]string{"TCP4", "TCP6", "UNKNOWN"}, string(args[1]))
}

// notCommand answers what is no command. POST and Host: are what a browser, tricked into talking to
// us, would send.
func (s *session) notCommand(args [][]byte, err error) bool {
	if router.CrossProtocol(args[0]) {
		s.end(telemetry.HTTPRequest)
		return true
	}
	if s.lastCmd == nil && isProxyHeader(args) {
		s.refuse(nil, errProxyHeader)
		s.end(telemetry.ProxyHeader)
		return true
	}
	return s.refuse(nil, err.Error())
}
