package main

import (
	"fmt"
	"testing"

	"github.com/berth-proxy/berth/router"
)

func TestPartsInTheMidstOfABatchFollowTheirSlot(t *testing.T) {
	parallel(t)
	cluster, b, move := movedSlot(t, "{k}", "--loops", "1")
	from := cluster.Owner(int(router.Slot([]byte("k"))))
	// Before and after the slot that moves: several that stay, with one key and with two.
	var keys []string
	for i := 0; len(keys) < 12; i++ {
		if tag := fmt.Sprintf("{stays%d}", i); cluster.Owner(int(router.Slot([]byte(tag[1:len(tag)-1])))) == from {
			keys = append(keys, tag, tag+"too")
		}
		if len(keys) == 6 {
			keys = append(keys, "{k}", "{k}too")
		}
	}
	keys = append(keys, "{elsewhere}")
	mget, mset, exists := []any{"MGET"}, []any{"MSET"}, []any{"EXISTS"}
	var values []any
	for i, k := range keys {
		mget, mset, exists = append(mget, k), append(mset, k, i), append(exists, k)
		values = append(values, fmt.Sprint(i))
	}
	c := dial(t, b.Addr())
	if got := c.Do(mset...); got != "OK" {
		t.Fatal(got)
	}
	move()
	c.Send(mget...)
	c.Send(exists...)
	c.Send(mset...)
	c.Send(mget...)
	for _, want := range []any{values, len(keys), "OK", values} {
		if got := c.Recv(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if b.redirected() == 0 {
		t.Error("nothing was redirected")
	}
}

// A part knows its request, which is sent again when it is redirected or was not sent, also after parts that have been
// answered. With the last part, the batch goes back to the loop.
func TestEachPartOfABatchHasItsOwnRequest(t *testing.T) {
	sent := []byte("firstsecondthird")
	l := new(loop)
	j := l.splitter.join(&request{s: &session{loop: l}}, 5)
	b := &shardBatch{join: j}
	b.parts = append(b.parts, batched{part: 1, end: 5}, batched{part: 2, end: 11}, batched{part: 4, end: 16})
	for _, want := range []struct {
		part    int
		request string
		free    int
	}{{1, "first", 0}, {2, "second", 0}, {4, "third", 1}} {
		p, request := b.take(sent)
		if p != &j.parts[want.part] || string(request) != want.request {
			t.Errorf("part %d: another one, or request %q", want.part, request)
		}
		if len(l.splitter.batches.free) != want.free {
			t.Errorf("part %d: %d batches are free, want %d", want.part, len(l.splitter.batches.free), want.free)
		}
	}
}
