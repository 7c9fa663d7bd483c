package main

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/lane"
	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/telemetry"
)

// A running berth moves to another backend, and closes no client for that.
//
//	CONFIG SET backend ─▶ the new nodes are asked ─ no answer ─▶ refused, all is as before
//	                          └─▶ every loop stands still ─▶ another topology, other logins ─▶ each loop moves its clients
//
// What loops, and all that they own, know of the old backend ends in one moment, so no request sees a part
// of each. A request that has gone out is answered by the old nodes; a client's next one waits for that, as
// after any change of the topology. A request that has not gone out goes to the new nodes.
//
// What the old nodes have let a client do is nothing to the new ones: see Logins.Moved.

// backendOptions are the options that say where the nodes are, how they are reached, and who berth is there.
var backendOptions = []string{
	"backend", "backend-user", "backend-password", "backend-password-file", "backend-tls-ca-file", "backend-tls-cert-file",
	"backend-tls-key-file", "backend-tls-key-file-pass", "backend-tls-server-name", "backend-tls-insecure-skip-verify",
}

var (
	errNoWayBack = errors.New("there is no way to the embedded backend but a restart")
	errLoopHangs = errors.New("berth is too busy to change its backend")
)

// tryBackend moves to the backend of a configuration that is to be, or leaves all as it was.
func (srv *server) tryBackend(next *config.Config, _ string) error {
	target, embedded := next.Target(), srv.nodes.Info().Kind == nodes.Embedded
	same := reflect.DeepEqual(target, srv.nodes.Target())
	switch {
	case next.Backend.Embedded() && embedded:
		return nil
	case next.Backend.Embedded():
		return errNoWayBack
	}
	if err := next.CheckBackend(); err != nil {
		return err
	}
	dialer, undo, err := dialerOf(next, srv.nodeCerts)
	if err != nil || same { // new connections are made by the new files
		return err
	}
	if err := srv.moveTo(target, dialer, next.BackendConnectTimeout); err != nil {
		undo()
		slog.Warn("backend as before", "why", err)
		return err
	}
	return nil
}

// moveTo moves to another backend. No node is asked for longer than patience.
func (srv *server) moveTo(target nodes.Target, dialer *backend.Dialer, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	found, err := srv.nodes.Find(ctx, target, dialer)
	if err != nil {
		return err
	}
	m := &move{srv: srv, from: srv.nodes.Target(), to: target, wasSharded: srv.nodes.Topology().Sharded()}
	m.meet(ctx, found)
	if err := srv.nodes.Move(found, m.make); err != nil {
		return err
	}
	srv.openPools()
	srv.learnCommands()
	slog.Info("backend changed", "from", m.from, "to", m.to, "is", found.Describe())
	return nil
}

// move is one move to another backend.
type move struct {
	srv        *server
	from, to   nodes.Target
	wasSharded bool
	isSharded  bool

	free     bool     // the new nodes want no password
	accepted []string // passwords of the default user that the new nodes accept
	strange  bool     // what clients of the default user have given proves nothing to the new nodes
}

// meet finds out what the passwords of the default user's clients are worth at the new nodes.
func (m *move) meet(ctx context.Context, found *nodes.Found) {
	m.free = !found.AuthRequired()
	if m.free {
		return
	}
	passwords, _ := m.srv.pipeSettings.Logins.DefaultPasswords()
	for _, p := range passwords {
		if found.Accepts(ctx, p) {
			m.accepted = append(m.accepted, p)
		}
	}
}

// proven reports whether every client of the default user has given a password that the new nodes accept.
func (m *move) proven() bool {
	if m.free {
		return true
	}
	passwords, whole := m.srv.pipeSettings.Logins.DefaultPasswords()
	return whole && !m.srv.letIn.Load() && !slices.ContainsFunc(passwords, func(p string) bool { return !slices.Contains(m.accepted, p) })
}

// standing is for how long loops may take to come to a stand.
const standing = 5 * time.Second

// make makes the move while no loop does anything else. take has the new nodes take the place of the old
// ones.
func (m *move) make(take func()) error {
	loops := m.srv.eachLoop()
	stands, done, goOn := make(chan struct{}, len(loops)), make(chan struct{}, len(loops)), make(chan bool)
	for _, l := range loops {
		l.Post(func() {
			stands <- struct{}{}
			if <-goOn {
				l.moveSessions(m)
			}
			done <- struct{}{}
		})
	}
	late := time.After(standing)
	for range loops {
		select {
		case <-stands:
		case <-late:
			close(goOn)
			return errLoopHangs
		}
	}
	take()
	m.takeOver()
	for range loops {
		goOn <- true
	}
	for range loops {
		<-done
	}
	for _, l := range loops { // after those clients have left that go on as somebody else
		l.Post(l.lanes.TopologyChanged)
	}
	return nil
}

// takeOver drops what is known of the old nodes, and of what users may do there. The loops stand.
func (m *move) takeOver() {
	srv := m.srv
	m.isSharded = srv.nodes.Topology().Sharded()
	m.strange = !m.proven()
	srv.moves.Add(1)
	srv.pipeSettings.Logins.Moved(backend.UserNamed(m.to.User), m.to.Password, !m.strange)
	if m.strange {
		srv.letIn.Store(false)
	}
	srv.rights.forget()
	srv.replicas.Forget()
	srv.pools.Retain(func(string) bool { return false })
}

// moveSessions moves all that the loop owns.
func (l *loop) moveSessions(m *move) {
	l.lanes.ChangeDB(m.from.DB, m.to.DB)
	var blocked []*session
	for s := l.first; s != nil; {
		next := s.next
		if s.move(m) {
			blocked = append(blocked, s)
		}
		s = next
	}
	for _, s := range blocked {
		s.blockAgain()
	}
	l.pipes.Moved(l.srv.nodes.Topology())
	l.feeds.Moved()
}

// move has a client go on at the new nodes. again: it waits with others for elements, and has to be
// entered anew.
func (s *session) move(m *move) (again bool) {
	if s.closed {
		return false
	}
	old := s.pipes.Identity()
	id := old
	if id.DB == m.from.DB {
		id.DB = m.to.DB
	}
	if id.User == "" && m.strange {
		s.admit(false) // it keeps the old Credential, by which nobody logs in any more
	}
	if t := s.txn; t != nil && t.n > 0 && (len(t.locals) > 0 || m.isSharded && !m.wasSharded) {
		t.spoilt = true // the old nodes have said who may run berth's own, and nobody knows the slots
	}
	s.endBlock(m, old)
	s.leaveOldLeases()
	s.become(id)
	s.forgetOldKeys()
	switch {
	case s.tunnel != nil: // what it has is a copy of the old node
		s.kill(telemetry.ReplicationLost)
	case s.sub != nil && s.sub.own != nil:
		s.sub.own.goOn()
	}
	return !s.closed && s.blocked != nil && (old != id || !s.authenticated)
}

// endBlock ends a command that the client blocks in by itself, on a lease of its own.
func (s *session) endBlock(m *move, id backend.Identity) {
	if s.blocked == nil && s.pause == pauseBlocked {
		by := m.srv.asUser(id)
		by.DB = m.from.DB
		s.unblock(by, true)
	}
}

// leaveOldLeases gives back the leases to the old nodes that owe nothing. What they watched is lost.
func (s *session) leaveOldLeases() {
	if s.tracking == nil {
		s.dropKept("backend changed")
	}
	st := s.stay
	switch {
	case st == nil:
	case st.watching:
		if st.lease != nil && !st.owes() && !st.tracks() {
			lease := st.lease
			st.lose()
			lease.Detach()
		}
		st.broken = true
		s.loop.stats.Revoked(telemetry.RevokedMoved)
	case st.waiter != nil && st.redirected == nil: // the request that wants it is dispatched again
		st.waiter.Cancel()
		st.waiter = nil
		st.move(stayEnded)
		s.stay = nil
		s.resumeFrom(pauseLeasing)
	}
}

// forgetOldKeys tells a client that tracks keys to forget them all. Leases that owe something yet are left
// by the check of each second, which tells it again.
func (s *session) forgetOldKeys() {
	if s.tracking != nil {
		s.forgetAll()
		s.checkTracking(s.loop.srv.nodes.Topology())
	}
}

// blockAgain has a client that waits with others wait as whom it is now.
func (s *session) blockAgain() {
	old := s.blocked
	b := old.Leave().(*blockedRequest)
	s.blocked = nil
	if s.stranger() {
		b.Answer(codec.AppendError(nil, errNoAuth))
		return
	}
	s.blocked = old.Again(lane.Asker{Client: b, ID: s.id, Addr: s.remote(), Identity: s.pipes.Identity()})
	s.blocked.Join()
}
