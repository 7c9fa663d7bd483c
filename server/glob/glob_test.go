package glob

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

func TestPatternsMatchAsInRedis(t *testing.T) {
	conn := redistest.Dial(t, redistest.Start(t).Addr())
	random := rand.New(rand.NewPCG(3, 4))
	word := func(letters string, most int) string {
		b := make([]byte, random.IntN(most)+1)
		for i := range b {
			b[i] = letters[random.IntN(len(letters))]
		}
		return string(b)
	}
	keys := []string{""}
	for range 60 {
		keys = append(keys, word("abc-]^", 5))
	}
	for _, k := range keys {
		conn.Do("SET", k, "x")
	}
	matched := 0
	for range 3000 {
		pattern := word(`abc*?[]^-\`, 7)
		if pattern == "*" { // for which KEYS compares nothing
			continue
		}
		found := map[string]bool{}
		for _, k := range conn.Do("KEYS", pattern).([]any) {
			found[k.(string)] = true
		}
		for _, k := range keys {
			if got := Match(pattern, k); got != found[k] {
				t.Errorf("%q with %q: berth %v, redis %v", pattern, k, got, found[k])
			}
			if found[k] {
				matched++
			}
		}
	}
	if matched < 1000 {
		t.Errorf("only %d matches: the generator is one-sided", matched)
	}
}

func TestPatternsIgnoreCase(t *testing.T) {
	for _, c := range [][2]string{{"PORT", "port"}, {"p[N-P]rt", "port"}, {"P?R*", "port"}, {`\P*`, "port"}} {
		if !Match(c[0], c[1]) {
			t.Errorf("%s does not match %s", c[0], c[1])
		}
	}
}

func TestManyStarsTakeNoTime(t *testing.T) {
	matches := make(chan bool, 1)
	go func() { matches <- Match(strings.Repeat("*a", 1000)+"b", strings.Repeat("a", 5000)) }()
	select {
	case yes := <-matches:
		if yes {
			t.Error("matches")
		}
	case <-time.After(time.Minute): // to try every way would take years
		t.Error("takes for ever")
	}
}

// A class is read once, however many texts are matched with it and however long it is.
func TestMatchingDoesNotDependOnThePatternsLength(t *testing.T) {
	long := Compile("*[" + strings.Repeat("b-d", 1<<20) + "]*")
	if len(long.elements) != 3 {
		t.Fatalf("%d elements", len(long.elements))
	}
	matched := 0
	for range 100_000 {
		if long.Match("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac") {
			matched++
		}
	}
	if matched != 100_000 {
		t.Errorf("%d matches", matched)
	}
	if stars := Compile(strings.Repeat("*", 1<<20)); len(stars.elements) != 1 || !stars.Match("a") {
		t.Errorf("%d elements", len(stars.elements))
	}
}

func TestChannelsMatchAsInRedis(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", false}, {"**", "ab", true}, {"a", "a", true}, {"a", "A", false},
		{"a*c", "abcbc", true}, {"a*c", "abcb", false}, {"?", "", false}, {"a?", "ab", true},
		{"[a-c]", "b", true}, {"[c-a]", "b", true}, {"[^a-c]", "b", false}, {"[^a-c]", "d", true}, {"[a", "a", true},
		{"[]", "a", false}, {"[^]", "a", true}, {"[\\]]", "]", true}, {"\\*", "*", true}, {"\\*", "a", false}, {"a\\", "a\\", true},
		{"[a-]", "-", false}, {"[a-]", "^", true}, {"x[yz]*", "xz", true}, {"x[yz]*", "xZ", false},
	} {
		steps := 1000
		if got := MatchChannel(c.pattern, []byte(c.name), &steps); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.name, got)
		}
	}
	steps := 1 << 16
	MatchChannel(strings.Repeat("*a", 1000)+"b", []byte(strings.Repeat("a", 1<<20)), &steps)
	if steps > 0 {
		t.Error("the costly pattern did not use up the steps")
	}
}
