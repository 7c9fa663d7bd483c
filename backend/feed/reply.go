package feed

import (
	"bytes"
	"strconv"
)

// What a node says on a connection with subscriptions.
type replyKind uint8

const (
	replyOther replyKind = iota
	replyMessage
	replyOn   // a subscription is confirmed
	replyOff  // one has ended
	replyPong // the answer to our PING
	replyError
)

// said is one thing that a node said.
type nodeReply struct {
	kind    replyKind
	channel ChannelKind
	name    []byte // of the channel or pattern; a view
}

// sayings are the beginnings of all arrays that a RESP2 connection with subscriptions gets, with
// the name of the channel after them; the frequent ones first.
var replyForms = []struct {
	begins  string
	what    replyKind
	channel ChannelKind
}{
	{"*3\r\n$7\r\nmessage\r\n$", replyMessage, PlainChannel},
	{"*4\r\n$8\r\npmessage\r\n$", replyMessage, PatternChannel},
	{"*3\r\n$8\r\nsmessage\r\n$", replyMessage, ShardChannel},
	{"*3\r\n$9\r\nsubscribe\r\n$", replyOn, PlainChannel},
	{"*3\r\n$11\r\nunsubscribe\r\n$", replyOff, PlainChannel},
	{"*3\r\n$10\r\npsubscribe\r\n$", replyOn, PatternChannel},
	{"*3\r\n$12\r\npunsubscribe\r\n$", replyOff, PatternChannel},
	{"*3\r\n$10\r\nssubscribe\r\n$", replyOn, ShardChannel},
	{"*3\r\n$12\r\nsunsubscribe\r\n$", replyOff, ShardChannel},
}

// Both forms of PONG: with subscriptions on the connection, and without.
const (
	pongArray  = "*2\r\n$4\r\npong\r\n"
	pongSimple = "+PONG\r\n"
)

// readSaid looks at the front of a whole reply.
func parseReply(reply []byte) nodeReply {
	if reply[0] == '-' {
		return nodeReply{kind: replyError}
	}
	for i := range replyForms {
		s := &replyForms[i]
		if len(reply) > len(s.begins) && string(reply[:len(s.begins)]) == s.begins {
			name, ok := bulkBody(reply[len(s.begins):])
			if !ok {
				return nodeReply{}
			}
			return nodeReply{s.what, s.channel, name}
		}
	}
	if bytes.HasPrefix(reply, []byte(pongArray)) || string(reply) == pongSimple {
		return nodeReply{kind: replyPong}
	}
	return nodeReply{}
}

// bulkBody reads "3\r\nabc\r\n", what follows a bulk string's '$'.
func bulkBody(b []byte) ([]byte, bool) {
	end := bytes.IndexByte(b, '\r')
	if end < 0 {
		return nil, false
	}
	n, err := strconv.Atoi(string(b[:end]))
	if err != nil || n < 0 || n > len(b)-end-4 {
		return nil, false
	}
	return b[end+2 : end+2+n], true
}

// What a node is told to subscribe to a channel of each kind, and to end that.
var (
	subscribeWords   = [ChannelKinds]string{"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"}
	unsubscribeWords = [ChannelKinds]string{"UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}
)
