package feed

import (
	"bytes"
	"strconv"
)

// nodeReply is what a feed needs to know of one reply: its kind, and the channel that it is about.
type nodeReply struct {
	kind    replyKind
	channel ChannelKind
	name    []byte // of the channel or pattern; a view of the reply
}

// replyKind is what a reply on a connection with subscriptions means.
type replyKind uint8

const (
	replyOther replyKind = iota // nothing that berth has asked for
	replyMessage
	replyOn   // a subscription begins
	replyOff  // a subscription has ended
	replyPong // the reply to berth's PING
	replyError
)

// replyForms are the beginnings of all arrays that a RESP2 connection with subscriptions gets. The
// name of the channel follows. The frequent ones come first.
var replyForms = []struct {
	begins  string
	kind    replyKind
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

// parseReply reads the front of a whole reply.
func parseReply(reply []byte) nodeReply {
	if reply[0] == '-' {
		return nodeReply{kind: replyError}
	}
	for i := range replyForms {
		form := &replyForms[i]
		if len(reply) > len(form.begins) && string(reply[:len(form.begins)]) == form.begins {
			name, ok := bulkBody(reply[len(form.begins):])
			if !ok {
				return nodeReply{}
			}
			return nodeReply{form.kind, form.channel, name}
		}
	}
	if bytes.HasPrefix(reply, []byte(pongArray)) || string(reply) == pongSimple {
		return nodeReply{kind: replyPong}
	}
	return nodeReply{}
}

// published returns the channel of a message, which for a pattern is not the name.
func (r *nodeReply) published(message []byte) []byte {
	if r.channel != PatternChannel {
		return r.name
	}
	rest := message[len("*4\r\n$8\r\npmessage\r\n$"):]
	rest = rest[bytes.IndexByte(rest, '\n')+1+len(r.name):]
	if len(rest) < len("\r\n$") {
		return nil
	}
	channel, _ := bulkBody(rest[len("\r\n$"):])
	return channel
}

// bulkBody returns the body of a bulk string from what follows its '$': "3\r\nabc\r\n".
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

// The commands that begin and end a subscription to a channel of each kind.
var (
	subscribeWords   = [ChannelKinds]string{"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"}
	unsubscribeWords = [ChannelKinds]string{"UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}
)
