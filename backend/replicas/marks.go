package replicas

import "sync"

// mark says that a primary had executed so much by an instant.
type mark struct {
	at     Instant
	offset int64
}

// marks are the latest of a primary, oldest first. A replica whose offset is at least that of a mark
// has everything that the primary had executed, and answered, before the mark's instant. Whoever asks
// reads the clock before the question is sent, so what was answered before is in the offset.
type marks struct {
	mu      sync.Mutex
	history string // the primary's replication id: offsets of another one mean something else
	latest  []mark
}

const maxMarks = 128

// add enters what a primary has said.
func (m *marks) add(history string, now mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.history != history {
		m.history, m.latest = history, nil
	}
	if len(m.latest) == maxMarks { // one of two is enough of the older half
		kept := m.latest[:0]
		for i, old := range m.latest {
			if i >= maxMarks/2 || i%2 == 0 {
				kept = append(kept, old)
			}
		}
		m.latest = kept
	}
	m.latest = append(m.latest, now)
}

// reached returns up to when a replica with this offset has everything, 0 if that is longer ago than
// the oldest mark, and how many bytes it lacks. same reports whether it has its primary's history, as
// far as the primary has told one.
func (m *marks) reached(history string, offset int64) (upTo Instant, lacks int64, same bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.latest) == 0 {
		return 0, -1, true
	}
	if m.history != history {
		return 0, -1, false
	}
	for _, k := range m.latest {
		if k.offset > offset {
			break
		}
		upTo = k.at
	}
	return upTo, max(m.latest[len(m.latest)-1].offset-offset, 0), true
}
