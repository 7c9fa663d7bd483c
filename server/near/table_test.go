package near

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

type fetch struct{}

func newTable() (*Table[fetch], *int) {
	bytes := new(int)
	return &Table[fetch]{Bytes: bytes}, bytes
}

// add adds a key by its name.
func add(t *Table[fetch], name string, now int64) *Key[fetch] {
	return t.Add(Sum([]byte(name)), []byte(name), 0, now)
}

func split(words ...string) (all [][]byte) {
	for _, w := range words {
		all = append(all, []byte(w))
	}
	return all
}

const (
	get  = 1
	hget = 2
)

func TestEntriesAreFoundByTheirForm(t *testing.T) {
	table, _ := newTable()
	k := add(table, "k", 1)
	source := &Source{}
	put := func(command int, reply string, words ...string) {
		table.Put(k, &Entry{Source: source, Asked: 1}, command, split(words...), []byte(reply), false)
	}
	put(get, "$1\r\na\r\n")
	put(hget, "$1\r\nb\r\n", "f")
	put(hget, "_\r\n", "f", "")
	put(hget, "%1\r\n$1\r\nf\r\n,1.5\r\n", "ff")
	for _, tc := range []struct {
		command      int
		words        [][]byte
		resp2, resp3 string
	}{
		{get, nil, "$1\r\na\r\n", "$1\r\na\r\n"},
		{hget, split("f"), "$1\r\nb\r\n", "$1\r\nb\r\n"},
		{hget, split("f", ""), "$-1\r\n", "_\r\n"},
		{hget, split("ff"), "*2\r\n$1\r\nf\r\n$3\r\n1.5\r\n", "%1\r\n$1\r\nf\r\n,1.5\r\n"},
	} {
		e := k.Find(tc.command, tc.words)
		if e == nil {
			t.Fatalf("%d %q is not found", tc.command, tc.words)
		}
		if got := string(e.Reply(2)); got != tc.resp2 {
			t.Errorf("%q in RESP2: %q", tc.words, got)
		}
		if got := string(e.Reply(3)); got != tc.resp3 {
			t.Errorf("%q in RESP3: %q", tc.words, got)
		}
	}
	for _, words := range [][][]byte{nil, split(""), split("g"), split("f", "f"), split("f", "", "")} {
		if e := k.Find(hget, words); e != nil {
			t.Errorf("%q is found as %q", words, e.Reply(3))
		}
	}
	if e := k.Find(get, split("f")); e != nil {
		t.Error("a command is found by the words of another")
	}
	put(get, "$1\r\nc\r\n", "f")
	if k.Find(hget, split("f")) == nil {
		t.Error("a command's reply gives way to that of another")
	}
}

// What is put belongs to the caller, who uses it again.
func TestTableKeepsNothingOfItsCallers(t *testing.T) {
	table, _ := newTable()
	name, words, reply := []byte("name"), split("word"), []byte("$5\r\nreply\r\n")
	k := table.Add(Sum(name), name, 7, 1)
	table.Put(k, &Entry{Source: &Source{}}, get, words, reply, false)
	for _, b := range [][]byte{name, words[0], reply} {
		for i := range b {
			b[i] = '!'
		}
	}
	k = table.Find(Sum([]byte("name")), []byte("name"))
	if k == nil || k.Find(get, split("word")) == nil || string(k.Find(get, split("word")).Reply(2)) != "$5\r\nreply\r\n" || k.Slot != 7 {
		t.Error("what was added is not there any more")
	}
}

func TestEntryIsTrueAsLongAsItsSourceSaysSo(t *testing.T) {
	source := &Source{Proved: 5}
	e := &Entry{Source: source, Asked: 8}
	if got := e.Proved(); got != 8 {
		t.Errorf("true at %d, asked for at 8", got)
	}
	source.Proved = 11
	if got := e.Proved(); got != 11 {
		t.Errorf("true at %d, the source has answered what was sent at 11", got)
	}
	e.Alone = true
	if got := e.Proved(); got != 8 {
		t.Errorf("true at %d, and the source does not tell", got)
	}
}

func TestPuttingAFormAgainReplacesIt(t *testing.T) {
	table, used := newTable()
	k := add(table, "k", 1)
	source := &Source{}
	var once int
	for i := range 3 {
		table.Put(k, &Entry{Source: source}, hget, split("f"), fmt.Appendf(nil, "$1\r\n%d\r\n", i), false)
		if i == 0 {
			once = *used
		}
	}
	if table.Entries != 1 || *used != once || string(k.Find(hget, split("f")).Reply(2)) != "$1\r\n2\r\n" {
		t.Errorf("%d entries, %d bytes instead of %d", table.Entries, *used, once)
	}
}

func TestAKeyHasSoManyFormsAtMost(t *testing.T) {
	table, _ := newTable()
	k := add(table, "k", 1)
	put := func(i int, reply string) {
		table.Put(k, &Entry{Source: &Source{}}, hget, split(fmt.Sprint(i)), []byte(reply), false)
	}
	for i := range maxForms + 5 {
		put(i, ":0\r\n")
	}
	last := maxForms + 4
	if table.Entries != maxForms || k.Find(hget, split(fmt.Sprint(last))) == nil {
		t.Errorf("%d entries, or not the latest one", table.Entries)
	}
	put(last, ":1\r\n")
	if table.Entries != maxForms || string(k.Find(hget, split(fmt.Sprint(last))).Reply(2)) != ":1\r\n" {
		t.Error("a form that is there is not replaced by itself alone")
	}
}

func TestDropDropsTheEntryItself(t *testing.T) {
	table, used := newTable()
	k := add(table, "k", 1)
	before := *used
	old, e := &Entry{Source: &Source{}}, &Entry{Source: &Source{}}
	table.Put(k, old, get, nil, []byte(":1\r\n"), false)
	table.Put(k, e, get, nil, []byte(":2\r\n"), false)
	if table.Drop(k, old); table.Entries != 1 || k.Find(get, nil) != e {
		t.Error("the entry that took the place of the dropped one is gone")
	}
	if table.Drop(k, e); table.Entries != 0 || *used != before || e.Source.Holds() {
		t.Errorf("%d entries, %d bytes of %d", table.Entries, *used, before)
	}
}

func evict(table *Table[fetch], but *Key[fetch]) bool {
	k := table.Least(but)
	return k != nil && table.Remove(k)
}

func TestKeyWithARequestUnderWayIsNotRemoved(t *testing.T) {
	table, used := newTable()
	k := add(table, "k", 1)
	k.Pending = append(k.Pending, fetch{})
	table.Put(k, &Entry{Source: &Source{}}, get, nil, []byte(":1\r\n"), false)
	if table.Remove(k) || evict(table, nil) || k.IsGone() {
		t.Fatal("it is removed")
	}
	table.Cool(1, 2)
	if table.Len() != 1 {
		t.Fatal("it is cooled")
	}
	k.Pending = nil
	if !evict(table, nil) || !k.IsGone() || table.Len() != 0 || *used != 0 || table.Entries != 0 {
		t.Errorf("%d keys, %d entries, %d bytes", table.Len(), table.Entries, *used)
	}
	table.Put(k, &Entry{Source: &Source{}}, get, nil, []byte(":1\r\n"), false)
	if *used != 0 || table.Entries != 0 {
		t.Error("something is kept of a key that is gone")
	}
}

func TestEvictSparesTheKeyThatIsHitMoreAndTheGivenOne(t *testing.T) {
	table, _ := newTable()
	cold, hot := add(table, "cold", 1), add(table, "hot", 1)
	hot.Hits = 10
	if !evict(table, cold) || !hot.IsGone() {
		t.Error("the given key is not spared")
	}
	if evict(table, cold) {
		t.Error("the given key is evicted, as the last one")
	}
	hot = add(table, "hot", 1)
	hot.Hits = 10
	if !evict(table, nil) || !cold.IsGone() || hot.IsGone() {
		t.Error("the key that is hit more is evicted")
	}
	for range 30 { // keys are looked at in an order of chance
		cold = add(table, "cold", 1)
		if !evict(table, nil) || !cold.IsGone() {
			t.Fatal("the key that is hit more is evicted")
		}
	}
	busy := add(table, "busy", 1)
	busy.Pending = append(busy.Pending, fetch{})
	if !evict(table, nil) || !hot.IsGone() {
		t.Error("a key that cannot be removed keeps another one from being evicted")
	}
}

func TestSourcesAndKeysAreForgottenByThemselves(t *testing.T) {
	table, _ := newTable()
	a, b := add(table, "a", 1), add(table, "b", 1)
	one, other := &Source{}, &Source{}
	put := func(k *Key[fetch], s *Source) { table.Put(k, &Entry{Source: s}, get, nil, []byte(":1\r\n"), false) }
	put(a, one)
	put(b, other)
	if n := table.ForgetSource(one); n != 1 || a.Find(get, nil) != nil || b.Find(get, nil) == nil || one.Holds() || !other.Holds() {
		t.Error("not what came by the source is forgotten, or not that alone")
	}
	put(a, one)
	if n := table.ForgetAll(func(k *Key[fetch]) bool { return k == b }); n != 1 || a.Find(get, nil) == nil || b.Find(get, nil) != nil {
		t.Error("not what is kept of the key is forgotten, or not that alone")
	}
}

func TestSizeCountsWordsAndBothForms(t *testing.T) {
	table, used := newTable()
	k := add(table, "k", 1)
	put := func(reply, word string) int {
		before := *used
		table.Put(k, &Entry{Source: &Source{}}, get, split(word), []byte(reply), false)
		return *used - before
	}
	one := put("$3\r\nabc\r\n", "a")
	if two := put("_\r\n", "b"); two != one-len("$3\r\nabc\r\n")+len("_\r\n$-1\r\n") {
		t.Errorf("%d bytes of a reply with two forms, %d of one with one", two, one)
	}
	if two := put("$3\r\nabc\r\n", "longer"); two != one+5 {
		t.Errorf("%d bytes with a longer word, %d before", two, one)
	}
}

func TestCoolKeepsWhatIsHitAndWhatIsNew(t *testing.T) {
	table, _ := newTable()
	for name, hits := range map[string]int{"idle": 0, "hit": 3} {
		add(table, name, 10).Hits = hits
	}
	add(table, "new", 20)
	table.Cool(3, 20)
	for name, want := range map[string]bool{"idle": false, "hit": true, "new": true} {
		if table.Has(Sum([]byte(name))) != want {
			t.Errorf("%s is kept: %v", name, !want)
		}
	}
	for table.Len() > 0 {
		table.Cool(3, 30)
	}
}

// The counts of bytes, of entries, and of each source's, are those of what is there, whatever happens.
func TestCountsAreThoseOfWhatIsKept(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	table, used := newTable()
	sources := []*Source{{}, {}, {}}
	for step := range 20_000 {
		name := fmt.Sprint("key", dice.IntN(40))
		sum := Sum([]byte(name))
		k := table.Find(sum, []byte(name))
		switch dice.IntN(12) {
		case 0:
			if k != nil {
				table.Remove(k)
			}
		case 1:
			table.ForgetSum(sum)
		case 2:
			table.ForgetSource(sources[dice.IntN(3)])
		case 3:
			evict(table, k)
		case 4:
			table.Cool(2, int64(step-10))
		case 5:
			if dice.IntN(50) == 0 {
				table.ForgetAll(func(k *Key[fetch]) bool { return dice.IntN(2) == 0 })
			}
		default:
			if k == nil {
				k = add(table, name, int64(step))
			}
			k.Hits++
			reply := []string{":1\r\n", "%1\r\n+a\r\n:1\r\n", "$3\r\nabc\r\n", "_\r\n"}[dice.IntN(4)]
			table.Put(k, &Entry{Source: sources[dice.IntN(3)]}, dice.IntN(3), split(fmt.Sprint(dice.IntN(70))), []byte(reply), false)
		}
		entries, size := 0, 0
		table.Keys(func(_ *Key[fetch], n, bytes int) {
			entries += n
			size += bytes
		})
		held := sources[0].entries + sources[1].entries + sources[2].entries
		if entries != table.Entries || size != *used || held != entries {
			t.Fatalf("step %d: %d entries, %d counted, %d by source; %d bytes, %d counted", step, entries, table.Entries, held, size, *used)
		}
	}
}

func TestTableTakesTwoNamesOfOneSumForTwo(t *testing.T) {
	table, _ := newTable()
	table.Add(1, []byte("a"), 0, 1)
	if table.Find(1, []byte("b")) != nil || table.Add(1, []byte("b"), 0, 1) != nil {
		t.Error("one name stands for another")
	}
	if k := table.Find(1, []byte("a")); k == nil || !bytes.Equal(k.Name(), []byte("a")) {
		t.Error("the name that came first is gone")
	}
}

func TestOneFormIsShunnedForAWhile(t *testing.T) {
	table, _ := newTable()
	k := add(table, "k", 1)
	k.Shun(hget, split("f"), 10)
	for _, tc := range []struct {
		command int
		words   [][]byte
		now     int64
		want    bool
	}{
		{hget, split("f"), 9, true},
		{hget, split("f"), 10, false},
		{hget, split("g"), 9, false},
		{hget, split("f", "f"), 9, false},
		{get, split("f"), 9, false},
		{get, nil, 9, false},
	} {
		if got := k.Shuns(tc.command, tc.words, tc.now); got != tc.want {
			t.Errorf("%d %q at %d: %v", tc.command, tc.words, tc.now, got)
		}
	}
	k.Shun(hget, split("a", "b"), 10)
	if k.Shuns(hget, split("b", "a"), 9) {
		t.Error("words are the same in another order")
	}
	k.Shun(get, nil, 20)
	if !k.Shuns(get, nil, 19) || k.Shuns(hget, split("f"), 9) {
		t.Error("not the latest form is shunned, or not it alone")
	}
}

func TestWhatIsNotReadAgainIsNotKept(t *testing.T) {
	k := &Key[int]{credit: maxCredit}
	kept := func(reads int) (n int) {
		for range reads {
			if k.Pays() {
				n++
			}
		}
		return n
	}
	if n := kept(maxCredit / keepCost); n != maxCredit/keepCost {
		t.Errorf("of a new key %d replies are kept", n)
	}
	if n := kept(10 * (keepProbe + 1)); n != 10 {
		t.Errorf("of a key that is never hit %d replies of %d are kept", n, 10*(keepProbe+1))
	}
	for range 10 {
		k.Earn()
		k.Earn()
		if !k.Pays() {
			t.Fatal("what is hit twice is not kept")
		}
	}
	for range 10 * maxCredit {
		k.Earn()
	}
	if n := kept(maxCredit); n != maxCredit/keepCost {
		t.Errorf("after many hits %d replies are kept", n)
	}
}
