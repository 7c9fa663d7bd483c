package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// neighbour is a client that does no harm: each millisecond it sets a key of its own and gets it,
// while others attack. Whatever they do, it must see no error.
type neighbour struct {
	t      testing.TB
	conn   *redistest.Conn
	key    string
	stop   chan struct{}
	ended  chan struct{}
	rounds int
	wrong  []string
	took   []time.Duration
}

// startNeighbour starts a neighbour, which is checked when the test is over at the latest.
func startNeighbour(t testing.TB, addr string) *neighbour {
	t.Helper()
	conn, err := redistest.TryDial(t, addr)
	if err != nil {
		t.Fatal(err)
	}
	b := &neighbour{t: t, conn: conn, key: unique("neighbour"), stop: make(chan struct{}), ended: make(chan struct{})}
	go b.run()
	t.Cleanup(func() { b.check() })
	return b
}

func (b *neighbour) run() {
	defer close(b.ended)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-b.stop:
			return
		case <-ticker.C:
		}
		from := time.Now()
		for _, step := range []struct {
			words []any
			want  string
		}{{[]any{"SET", b.key, i}, "OK"}, {[]any{"GET", b.key}, fmt.Sprint(i)}} {
			got, err := b.conn.TryDo(step.words...)
			if err != nil {
				b.wrong = append(b.wrong, err.Error())
				return
			}
			if fmt.Sprint(got) != step.want {
				b.wrong = append(b.wrong, fmt.Sprintf("%v: %v", step.words, got))
			}
		}
		b.took = append(b.took, time.Since(from))
		b.rounds++
	}
}

// check stops the neighbour and fails the test if it has seen an error, or has had no turn. It logs
// how long the neighbour's rounds of SET and GET took.
func (b *neighbour) check() {
	b.t.Helper()
	select {
	case <-b.stop:
		return
	default:
	}
	close(b.stop)
	<-b.ended
	b.conn.Close()
	if len(b.wrong) > 0 {
		b.t.Errorf("the neighbour saw %d errors, the first: %s", len(b.wrong), b.wrong[0])
	}
	if b.rounds == 0 {
		b.t.Error("the neighbour has not had a turn")
		return
	}
	slices.Sort(b.took)
	b.t.Logf("the neighbour's SET and GET: %d rounds, p99 %v, longest %v", b.rounds, b.took[b.rounds*99/100], b.took[b.rounds-1])
}
