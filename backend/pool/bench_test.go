package pool

import (
	"syscall"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// benchSession drains its own inbox, as the only session of its loop.
type benchSession struct {
	wake    chan struct{}
	inbox   *Inbox
	lease   *Lease
	replies int
}

func newBenchSession() *benchSession {
	s := &benchSession{wake: make(chan struct{}, 1)}
	s.inbox = NewInbox(func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	})
	return s
}

func (s *benchSession) Attached(l *Lease, err error) {
	if err != nil {
		panic(err)
	}
	s.lease = l
}
func (s *benchSession) LeaseReply(*Lease, []byte)     { s.replies++ }
func (s *benchSession) LeaseLost(_ *Lease, err error) { panic(err) }

func (s *benchSession) attach(p *Pool) *Lease {
	l, _ := p.Get(s, s.inbox, backend.Identity{}, ReasonTxn)
	for s.lease = l; s.lease == nil; {
		<-s.wake
		s.inbox.Drain()
	}
	return s.lease
}

func (s *benchSession) ping(l *Lease) {
	s.replies = 0
	l.Send(soakPing, 1)
	l.Flush()
	for s.replies == 0 {
		<-s.wake
		s.inbox.Drain()
	}
}

// cpuPerOp reports the CPU time of this process, without the node's.
func cpuPerOp(b *testing.B) {
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := spent()
	b.Cleanup(func() { b.ReportMetric(float64((spent()-before).Nanoseconds())/float64(b.N), "cpu-ns/op") })
}

func BenchmarkAttachAndDetachOnAHit(b *testing.B) {
	node := redistest.Start(b)
	p, _ := newTestPool(b, node.Addr(), nil)
	s := newBenchSession()
	s.attach(p).Detach()
	b.ReportAllocs()
	cpuPerOp(b)
	for b.Loop() {
		l, _ := p.Get(s, s.inbox, backend.Identity{}, ReasonTxn)
		l.Detach()
	}
}

func BenchmarkAttachAndDetachOnAHitFromManyLoops(b *testing.B) {
	node := redistest.Start(b)
	p, _ := newTestPool(b, node.Addr(), nil)
	b.ReportAllocs()
	cpuPerOp(b)
	b.RunParallel(func(pb *testing.PB) {
		s := newBenchSession()
		for pb.Next() {
			s.attach(p).Detach()
		}
	})
}

func BenchmarkPingOnALease(b *testing.B) {
	node := redistest.Start(b)
	p, _ := newTestPool(b, node.Addr(), nil)
	s := newBenchSession()
	l := s.attach(p)
	b.ReportAllocs()
	cpuPerOp(b)
	for b.Loop() {
		s.ping(l)
	}
}

func BenchmarkPingOnALeaseOf50Sessions(b *testing.B) {
	node := redistest.Start(b)
	p, _ := newTestPool(b, node.Addr(), nil)
	b.SetParallelism(25)
	b.ReportAllocs()
	cpuPerOp(b)
	b.RunParallel(func(pb *testing.PB) {
		s := newBenchSession()
		l := s.attach(p)
		for pb.Next() {
			s.ping(l)
		}
	})
}

func BenchmarkWatchTransaction(b *testing.B) {
	node := redistest.Start(b)
	p, _ := newTestPool(b, node.Addr(), nil)
	s := newBenchSession()
	watch := codec.AppendCommandString(nil, "WATCH", "k")
	var rest []byte
	for _, args := range [][]string{{"GET", "k"}, {"MULTI"}, {"SET", "k", "v"}, {"EXEC"}} {
		rest = codec.AppendCommandString(rest, args...)
	}
	call := func(l *Lease, cmd []byte, replies int) {
		s.replies = 0
		l.Send(cmd, replies)
		l.Flush()
		for s.replies < replies {
			<-s.wake
			s.inbox.Drain()
		}
	}
	b.ReportAllocs()
	cpuPerOp(b)
	for b.Loop() {
		l := s.attach(p)
		call(l, watch, 1)
		call(l, rest, 4)
		l.Detach()
	}
}

func BenchmarkGetOf1MBOnALease(b *testing.B) {
	node := redistest.Start(b)
	node.Do(b, "SET", "big", string(make([]byte, 1<<20)))
	p, _ := newTestPool(b, node.Addr(), nil)
	s := newBenchSession()
	l := s.attach(p)
	get := codec.AppendCommandString(nil, "GET", "big")
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	cpuPerOp(b)
	for b.Loop() {
		s.replies = 0
		l.Send(get, 1)
		l.Flush()
		for s.replies == 0 {
			<-s.wake
			s.inbox.Drain()
		}
	}
}
