package main

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// bystander is a client that does no harm: each millisecond it sets a key and gets it, while others attack. Whatever they
// do, it must see no error.
type bystander struct {
	t          testing.TB
	conn       *redistest.Conn
	key        string
	stop, done chan struct{}
	once       sync.Once // ends it

	mu     sync.Mutex // guards what follows
	rounds int
	took   []time.Duration // rounds since the last lap
	wrong  string          // the first error
	most   uint64          // bytes of heap in use at most, of those seen
	lapped bool            // the test prints the laps itself

	before string // latency before the attack, of a full size
	held   uint64 // bytes of heap in use before the attack
}

// calmRounds is how often a bystander is served before and after an attack of full size.
const calmRounds = 1000

// heapInUse is the bytes of objects in the heap: of berth, and of the test that it runs in.
func heapInUse() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// liveHeap is heapInUse without garbage.
func liveHeap() uint64 {
	runtime.GC()
	return heapInUse()
}

// startBystander starts one with a key of its own, and returns when it has been served once. login is its first command. It ends with the test at the latest.
func startBystander(t testing.TB, addr string, login ...any) *bystander {
	t.Helper()
	return startBystanderAt(t, addr, unique("bystander"), login...)
}

// startBystanderAt is startBystander for a key that lies where it matters.
func startBystanderAt(t testing.TB, addr, key string, login ...any) *bystander {
	t.Helper()
	b := &bystander{t: t, conn: dial(t, addr), key: key, stop: make(chan struct{}), done: make(chan struct{})}
	b.conn.SetTimeout(time.Minute)
	if login != nil {
		if got := b.conn.Do(login...); got != "OK" {
			t.Fatalf("%v: %v", login[0], got)
		}
	}
	if wrong := b.round(0); wrong != "" {
		t.Fatal("the bystander: ", wrong)
	}
	go b.run()
	t.Cleanup(func() { b.end() })
	if loadFull {
		b.await(calmRounds)
		b.before, b.held = b.take(), liveHeap()
	}
	return b
}

func (b *bystander) run() {
	defer close(b.done)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for i := 1; ; i++ {
		select {
		case <-b.stop:
			return
		case <-pace.C:
		}
		begin := time.Now()
		wrong := b.round(i)
		b.mu.Lock()
		b.wrong = wrong
		b.rounds++
		b.took = append(b.took, time.Since(begin))
		if loadFull && i%100 == 0 {
			b.most = max(b.most, heapInUse())
		}
		b.mu.Unlock()
		if wrong != "" {
			return
		}
	}
}

// round sets the key and gets it, and returns what was wrong.
func (b *bystander) round(i int) (wrong string) {
	value := fmt.Sprint(b.key, i)
	set, err := b.conn.TryDo("SET", b.key, value)
	if err != nil || set != "OK" {
		return fmt.Sprintf("SET: %v, %v", set, err)
	}
	if got, err := b.conn.TryDo("GET", b.key); err != nil || got != value {
		return fmt.Sprintf("GET: %v, %v", got, err)
	}
	return ""
}

// end stops the bystander. It fails the test if the bystander has seen an error or was never served.
func (b *bystander) end() {
	b.t.Helper()
	b.once.Do(func() {
		b.t.Helper()
		if loadFull && !b.lapped {
			b.print()
		}
		close(b.stop)
		<-b.done
		b.conn.Close()
		if b.wrong != "" {
			b.t.Errorf("the bystander was served %d times, then: %s", b.rounds, b.wrong)
		}
		if b.rounds == 0 {
			b.t.Error("the bystander was never served")
		}
		b.t.Logf("the bystander's SET and GET: %s", b.take())
	})
}

// print prints what the bystander has seen before, during and after the attack.
func (b *bystander) print() {
	b.t.Helper()
	during := b.take()
	b.mu.Lock()
	most := max(b.most, heapInUse())
	b.mu.Unlock()
	b.await(calmRounds)
	figure(b.t, "%s: before %s; during %s; after %s; heap in use %d MB before, %d MB during at most, %d MB after",
		b.t.Name(), b.before, during, b.take(), b.held>>20, most>>20, liveHeap()>>20)
}

// await returns when the bystander has been served so often since the last lap.
func (b *bystander) await(rounds int) {
	b.t.Helper()
	redistest.Eventually(b.t, time.Minute, "enough rounds of the bystander", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.took) >= rounds || b.wrong != ""
	})
}

// lap is take for a test that prints the laps itself.
func (b *bystander) lap() string {
	b.lapped = true
	return b.take()
}

// take returns how long the rounds since the last lap took.
func (b *bystander) take() string {
	b.mu.Lock()
	took := b.took
	b.took = nil
	b.mu.Unlock()
	if len(took) == 0 {
		return "not served"
	}
	slices.Sort(took)
	return fmt.Sprintf("p50 %v p99 %v max %v of %d", took[len(took)/2], took[len(took)*99/100], took[len(took)-1], len(took))
}
