package main

import "testing"

func TestSuitePubSub(t *testing.T) { compareTalks(t, pubsubTalks) }

var pubsubTalks = []conversation{
	{name: "channels", lines: `
		a! SUBSCRIBE %tc %td %tc
		a<
		a<
		a<
		b: PUBLISH %tc hello
		a<
		b: PUBLISH %td world
		a<
		a! UNSUBSCRIBE %tc
		a<
		b: PUBLISH %tc nobody
		b: PUBLISH %td x
		a<
		a! UNSUBSCRIBE
		a<
		a! UNSUBSCRIBE
		a<
		a! UNSUBSCRIBE %tc %td
		a<
		a<
		a: PING`},
	{name: "one behind the other", lines: `
		a! SUBSCRIBE %ta
		a! UNSUBSCRIBE %ta
		a! SUBSCRIBE %tb
		a! PSUBSCRIBE %t*
		a! SUBSCRIBE %ta %ta
		a! UNSUBSCRIBE %tb
		a! UNSUBSCRIBE
		a! PUNSUBSCRIBE %tx
		a! SUBSCRIBE %tc
		a! PUNSUBSCRIBE
		a! PUNSUBSCRIBE
		a! PING
		a<
		a<
		a<
		a<
		a<
		a<
		a<
		a<
		a<
		a<
		a<
		a<
		a<
		b: PUBLISH %tc hello
		a<
		a! UNSUBSCRIBE
		a! GET %tnothing
		a<
		a<`},
	{name: "patterns", lines: `
		a! PSUBSCRIBE %tf* %t?ar
		a<
		a<
		b: PUBLISH %tfoo 1
		a<
		b: PUBLISH %tbar 2
		a<
		b: PUBLISH %tbaz 3
		a! SUBSCRIBE %tfar
		a<
		b: PUBLISH %tbar 4
		a<
		a! PUNSUBSCRIBE %tf*
		a<
		b: PUBLISH %tfar x
		a<
		a<
		a! PUNSUBSCRIBE
		a<
		a! PUNSUBSCRIBE
		a<
		a! UNSUBSCRIBE
		a<
		a: GET %tk`},
	{name: "sharded channels", lines: `
		a! SSUBSCRIBE %tc %td
		a<
		a<
		b: SPUBLISH %tc 1
		a<
		a! SUBSCRIBE %tc
		a<
		b: PUBLISH %tc 2
		a<
		b: SPUBLISH %td 3
		a<
		a! SUNSUBSCRIBE %tc
		a<
		a! SUNSUBSCRIBE
		a<
		a! SUNSUBSCRIBE
		a<
		a! UNSUBSCRIBE
		a<
		b: SPUBLISH %tc nobody
		a: GET %tk`},
	{name: "what a subscriber may", lines: `
		a! SUBSCRIBE %tc
		a<
		a: PING
		a: PING text
		a: PUBLISH %tother x
		a: GET %tk
		a: NOSUCH
		a: GET
		a: MULTI
		a: RESET
		a: GET %tk
		a! SUBSCRIBE
		a<
		a! PSUBSCRIBE %tp
		a<
		a! QUIT
		a<<`},
	{name: "messages of transactions and scripts", alone: true, lines: `
		a! SUBSCRIBE %tc
		a<
		b: MULTI
		b: PUBLISH %tc 1
		b: PUBLISH %tc 2
		b: INCR %tk
		b: EXEC
		a<
		a<
		b: EVAL "return redis.call('publish', ARGV[1], 'three')" 0 %tc
		a<
		b! PUBLISH %tc 4
		b! PUBLISH %tc ""
		b! PUBLISH %tc "a\r\nb\x00"
		a<
		a<
		a<
		b<
		b<
		b<`},
	{name: "questions", lines: `
		b: PUBSUB CHANNELS %tnone*
		b: PUBSUB NUMSUB
		b: PUBSUB NUMSUB %tnone %tnone2
		b: PUBSUB SHARDCHANNELS %tnone*
		b: PUBSUB SHARDNUMSUB %tnone
		b: PUBSUB NUMPAT x
		b: PUBSUB NOSUCH
		b: PUBSUB HELP
		b: PUBLISH
		b: SPUBLISH x
		b: SUBSCRIBE`},
	{name: "a subscriber in RESP3 asks", alone: true, lines: `
		a: HELLO 3
		a! SUBSCRIBE %tc
		a<
		a: SET %tk v
		a: GET %tk
		a: PING
		a: PUBLISH %tnobody me
		a: MULTI
		a: GET %tk
		a: EXEC
		a: BLPOP %tnone 0.01
		a! UNSUBSCRIBE
		a<
		a: HELLO 2
		a: GET %tk`},
}
