package pipe

import "github.com/berth-proxy/berth/backend"

// Stats counts what the pipes of one loop have done. Plain numbers: read them on the loop.
type Stats struct {
	Dials, DialErrors, Lost int64
	Timeouts                int64 // requests given up
	BytesIn, BytesOut       int64
}

// Add counts what another loop's pipes have done in.
func (s *Stats) Add(o Stats) {
	s.Dials += o.Dials
	s.DialErrors += o.DialErrors
	s.Lost += o.Lost
	s.Timeouts += o.Timeouts
	s.BytesIn += o.BytesIn
	s.BytesOut += o.BytesOut
}

// Count is how a node's pipes are: those of one loop, or, added up, of several.
type Count struct {
	Up, Dialing int
	Owed        int // replies the node owes on them
	Buffered    int // bytes that wait for the node to read

	UpSince   int64 // since when one has been up without a break, unix nanoseconds; 0: none is up
	DownSince int64 // when the latest one to fail was lost, or failed first, unix nanoseconds; 0: none has failed
	LastErr   error // why one was lost last, nil: none was; also when it is up again
	LastErrAt int64 // when, unix nanoseconds
}

// Add counts other pipes of the same node in.
func (c *Count) Add(o Count) {
	c.Up += o.Up
	c.Dialing += o.Dialing
	c.Owed += o.Owed
	c.Buffered += o.Buffered
	if c.UpSince == 0 || o.UpSince != 0 && o.UpSince < c.UpSince {
		c.UpSince = o.UpSince
	}
	c.DownSince = max(c.DownSince, o.DownSince)
	if o.LastErrAt > c.LastErrAt {
		c.LastErr, c.LastErrAt = o.LastErr, o.LastErrAt
	}
}

// Stats are the counters so far.
func (ps *Pipes) Stats() Stats { return ps.stats }

// Count adds this loop's pipes to counts, by node address.
func (ps *Pipes) Count(counts map[string]Count) {
	for _, set := range ps.sets {
		for addr, p := range set.byAddr {
			c := counts[addr]
			c.Add(p.count())
			counts[addr] = c
		}
	}
}

// count is the pipe alone.
func (p *Pipe) count() Count {
	lastErr, at := p.link.Err()
	c := Count{LastErrAt: at}
	for i := range p.owed.Len() {
		c.Owed += p.owed.At(i).left
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
