package main

import (
	"fmt"
	"testing"

	"github.com/berth-proxy/berth/router"
)

func TestPartsInTheMidstOfABundleFollowTheirSlot(t *testing.T) {
	parallel(t)
	cluster, b, move := movedSlot(t, "{k}", "--loops", "1")
	from := cluster.Owner(int(router.Slot([]byte("k"))))
	// Ahead of the slot that moves and behind it: several that stay, with one key and with two.
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
	if b.srv.nodes.Stats().Moved == 0 {
		t.Error("nothing was redirected")
	}
}

// A part knows its request, which is sent again when it is redirected or was not sent, also behind parts that have been
// answered.
func TestEachPartOfABundleHasItsOwnRequest(t *testing.T) {
	sent := []byte("firstsecondthird")
	j := &join{parts: make([]part, 5)}
	b := &shardBatch{join: j, parts: []bundled{{part: 1, end: 5}, {part: 2, end: 11}, {part: 4, end: 16}}}
	for _, want := range []struct {
		part    int
		request string
	}{{1, "first"}, {2, "second"}, {4, "third"}} {
		p, request := b.take(sent)
		if p != &j.parts[want.part] || string(request) != want.request {
			t.Errorf("part %d: another one, or request %q", want.part, request)
		}
	}
}
