package lane

import (
	"testing"

	"github.com/berth-proxy/berth/backend"
)

func TestUnblockingEndsOnceAndSaysHow(t *testing.T) {
	for _, c := range []struct {
		reply string // "": lost
		waits bool
		tries int
		want  unblockOutcome
	}{
		{":1\r\n", true, 1, unblocked},
		{":1\r\n", false, 1, unblocked},
		{":0\r\n", false, 1, answered},
		{":0\r\n", true, unblockTries, inVain},
		{"-NOPERM no\r\n", true, 1, refusedTo},
		{"", true, 1, unanswered},
	} {
		ends, steps := []unblockOutcome{}, 0
		u := &unblocking{
			waits: func() bool { return c.waits }, end: func(how unblockOutcome) { ends = append(ends, how) },
			afterStep: func() { steps++ }, owed: true, tries: c.tries,
		}
		for range 2 { // what comes after the end changes nothing
			if c.reply == "" {
				u.Lost(&backend.LostError{}, nil)
			} else {
				u.Reply([]byte(c.reply), nil, 0)
			}
		}
		if len(ends) != 1 || ends[0] != c.want || steps != 1 || u.owed {
			t.Errorf("%q with the command waiting %v, try %d: ended as %v after %d steps, owed %v", c.reply, c.waits, c.tries, ends, steps, u.owed)
		}
	}
}

func TestUnblockingAsksAgainUntilTheCommandIsAnswered(t *testing.T) {
	loop := &stillLoop{posted: make(chan func(), 1)}
	waits, ends := true, []unblockOutcome{}
	u := &unblocking{loop: loop, waits: func() bool { return waits }, end: func(how unblockOutcome) { ends = append(ends, how) }, tries: 1}
	u.Reply([]byte(":0\r\n"), nil, 0)
	if len(ends) != 0 {
		t.Fatalf("the node has not seen the command yet, and the questions ended as %v", ends)
	}
	again := <-loop.posted
	waits = false
	again()
	if len(ends) != 1 || ends[0] != answered {
		t.Errorf("the command was answered meanwhile, and the questions ended as %v", ends)
	}
}
