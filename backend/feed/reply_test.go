package feed

import "testing"

func TestWhatANodeSaysIsToldApart(t *testing.T) {
	for _, c := range []struct {
		reply   string
		what    replyKind
		channel ChannelKind
		name    string
	}{
		{"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n", replyMessage, PlainChannel, "a"},
		{"*3\r\n$7\r\nmessage\r\n$0\r\n\r\n$0\r\n\r\n", replyMessage, PlainChannel, ""},
		{"*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$2\r\nhi\r\n", replyMessage, PatternChannel, "a*"},
		{"*3\r\n$8\r\nsmessage\r\n$11\r\nhello\r\nwrld\r\n$2\r\nhi\r\n", replyMessage, ShardChannel, "hello\r\nwrld"},
		{"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", replyOn, PlainChannel, "a"},
		{"*3\r\n$10\r\npsubscribe\r\n$1\r\na\r\n:1\r\n", replyOn, PatternChannel, "a"},
		{"*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n", replyOn, ShardChannel, "a"},
		{"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n", replyOff, PlainChannel, "a"},
		{"*3\r\n$12\r\npunsubscribe\r\n$1\r\na\r\n:1\r\n", replyOff, PatternChannel, "a"},
		{"*3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n", replyOff, ShardChannel, "a"},
		{"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", replyOther, 0, ""},
		{"*2\r\n$4\r\npong\r\n$0\r\n\r\n", replyPong, 0, ""},
		{"+PONG\r\n", replyPong, 0, ""},
		{"-NOPERM no\r\n", replyError, 0, ""},
		{"+OK\r\n", replyOther, 0, ""},
		{":1\r\n", replyOther, 0, ""},
		{"*0\r\n", replyOther, 0, ""},
	} {
		got := parseReply([]byte(c.reply))
		if got.kind != c.what || got.channel != c.channel || string(got.name) != c.name {
			t.Errorf("%q: %d %d %q, want %d %d %q", c.reply, got.kind, got.channel, got.name, c.what, c.channel, c.name)
		}
	}
}
