package main

import "slices"

// pause is why a session takes no further request for now. What the client sends meanwhile waits in
// its input.
//
//	none ─▶ draining     replies owed elsewhere come first              ─▶ none
//	     ─▶ full         the client is owed too much, or does not read  ─▶ none
//	     ─▶ leasing      the pool has no lease yet                      ─▶ none
//	     ─▶ answering    berth runs the client's own command            ─▶ none
//	     ─▶ vetting      a node says whether the user may run a command ─▶ none
//	     ─▶ blocked      a blocking command, or WAIT                    ─▶ none
//	     ─▶ subscribing  confirmations of a SUBSCRIBE                   ─▶ none
//	     ─▶ loading      a node is given a script that it lacks         ─▶ none
//	     ─▶ fetching     a hot key is fetched, and must not be overtaken    ─▶ none
//	     ─▶ splitting    the parts of a request with very many keys     ─▶ none
//	     ─▶ crowded      too many requests have connections of their own ─▶ none
//	     ─▶ gated        CLIENT PAUSE                                   ─▶ none
//	     ─▶ replicating  a node speaks to the replica that the client is ─▶ none
//
//	draining ⇄ assembling   EXEC's reply waits for a command that berth runs itself
//
// A command that berth runs for EXEC pauses as it does anywhere else. The session is paused already
// then, and stays in assembling: the assembly goes on when the command's reply is there.
type pause uint8

const (
	pauseNone        pause = iota
	pauseDraining          // until every reply that the session is owed has come
	pauseFull              // until replies have come, or were read: see isFull
	pauseLeasing           // until a lease is attached
	pauseAnswering         // until the reply to the command that berth runs itself (AUTH, CONFIG, INFO …)
	pauseVetting           // until a node has said whether the user may run the current request
	pauseBlocked           // until the reply to a blocking command
	pauseSubscribing       // until the confirmations of a SUBSCRIBE have come
	pauseLoading           // until a node has the scripts that the current request needs, or cannot be given them
	pauseSplitting         // until all parts of a request with very many keys are sent
	pauseFetching          // until the replies of the client's fetches of hot keys
	pauseCrowded           // until a request that has connections of its own may have ended: see loop.aloneAgain
	pauseGated             // until CLIENT PAUSE ends
	pauseReplicating       // until the reply to REPLCONF, PSYNC or SYNC; to the end, if that begins a stream
	pauseAssembling        // until EXEC's reply is put together
)

// pauseMoves lists where a pause leads besides pauseNone. Every pause but assembling begins from
// pauseNone.
var pauseMoves = [...][]pause{
	pauseNone: {pauseDraining, pauseFull, pauseLeasing, pauseAnswering, pauseVetting, pauseBlocked, pauseSubscribing,
		pauseLoading, pauseSplitting, pauseFetching, pauseCrowded, pauseGated, pauseReplicating},
	pauseDraining:   {pauseAssembling},
	pauseAssembling: {pauseDraining},
}

// move is the only write of a session's pause. A move that is not in the drawing is a mistake of
// berth's.
func (p *pause) move(to pause) {
	from := *p
	if to != pauseNone && (int(from) >= len(pauseMoves) || !slices.Contains(pauseMoves[from], to)) {
		panic("session: a pause begins while another one holds")
	}
	*p = to
}

// pauseFor has the session take no further request until resumeFrom names the same reason.
func (s *session) pauseFor(why pause) {
	if s.pause != pauseAssembling {
		s.pause.move(why)
	}
}

// hold pauses the session before the current request, which is dispatched again when the session
// resumes.
func (s *session) hold(why pause) (taken bool) {
	s.pauseFor(why)
	return false
}

// resumeFrom ends the pause that began for this reason. The session goes on in its loop's next
// turn. A session that is paused for another reason stays paused.
func (s *session) resumeFrom(why pause) {
	switch s.pause {
	case pauseAssembling: // the command that berth runs for EXEC had to wait for this
	case why:
		s.pause.move(pauseNone)
	default:
		return
	}
	if !s.isReady {
		s.isReady = true
		s.loop.ready = append(s.loop.ready, s)
		s.loop.Wake()
	}
}

// beginAssembly says that EXEC's reply may have to wait for a command that berth runs. The session
// has been draining since EXEC was sent.
func (s *session) beginAssembly() {
	if s.pause != pauseAssembling {
		s.pause.move(pauseAssembling)
	}
}

// endAssembly has the session wait for its last replies, of which EXEC's is one.
func (s *session) endAssembly() {
	if s.pause == pauseAssembling {
		s.pause.move(pauseDraining)
	}
}

// answered is called after each reply to the session: one that waited for the reply may go on.
func (s *session) answered() {
	switch {
	case s.pause == pauseAssembling:
		s.execReply.run()
	case s.closing:
		s.touch()
	case s.pauseIsOver():
		s.resumeFrom(s.pause)
	}
}

// pauseIsOver reports whether the session waited for the replies that it has had.
func (s *session) pauseIsOver() bool {
	switch s.pause {
	case pauseAnswering:
		s.loop.aloneAgain()
		return true
	case pauseDraining, pauseBlocked:
		return s.waiting == 0
	case pauseFetching:
		return s.fetching == 0
	case pauseFull:
		return s.roomAgain()
	default: // none, or what ends it names it
		return false
	}
}

// aloneAgain has those go on that wait for connections of their own. Whoever finds none waits again.
func (l *loop) aloneAgain() {
	if len(l.crowd) == 0 {
		return
	}
	for _, s := range l.crowd {
		s.resumeFrom(pauseCrowded)
	}
	clear(l.crowd)
	l.crowd = l.crowd[:0]
}

// resume goes on with the input that waited.
func (s *session) resume() {
	s.isReady = false
	switch {
	case s.closed:
	case s.pause == pauseAssembling:
		s.execReply.run()
	default:
		s.takeKept()
		s.steerReading()
	}
}
