package main

import (
	"bytes"
	"slices"
	"sync"

	"github.com/berth-proxy/berth/codec"
)

// mailbox is how a client hears the invalidations of clients that redirect theirs to it (CLIENT
// TRACKING ON REDIRECT). Those may be on other loops. It is made when the first client redirects to
// it, and closed with the session.
//
//	node ─▶ ear ─▶ put, on the loop of a client that tracks ─▶ deliver, on the session's loop ─▶ out
//
// What waits in it is bounded: too much becomes the one invalidation of all keys.
type mailbox struct {
	s *session // touched by its loop only

	mu     sync.Mutex // guards the rest; nothing blocks under it
	mail   [][]byte   // the second elements of invalidations: arrays of keys, or the null of all keys
	size   int        // bytes of mail
	missed bool       // mail was dropped: all keys are to be forgotten
	posted bool       // deliver is on its way
	closed bool
}

// maxMail is how many bytes wait in a mailbox.
const (
	maxMail  = 256 << 10
	mailCost = 48 // bytes that a piece of mail takes beside its own
)

// invalidation is how the push of a node begins that names changed keys.
var invalidation = []byte(">2\r\n$10\r\ninvalidate\r\n")

// invalidationMessage is how the same begins for a subscriber in RESP2.
const invalidationMessage = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"

// hears returns the session's mailbox.
func (s *session) hears() *mailbox {
	if s.mailbox == nil {
		s.mailbox = &mailbox{s: s}
	}
	return s.mailbox
}

// put leaves the second element of an invalidation. false: the client is gone. Any loop may call
// it.
func (m *mailbox) put(what []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.size += len(what) + mailCost
	if m.size > maxMail {
		m.mail, m.size, m.missed = nil, 0, true
	} else {
		m.mail = append(m.mail, slices.Clone(what))
	}
	if !m.posted {
		m.posted = true
		m.s.loop.Post(m.deliver)
	}
	return true
}

// deliver writes what waits to the client, unless the client is in the midst of a reply: then
// request.done has it delivered.
func (m *mailbox) deliver() {
	s := m.s
	m.mu.Lock()
	defer m.mu.Unlock()
	m.posted = false
	if s.closed || s.head != nil && s.head.streams {
		return
	}
	if m.missed {
		m.mail = append(m.mail, codec.AppendNull(nil, s.resp()))
	}
	for _, what := range m.mail {
		s.hear(what)
	}
	m.mail, m.size, m.missed = nil, 0, false
}

// hear writes an invalidation. In RESP2 only subscribers hear it, of whatever channel, as in Redis.
func (s *session) hear(what []byte) {
	switch {
	case s.closing:
	case s.resp() == 3:
		s.write(slices.Concat(invalidation, what))
	case s.subscribed():
		s.write(slices.Concat([]byte(invalidationMessage), what))
	}
}

// close says that the client is gone.
func (m *mailbox) close() {
	if m != nil {
		m.mu.Lock()
		m.mail, m.closed = nil, true
		m.mu.Unlock()
	}
}

// invalidated returns the second element of an invalidation; nil: the push is something else.
func invalidated(push []byte) []byte {
	what, ok := bytes.CutPrefix(push, invalidation)
	if !ok {
		return nil
	}
	return what
}

// isAllKeys reports whether an invalidation is that of all keys.
func isAllKeys(what []byte) bool { return what[0] == '_' || bytes.HasPrefix(what, []byte("$-1")) }
