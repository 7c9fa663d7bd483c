package feed

import "testing"

func TestWhatANodeSaysIsToldApart(t *testing.T) {
	for _, c := range []struct {
		reply   string
		what    replyKind
		channel ChannelKind
		name    string
	}{
		{"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n", saidMessage, PlainChannel, "a"},
		{"*3\r\n$7\r\nmessage\r\n$0\r\n\r\n$0\r\n\r\n", saidMessage, PlainChannel, ""},
		{"*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$2\r\nhi\r\n", saidMessage, PatternChannel, "a*"},
		{"*3\r\n$8\r\nsmessage\r\n$11\r\nhello\r\nwrld\r\n$2\r\nhi\r\n", saidMessage, ShardChannel, "hello\r\nwrld"},
		{"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", saidOn, PlainChannel, "a"},
		{"*3\r\n$10\r\npsubscribe\r\n$1\r\na\r\n:1\r\n", saidOn, PatternChannel, "a"},
		{"*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n", saidOn, ShardChannel, "a"},
		{"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n", saidOff, PlainChannel, "a"},
		{"*3\r\n$12\r\npunsubscribe\r\n$1\r\na\r\n:1\r\n", saidOff, PatternChannel, "a"},
		{"*3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n", saidOff, ShardChannel, "a"},
		{"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", saidOther, 0, ""},
		{"*2\r\n$4\r\npong\r\n$0\r\n\r\n", saidPong, 0, ""},
		{"+PONG\r\n", saidPong, 0, ""},
		{"-NOPERM no\r\n", saidError, 0, ""},
		{"+OK\r\n", saidOther, 0, ""},
		{":1\r\n", saidOther, 0, ""},
		{"*0\r\n", saidOther, 0, ""},
	} {
		got := readSaid([]byte(c.reply))
		if got.what != c.what || got.channel != c.channel || string(got.name) != c.name {
			t.Errorf("%q: %d %d %q, want %d %d %q", c.reply, got.what, got.channel, got.name, c.what, c.channel, c.name)
		}
	}
}
