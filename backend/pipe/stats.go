package pipe

import "github.com/berth-proxy/berth/backend"

// Stats counts what the pipes of one loop have done. Read the numbers on the loop.
type Stats struct {
	Dials      int64 // connections begun
	DialErrors int64 // of them, those that failed, the handshake included
	Lost       int64 // connections that ended, those that failed included, but for Retired
	Retired    int64 // connections that berth ended because it did not need them
	Passed     int64 // pipes that were stopped up and passed by
	BytesIn    int64
	BytesOut   int64
}

// Add adds what another loop's pipes have done.
func (s *Stats) Add(o Stats) {
	s.Dials += o.Dials
	s.DialErrors += o.DialErrors
	s.Lost += o.Lost
	s.Retired += o.Retired
	s.Passed += o.Passed
	s.BytesIn += o.BytesIn
	s.BytesOut += o.BytesOut
}

// Count is the state of a node's pipes, those of one loop or of several added up.
type Count struct {
	Up       int // pipes that are up
	Dialing  int // pipes that are being dialled, or in their handshake
	Owed     int // replies that the node owes
	Buffered int // bytes that the node has not read yet

	OwedSince int64 // since when a reply has been owed for long, unix nanoseconds; 0: none has
	UpSince   int64 // since when the oldest pipe has been up, unix nanoseconds; 0: none is up
	DownSince int64 // when the latest of those not up went down, or failed first, unix nanoseconds; 0: none did
	LastErr   error // why a pipe was lost last, even if it is up again; nil: none was lost
	LastErrAt int64 // when it was lost, unix nanoseconds
}

// Add adds other pipes of the same node.
func (c *Count) Add(o Count) {
	c.Up += o.Up
	c.Dialing += o.Dialing
	c.Owed += o.Owed
	c.Buffered += o.Buffered
	if c.OwedSince == 0 || o.OwedSince != 0 && o.OwedSince < c.OwedSince {
		c.OwedSince = o.OwedSince
	}
	if c.UpSince == 0 || o.UpSince != 0 && o.UpSince < c.UpSince {
		c.UpSince = o.UpSince
	}
	c.DownSince = max(c.DownSince, o.DownSince)
	if o.LastErrAt > c.LastErrAt {
		c.LastErr, c.LastErrAt = o.LastErr, o.LastErrAt
	}
}

// Stats returns what the loop's pipes have done so far.
func (ps *Pipes) Stats() Stats { return ps.stats }

// Count adds this loop's pipes to counts, by node address.
func (ps *Pipes) Count(counts map[string]Count) {
	for _, set := range ps.sets {
		for addr, p := range set.byAddr {
			c := counts[addr]
			c.Add(p.count())
			if p.second != nil && p.second.link.State() != backend.Down {
				c.Add(p.second.count())
			}
			counts[addr] = c
		}
	}
}

// count returns the Count of this pipe alone.
func (p *Pipe) count() Count {
	lastErr, at := p.link.Err()
	c := Count{LastErrAt: at}
	for i := range p.owed.Len() {
		c.Owed += p.owed.At(i).left
	}
	if p.slow && p.owed.Len() > p.expired {
		c.OwedSince = p.owed.At(p.expired).queuedAt
	}
	if lastErr != nil {
		c.LastErr = lastErr
	}
	switch p.link.State() {
	case backend.Up:
		c.Up, c.UpSince = 1, p.link.Since()
		c.Buffered = p.conn.OutboundBuffered()
		return c
	case backend.Dialing, backend.Shaking:
		c.Dialing = 1
	}
	c.DownSince = p.link.Since()
	return c
}
