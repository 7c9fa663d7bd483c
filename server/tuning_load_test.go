package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// The figures of TUNING.md: what the settings it recommends do to the loads it names.

// durations are what many clients have measured.
type durations struct {
	mu  sync.Mutex // guards all
	all []time.Duration
}

func (w *durations) add(d time.Duration) {
	w.mu.Lock()
	w.all = append(w.all, d)
	w.mu.Unlock()
}

// String is their median, 99th percentile and greatest.
func (w *durations) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.all)
	return fmt.Sprintf("p50 %s p99 %s max %s", quantile(w.all, .5), quantile(w.all, .99), quantile(w.all, 1))
}

// A flash sale: all programs want a connection of their own in one moment, and then nobody for a while.
func TestTuningForAFlashSale(t *testing.T) {
	programs, rounds, span := sized(20, 400), sized(2, 8), sized(200*time.Millisecond, 2*time.Second)
	for _, settings := range [][]string{
		{},
		{"private_conn_pool_min_idle_per_db", fmt.Sprint(programs), "pool-dial-rate", "1000"},
		{"private_conn_pool_max_idle_per_db", "10"},
	} {
		node := redistest.Start(t, "--maxclients", "5000")
		b := startLoaded(t, node.Addr(), "--loops", "1", "--pool-health-check-interval", "0")
		direct := redistest.Dial(t, node.Addr())
		b.set(t, settings)
		k := newCrowd(t, b.Addr())
		var first, later durations
		var wrong findings
		starts := make([]chan struct{}, rounds) // closed when a round begins
		for i := range starts {
			starts[i] = make(chan struct{})
		}
		var ready, ended sync.WaitGroup
		ready.Add(programs)
		ended.Add(programs)
		k.start(programs, "program", func(c *loadClient, i, round int) error {
			if round == 0 {
				if _, err := c.do("PING"); err != nil {
					return err
				}
				ready.Done()
			}
			if round == rounds {
				ended.Done()
				return errNoMore
			}
			<-starts[round]
			key := fmt.Sprint("stock", i)
			began := time.Now()
			watch, err := c.do("WATCH", key)
			if err != nil {
				return err
			}
			if round == 0 {
				first.add(time.Since(began))
			} else {
				later.add(time.Since(began))
			}
			<-time.After(thinkTime) // the program's own work: not to be cut short
			for _, request := range [][]string{{"MULTI"}, {"INCR", key}} {
				if _, err := c.do(request...); err != nil {
					return err
				}
			}
			exec, err := c.do("EXEC")
			if err != nil {
				return err
			}
			if watch.text != "OK" || exec.kind != '*' {
				wrong.add("WATCH, EXEC: %v, %v", watch, exec)
			}
			return nil
		})
		ready.Wait()
		for i := range starts {
			close(starts[i])
			k.pause(span)
		}
		ended.Wait()
		k.end()
		k.lost.none(t, "programs that lost their connection")
		wrong.none(t, "wrong replies")
		m := b.metrics()
		figure(t, "%d transactions at once, every %s, %s: first time WATCH %s; later %s; connections made %.0f, kept %.0f; memory of the node for clients %.0f KB",
			programs, span, inWords(settings), &first, &later,
			sum(m, "berth_node_dials_total", `kind="lease"`), sum(m, "berth_node_connections", `kind="lease"`),
			memoryForClients(t, direct))
	}
}

// Queue consumers: many wait for elements of a few lists.
func TestTuningForQueueConsumers(t *testing.T) {
	consumers, elements := sized(40, 2000), sized(100, 10_000)
	for _, settings := range [][]string{
		{},
		{"blocking-share", "no", "pool-blocking-share", "100", "private_conn_pool_max_idle_per_db", fmt.Sprint(consumers + 100)},
		{"blocking-share", "no", "pool-blocking-share", "100", "private_conn_pool_max_idle_per_db", fmt.Sprint(consumers + 100),
			"private_conn_pool_min_idle_per_db", fmt.Sprint(consumers + 100), "pool-dial-rate", "1000"},
	} {
		node := redistest.Start(t, "--maxclients", "5000")
		b := startLoaded(t, node.Addr(), "--loops", "1", "--pool-health-check-interval", "0")
		direct := redistest.Dial(t, node.Addr())
		b.set(t, settings)
		before := infoField(t, direct, "cpu", "used_cpu_user") + infoField(t, direct, "cpu", "used_cpu_sys")
		k := newCrowd(t, b.Addr())
		q := newQueue(t, node, 20, elements)
		var latency durations
		pushed := make([]time.Time, elements) // written before the element is sent
		began := time.Now()
		k.start(consumers, "consumer", func(c *loadClient, i, _ int) error {
			c.add("BLPOP", q.list(i), "1")
			if err := c.flush(); err != nil {
				return err
			}
			got, err := c.read()
			switch {
			case err != nil:
				return err
			case got.kind == '_':
				return nil
			}
			if n := q.enter(got); n >= 0 {
				latency.add(time.Since(pushed[n]))
			}
			return nil
		})
		eventually(t, "the consumers to block", func() bool { return sum(b.metrics(), "berth_clients_blocked") >= float64(consumers*9/10) })
		begun := time.Since(began).Round(10 * time.Millisecond)
		for n := range elements {
			pushed[n] = time.Now()
			direct.Do("RPUSH", q.list(n), n)
			pace(sized(0, time.Millisecond))
		}
		eventually(t, "the elements to be taken", func() bool { return q.got.Load() == int64(elements) })
		connections := sum(b.metrics(), "berth_node_connections", `kind="lease"`)
		memory := memoryForClients(t, direct)
		spent := infoField(t, direct, "cpu", "used_cpu_user") + infoField(t, direct, "cpu", "used_cpu_sys") - before
		k.end()
		k.lost.none(t, "consumers that lost their connection")
		q.wrong.none(t, "wrong replies")
		figure(t, "%d consumers of 20 lists, %s: blocked after %s; an element takes %s; connections %.0f; memory of the node for clients %.0f KB, its CPU %.2f s",
			consumers, inWords(settings), begun, &latency, connections, memory, spent)
	}
}

// set gives berth settings while it runs, and durations for the idle connections that they ask for.
func (b *loadedBerth) set(t testing.TB, settings []string) {
	t.Helper()
	c := redistest.Dial(t, b.Addr())
	c.Do("WATCH", "a key that nobody has") // from the first lease on the pool keeps connections ready
	c.Do("UNWATCH")
	for i := 0; i < len(settings); i += 2 {
		if got := c.Do("CONFIG", "SET", settings[i], settings[i+1]); got != "OK" {
			t.Fatalf("CONFIG SET %s %s: %v", settings[i], settings[i+1], got)
		}
	}
	if i := slices.Index(settings, "private_conn_pool_min_idle_per_db"); i >= 0 {
		want, _ := strconv.ParseFloat(settings[i+1], 64)
		eventually(t, "the idle connections to be made", func() bool {
			return sum(b.metrics(), "berth_node_connections", `kind="lease"`, `state="idle"`) >= want
		})
	}
}

// memoryForClients is what a node needs for its clients, in KB. It looks at some of them at a time.
func memoryForClients(t testing.TB, c *redistest.Conn) (kb float64) {
	t.Helper()
	eventually(t, "the node to count its clients' memory", func() bool {
		before := kb
		kb = infoField(t, c, "memory", "mem_clients_normal") / 1024
		return kb > 0 && kb == before
	})
	return kb
}

// inWords is settings in words.
func inWords(settings []string) string {
	if len(settings) == 0 {
		return "with the defaults"
	}
	return strings.Join(settings, " ")
}
