package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// interactive is programs that think between WATCH and EXEC.
type interactive struct {
	*crowd
	wrong    findings
	counters int
	swapped  []atomic.Int64
	missed   atomic.Int64 // EXEC answered nil

	mu    sync.Mutex      // guards waits
	waits []time.Duration // for the reply to WATCH
}

func newInteractive(t testing.TB, addr string, counters int) *interactive {
	return &interactive{crowd: newCrowd(t, addr), counters: counters, swapped: make([]atomic.Int64, counters)}
}

const thinkTime = 20 * time.Millisecond

// swap counts one of the counters up: WATCH, GET, 20 ms, MULTI, SET, EXEC, each a round trip of its own.
func (k *interactive) swap(c *loadClient, i, _ int) error {
	n := i % k.counters
	key := fmt.Sprint("counter", n)
	began := time.Now()
	watch, err := c.do("WATCH", key)
	if err != nil {
		return err
	}
	waited := time.Since(began)
	k.mu.Lock()
	k.waits = append(k.waits, waited)
	k.mu.Unlock()
	get, err := c.do("GET", key)
	if err != nil {
		return err
	}
	if watch.text != "OK" || get.kind == '-' {
		k.wrong.add("WATCH, GET: %v, %v", watch, get)
		return nil
	}
	<-time.After(thinkTime) // the program's own work: not to be cut short
	now, _ := strconv.Atoi(get.text)
	var got [3]loadReply
	for step, request := range [][]string{{"MULTI"}, {"SET", key, fmt.Sprint(now + 1)}, {"EXEC"}} {
		if got[step], err = c.do(request...); err != nil {
			return err
		}
	}
	switch {
	case got[0].text != "OK" || got[1].text != "QUEUED":
		k.wrong.add("MULTI, SET: %v", got)
	case got[2].kind == '_':
		k.missed.Add(1)
	case got[2].kind == '*' && len(got[2].elems) == 1 && got[2].elems[0].text == "OK":
		k.swapped[n].Add(1)
	default:
		k.wrong.add("EXEC: %v", got[2])
	}
	return nil
}

// take is what was waited for since the last take, shortest first.
func (k *interactive) take() []time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	waits := k.waits
	k.waits = nil
	slices.Sort(waits)
	return waits
}

// quantile of what take returns.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(10 * time.Microsecond)
}

// block is a worker that waits for what never comes. When all the connections that may block do, it tries again.
func block(k *crowd, wrong *findings) func(c *loadClient, i, round int) error {
	return func(c *loadClient, i, _ int) error {
		c.add("BLPOP", fmt.Sprint("queue", i%64), "0")
		if err := c.flush(); err != nil {
			return err
		}
		go func() {
			<-k.stop
			c.close()
		}()
		_ = c.nc.SetReadDeadline(time.Time{})
		got, err := c.read()
		switch {
		case k.stopped():
			return errNoMore
		case err != nil:
			return err
		case !got.isError("TRYAGAIN"):
			wrong.add("BLPOP: %v", got)
		}
		k.pause(time.Second)
		return nil
	}
}

func TestInteractiveTransactionsShareFewConnections(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--maxclients", "10000")
	const most = 64
	b := startLoaded(t, node.Addr(), "--loops", "2", "--private-conn-pool-max-total", fmt.Sprint(most), "--maxclients", "20000")
	direct := redistest.Dial(t, node.Addr())
	clients, workers, span := sized(100, 1000), sized(200, 5000), sized(500*time.Millisecond, 10*time.Second)
	k := newInteractive(t, b.Addr(), clients/10) // ten programs fight for each counter
	k.start(clients, "program", k.swap)

	connections := 0
	watchFor := func(d time.Duration) []time.Duration {
		k.take()
		for began := time.Now(); time.Since(began) < d; {
			connections = max(connections, int(sum(b.metrics(), "berth_node_connections", `kind="lease"`)))
			k.pause(100 * time.Millisecond)
		}
		return k.take()
	}
	k.pause(span / 5) // until all have come
	alone := watchFor(span)
	queue := newCrowd(t, b.Addr())
	queue.start(workers, "worker", block(queue, &k.wrong))
	eventually(t, "the workers to block or wait", func() bool {
		return sum(b.metrics(), "berth_clients_connected") >= float64(clients+workers)
	})
	k.pause(span / 5)
	beside := watchFor(span)
	k.end()
	queue.end()

	k.lost.none(t, "programs that lost their connection or waited in vain")
	queue.lost.none(t, "workers that lost their connection")
	k.wrong.none(t, "wrong replies")
	var swapped int64
	for n := range k.swapped {
		got, _ := direct.Do("GET", fmt.Sprint("counter", n)).(string)
		if want := k.swapped[n].Load(); got != fmt.Sprint(want) && want > 0 {
			t.Errorf("counter %d is %q after %d successful transactions", n, got, want)
		}
		swapped += k.swapped[n].Load()
	}
	if connections > most {
		t.Errorf("%d exclusive connections", connections)
	}
	if grown := float64(quantile(beside, .99)) / float64(quantile(alone, .99)); loadFull && grown >= 2 {
		t.Errorf("with workers in BLPOP beside them transactions waited %.1f times as long", grown)
	}
	m := b.metrics()
	figure(t, "%d programs that think for %s, at most %d connections: %d seen; %d transactions through, %d answered nil, %.0f WATCHes taken back, errors %d",
		clients, thinkTime, most, connections, swapped, k.missed.Load(), sum(m, "berth_pool_revoked_total"), k.wrong.count.Load())
	figure(t, "WATCH was waited for, alone: p50 %s p99 %s (%d); beside %d workers in BLPOP: p50 %s p99 %s (%d)",
		quantile(alone, .5), quantile(alone, .99), len(alone), workers, quantile(beside, .5), quantile(beside, .99), len(beside))
}

func TestTransactionsWithoutWatchMakeNoConnections(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startLoaded(t, node.Addr(), "--loops", "2")
	direct := redistest.Dial(t, node.Addr())
	const perSecond = 300
	clients, span := sized(10, 30), sized(500*time.Millisecond, 20*time.Second)
	addr := b.Addr()
	run := func(addr string) (cpu time.Duration, connected int64, sent int64) {
		k := newCrowd(t, addr)
		var wrong findings
		var done atomic.Int64
		k.start(clients, "client", func(c *loadClient, i, round int) error {
			key := fmt.Sprint("plain", i)
			c.add("MULTI")
			c.add("INCR", key)
			c.add("EXPIRE", key, "100")
			c.add("EXEC")
			if err := c.flush(); err != nil {
				return err
			}
			var got loadReply
			for range 4 {
				var err error
				if got, err = c.read(); err != nil {
					return err
				}
			}
			if got.kind != '*' || len(got.elems) != 2 {
				wrong.add("EXEC: %v", got)
			}
			done.Add(1)
			k.pause(time.Duration(clients) * time.Second / perSecond)
			return nil
		})
		eventually(t, "all to have begun", func() bool { return done.Load() > int64(4*clients) })
		stats := func() (received int64, cpu time.Duration) {
			return int64(infoField(t, direct, "stats", "total_connections_received")),
				time.Duration((infoField(t, direct, "cpu", "used_cpu_sys") + infoField(t, direct, "cpu", "used_cpu_user")) * float64(time.Second))
		}
		received, spent := stats()
		begun := done.Load()
		k.pause(span)
		receivedNow, spentNow := stats()
		sent = done.Load() - begun
		k.end()
		k.lost.none(t, "clients that lost their connection")
		wrong.none(t, "wrong replies")
		return spentNow - spent, receivedNow - received, sent
	}
	cpu, connected, sent := run(addr)
	if connected > 1 { // berth asks now and then what the node bears
		t.Errorf("the node got %d new connections", connected)
	}
	if n := sum(b.metrics(), "berth_node_connections", `kind="lease"`); n != 0 {
		t.Errorf("%v exclusive connections", n)
	}
	directCPU, _, directSent := run(node.Addr())
	figure(t, "MULTI/EXEC without WATCH: %.0f/s through berth, new connections %d, redis-server %.1f µs each; direct %.0f/s, %.1f µs each",
		float64(sent)/span.Seconds(), connected, float64(cpu.Microseconds())/float64(sent),
		float64(directSent)/span.Seconds(), float64(directCPU.Microseconds())/float64(directSent))
}

// infoField is a number of INFO.
func infoField(t testing.TB, c *redistest.Conn, section, name string) float64 {
	t.Helper()
	info, _ := c.Do("INFO", section).(string)
	_, rest, _ := strings.Cut(info, name+":")
	line, _, _ := strings.Cut(rest, "\r\n")
	v, err := strconv.ParseFloat(line, 64)
	if err != nil {
		t.Fatalf("INFO %s has no %s", section, name)
	}
	return v
}

func TestPoolSettingsChangeUnderLoad(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startLoaded(t, node.Addr(), "--loops", "2")
	k := newInteractive(t, b.Addr(), 4)
	var rounds atomic.Int64
	k.start(20, "program", func(c *loadClient, i, round int) error {
		rounds.Add(1)
		return k.swap(c, i, round)
	})
	s := newSoak(t, b.Addr())
	s.start(20, "plain", s.plain)
	c := dial(t, b.Addr())
	between := func(least, n int) string { return fmt.Sprint(least + rand.IntN(n)) }
	changes := sized(300, 1000)
	for range changes {
		pairs := []any{"CONFIG", "SET"}
		for name, value := range map[string]string{
			"private_conn_idle_time_sec": between(0, 3), "private_conn_pool_max_idle_per_db": between(0, 40),
			"private_conn_pool_min_idle_per_db": between(0, 10), "private-conn-pool-max-total": fmt.Sprint(rand.IntN(2) * (5 + rand.IntN(40))),
			"pool-blocking-share": between(1, 100), "pool-health-check-interval": between(0, 2), "pool-dial-rate": between(0, 1000),
			"pool-dial-concurrency": between(0, 9), "pool-wait-timeout": between(20000, 1000), "watch-max-idle": fmt.Sprint(rand.IntN(2) * 5000),
		} {
			pairs = append(pairs, name, value)
		}
		if got := c.Do(pairs...); got != "OK" {
			t.Fatalf("%v: %v", pairs, got)
		}
	}
	begun := rounds.Load()
	eventually(t, "transactions after the last change", func() bool { return rounds.Load() > begun+100 })
	c.Do("CONFIG", "SET", "private_conn_pool_enabled", "0")
	c.Do("CONFIG", "SET", "private_conn_pool_enabled", "1")
	k.end()
	close(s.stop)
	s.done.Wait()
	k.lost.none(t, "programs that lost their connection or waited in vain")
	k.wrong.none(t, "wrong replies")
	s.lost.none(t, "clients that lost their connection")
	s.wrong.none(t, "wrong replies")
	for n := range k.swapped {
		got, _ := c.Do("GET", fmt.Sprint("counter", n)).(string)
		if want := fmt.Sprint(k.swapped[n].Load()); cmp.Or(got, "0") != want {
			t.Errorf("counter %d is %q after %s successful transactions", n, got, want)
		}
	}
	figure(t, "%d changes of ten settings each, %d transactions meanwhile, errors %d", changes, rounds.Load(), k.wrong.count.Load()+s.wrong.count.Load())
}

func TestConnectionsAreThereBeforeTheFirstClientAsks(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(cluster), "--private_conn_pool_min_idle_per_db", "3", "--pool-dial-rate", "1000")
	eventually(t, "three idle at each primary", func() bool {
		return b.leases().Idle == 9
	})
	c := dial(t, b.Addr())
	script(t, c, "WATCH k → OK", "MULTI → OK", "SET k 1 → QUEUED", "EXEC → [OK]")
	var misses uint64
	for _, f := range b.srv.look(0).Pools {
		misses += f.Misses
	}
	if misses != 0 {
		t.Errorf("%d leases had to be waited for", misses)
	}
}

func TestConnectionsAreMadeAheadWhenTheSettingAsksForThem(t *testing.T) {
	parallel(t)
	b := startBerth(t, redistest.Start(t).Addr())
	if n := len(b.srv.look(0).Pools); n != 0 {
		t.Fatalf("%d pools before anybody came", n)
	}
	b.set("private_conn_pool_min_idle_per_db", "2")
	eventually(t, "two to be idle", func() bool { return b.leases().Idle == 2 })
}
