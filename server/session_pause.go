package main

// pause is why a session takes no further request for now. What the client sends meanwhile waits in its input.
type pause uint8

const (
	goOn           pause = iota
	pauseBarrier         // until every reply owed elsewhere has come
	pausePipeline        // until fewer requests than client-pipeline-limit are unanswered
	pauseLease           // until a lease is attached
	pauseBlocked         // until the blocking command's reply
	pauseHandshake       // until the node has checked an AUTH or SELECT
	pauseSubscribe       // until the confirmations of a SUBSCRIBE have come
	pauseSplit           // until all parts of a request with very many keys are sent
	pauseByCommand       // CLIENT PAUSE
)

// hold pauses the session in front of the request at hand, which is dispatched again when it resumes.
func (s *session) hold(why pause) bool {
	s.pause = why
	return false
}

// answered is called when a reply has come: a session that waited for it may go on.
func (s *session) answered() {
	switch {
	case s.splicing != nil:
		s.splicing.run()
	case s.closing:
		s.touch()
	case s.pause == pauseHandshake,
		(s.pause == pauseBarrier || s.pause == pauseBlocked) && s.waiting == 0,
		s.pause == pausePipeline && s.queued < s.loop.srv.config().PipelineLimit:
		s.release()
	}
}

// release ends a pause; the session goes on in this loop's next turn.
func (s *session) release() {
	if s.splicing == nil {
		s.pause = goOn
	}
	if !s.isReady {
		s.isReady = true
		s.loop.ready = append(s.loop.ready, s)
		s.loop.Wake()
	}
}

// resume goes on with the input that waited.
func (s *session) resume() {
	s.isReady = false
	switch {
	case s.closed:
	case s.splicing != nil:
		s.splicing.run()
	default:
		s.takeKept()
	}
}
