package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// asksReady returns what /readyz says.
func asksReady(t *testing.T, url string) (status int, text string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(said)
}

func TestBerthServesForItsShutdownDelayAndIsNotReady(t *testing.T) {
	r := startRelay(t, sharedNode(t), "--shutdown-delay", "600")
	there, blocked := dial(t, r.addr), dial(t, r.addr)
	key := unique("delay")
	script(t, there, "PING → PONG")
	blocked.Send("BLPOP", key, "0")
	if status, text := asksReady(t, r.readyz); status != 200 {
		t.Errorf("before: %d %q", status, text)
	}
	_ = r.now.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "berth to be not ready", func() bool {
		status, text := asksReady(t, r.readyz)
		return status == 503 && text == "shutting down\n"
	})
	if status, _ := asksReady(t, strings.Replace(r.readyz, "readyz", "healthz", 1)); status != 200 {
		t.Errorf("healthz: %d", status)
	}
	script(t, there, "PING → PONG")
	script(t, dial(t, r.addr), "RPUSH "+key+" x → 1")
	if got := fmt.Sprint(blocked.Recv()); got != "["+key+" x]" {
		t.Errorf("the blocked client: %s", got)
	}
	r.now.stop() // the second signal
	if code := r.now.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("nobody was owed a reply, and it ends with %d", code)
	}
}

func TestBlockedClientsAreAnsweredWhenBerthStops(t *testing.T) {
	for how, want := range map[string]string{"nil": "<nil>", "unblocked": "UNBLOCKED client unblocked via CLIENT UNBLOCK"} {
		r := startRelay(t, sharedNode(t), "--shutdown-blocked", how, "--loops", "3")
		key := unique("blocked")
		script(t, dial(t, r.addr), "SET s"+key+" 1 → OK")
		clients := map[string]*redistest.Conn{}
		for _, words := range []string{"BLPOP " + key + " 0", "BLMOVE " + key + " x" + key + " LEFT LEFT 100", "XREAD BLOCK 0 STREAMS " + key + "s $", "WAIT 5 0"} {
			clients[words] = dial(t, r.addr)
			clients[words].Send(strings.Fields(words))
		}
		watching := dial(t, r.addr)
		script(t, watching, "WATCH w"+key+" → OK")
		watching.Send("BLPOP", key, "0")
		clients["BLPOP after WATCH"] = watching
		admin := dial(t, r.addr)
		eventually(t, "all to be blocked", func() bool {
			return strings.Contains(text(admin.Do("INFO", "clients")), fmt.Sprintf("blocked_clients:%d\r", len(clients)))
		})
		_ = r.now.cmd.Process.Signal(syscall.SIGTERM)
		for words, c := range clients {
			want := want
			if how == "nil" && strings.HasPrefix(words, "WAIT") {
				want = "0"
			}
			if got := fmt.Sprint(c.Recv()); got != want {
				t.Errorf("%s: %s, want %s", words, got, want)
			}
			if rest := c.ReadAll(); rest != "" {
				t.Errorf("%s: after it %q", words, rest)
			}
		}
		<-r.now.done
		if code := r.now.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("it ends with %d", code)
		}
	}
}

// Whoever pushes meanwhile finds each element with a client, or at its place.
func TestNoElementIsLostWhenBerthStops(t *testing.T) {
	node := sharedNode(t)
	for range sized(3, 20) {
		r := startRelay(t, sharedNode(t))
		list := unique("elements")
		var mu sync.Mutex
		got := map[string]int{}
		var poppers sync.WaitGroup
		for range 20 {
			c := dial(t, r.addr)
			poppers.Go(func() {
				for {
					reply, err := c.TryDo("BLPOP", list, "0")
					pair, ok := reply.([]any)
					if err != nil || !ok {
						return
					}
					mu.Lock()
					got[pair[1].(string)]++
					mu.Unlock()
				}
			})
		}
		push := dial(t, node.Addr())
		pushed := 0
		for ended := false; !ended; pushed++ {
			push.Do("RPUSH", list, fmt.Sprint(pushed))
			if pushed == 300 {
				_ = r.now.cmd.Process.Signal(syscall.SIGTERM)
			}
			select {
			case <-r.now.done:
				ended = true
			default:
			}
		}
		poppers.Wait()
		for _, e := range push.Do("LRANGE", list, "0", "-1").([]any) {
			got[e.(string)]++
		}
		wrong := 0
		for i := range pushed {
			if got[fmt.Sprint(i)] != 1 {
				wrong++
			}
		}
		if wrong > 0 || len(got) != pushed {
			t.Errorf("of %d elements %d are lost or there twice; %d are found", pushed, wrong, len(got))
		}
		push.Do("DEL", list)
	}
}

func TestIdleClientsGoInSlices(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--loops", "1")
	const clients = 250
	for range clients {
		script(t, dial(t, b.Addr()), "PING → PONG")
	}
	left := make(chan [3]int)
	l := b.srv.eachLoop()[0]
	l.Post(func() {
		var counts [3]int
		l.beginStop(time.Minute)
		for i := range counts {
			if i > 0 {
				l.tickSessions()
			}
			for s := l.first; s != nil; s = s.next {
				if !s.closing {
					counts[i]++
				}
			}
		}
		left <- counts
	})
	if got, want := <-left, [3]int{clients - leastStopSlice, clients - 2*leastStopSlice, 0}; got != want {
		t.Errorf("there are left %v, want %v", got, want)
	}
}

// A request that is in the socket already, or that has begun, is answered.
func TestRequestsThatHaveBegunAreAnsweredWhenBerthStops(t *testing.T) {
	node := redistest.Start(t) // which a script keeps busy
	r := startRelay(t, node)
	slow, half, fresh := dial(t, r.addr), dial(t, r.addr), dial(t, r.addr)
	script(t, half, "PING → PONG")
	script(t, slow, "PING → PONG")
	key := unique("slow")
	half.WriteString("*2\r\n$4\r\nECHO\r\n$")
	slow.Send("EVAL", "local t=redis.call('TIME')[1]+1 while redis.call('TIME')[1]+0<t do end return 'done'", "1", key)
	_ = r.now.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "berth to stop", func() bool { return strings.Contains(r.now.output(), "stopping") })
	half.WriteString("3\r\nend\r\n")
	fresh.WriteString("PING\r\n")
	if got := slow.Recv(); got != "done" {
		t.Errorf("the script: %v", got)
	}
	if got := half.Recv(); got != "end" {
		t.Errorf("the other half: %v", got)
	}
	if got := fresh.Recv(); got != "PONG" {
		t.Errorf("the client that has just come: %v", got)
	}
	<-r.now.done
	if code := r.now.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ends with %d", code)
	}
}
