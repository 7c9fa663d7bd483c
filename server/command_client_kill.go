package main

import (
	"math"
	"strings"
	"time"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/telemetry"
)

// clientKill closes the clients that its words name: one address in the old form, which may be the
// client's own, or pairs of option and value. A client that kills itself gets its reply first.
func clientKill(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	oldForm := len(args) == 3
	filter := clientFilter{except: s}
	if oldForm {
		filter = clientFilter{remote: string(args[2])}
	} else if refusal := filter.readKill(s, args[2:]); refusal != "" {
		return s.refuse(cmd, refusal)
	}
	suicide := false // set by the client's own loop
	kill := func(l *loop, answer func(killed int)) {
		killed := 0
		l.walk(func(c *session) {
			switch {
			case !filter.admits(c):
			case c == s:
				killed++
				suicide = true
			default:
				killed++
				c.kill(telemetry.Killed)
			}
		}, func() { answer(killed) })
	}
	return askEveryLoop(s, cmd, kill, func(killed []int) []byte {
		total := 0
		for _, n := range killed {
			total += n
		}
		if suicide {
			s.end(telemetry.Killed)
		}
		switch {
		case !oldForm:
			return codec.AppendInt(nil, int64(total))
		case total == 0:
			return codec.AppendError(nil, "ERR No such client")
		}
		return codec.AppendSimple(nil, "OK")
	})
}

// readKill reads the pairs of CLIENT KILL sent by s; it returns what to say to words that are none.
// Of an option that is given twice the last one counts, as in Redis.
//
// Which users there are only the nodes know: to the name of none the answer is 0, where Redis has
// an error.
func (f *clientFilter) readKill(s *session, words [][]byte) (refusal string) {
	for ; len(words) > 0; words = words[2:] {
		option := strings.ToLower(string(words[0]))
		if len(words) == 1 {
			return errSyntax
		}
		value := words[1]
		switch option {
		case "id":
			id, ok := parseInt(value)
			if !ok || id < 1 {
				return "ERR client-id should be greater than 0"
			}
			f.id = id
		case "type":
			if refusal := f.setKind(value); refusal != "" {
				return refusal
			}
		case "addr":
			f.remote = string(value)
		case "laddr":
			f.local = string(value)
		case "user":
			f.user = string(value)
		case "maxage":
			seconds, ok := parseInt(value)
			if !ok {
				return "ERR maxage is not an integer or out of range"
			}
			if seconds < 1 {
				return "ERR maxage should be greater than 0"
			}
			f.minAge = time.Duration(min(seconds, math.MaxInt64/int64(time.Second))) * time.Second
		case "skipme":
			switch strings.ToLower(string(value)) {
			case "yes":
				f.except = s
			case "no":
				f.except = nil
			default:
				return errSyntax
			}
		default:
			return errSyntax
		}
	}
	return ""
}
