package main

import "github.com/berth-proxy/berth/router"

// fanOut sends a request to every primary. Over one node it is an ordinary command.
func (s *session) fanOut(cmd *router.Command, raw []byte, args [][]byte) bool {
	t := s.loop.srv.nodes.Topology()
	pipes, alone := s.pipes, false
	switch {
	case cmd.Join == router.JoinAny && !cmd.Learned(): // SCRIPT KILL, FUNCTION KILL: what they end may keep the client's pipe
		pipes = s.loop.pipes.Beside(s.pipes.Identity())
	case !t.Sharded():
		return s.share(cmd, raw, args)
	case s.apart(cmd, args):
		if s.waiting > 0 {
			return s.hold(pauseDraining)
		}
		alone = true
		if pipes = s.loop.pipes.Alone(s.pipes.Identity()); pipes == nil {
			s.loop.crowd = append(s.loop.crowd, s)
			return s.hold(pauseCrowded)
		}
	}
	switch cmd.Join {
	case router.JoinCursor:
		return s.scan(cmd, args)
	case router.JoinPick:
		return s.pick(cmd, raw)
	}
	if !s.turnTo(onPipes, t) {
		return false
	}
	if len(t.Shards()) == 0 {
		return s.refuse(cmd, errNotServed)
	}
	if !s.beginFlush(cmd) {
		return false
	}
	r := s.newRequest(cmd)
	s.countClients(r, args, "")
	if alone {
		s.pauseFor(pauseAnswering) // what comes after it travels on other connections
	}
	j := s.loop.splitter.join(r, len(t.Shards()))
	if cmd.Join == router.JoinNewest {
		j.most = mostEntries(args)
	}
	for i := range j.parts {
		p := &j.parts[i]
		if err := pipes.Shard(t, i).Send(raw, 1, p); err != nil {
			p.Lost(err, raw)
		}
	}
	return true
}
