package main

import "testing"

func TestSuiteStreams(t *testing.T) { compareTalks(t, streamTalks) }

var streamTalks = []conversation{
	{name: "waiting for what is new", lines: `
		a> XREAD BLOCK 0 STREAMS %ts $
		b: XADD %ts 5-1 f v
		a<
		a> XREAD COUNT 1 BLOCK 100000 STREAMS %ts %tr $ 0-0
		b: MULTI
		b: XADD %ts 6-1 f v
		b: XADD %ts 6-2 f v
		b: XADD %tr 1-1 f v
		b: EXEC
		a<
		a> XREAD BLOCK 0 STREAMS %ts 6-2
		b: DEL %ts
		b: XADD %ts 1-1 old one
		b: XADD %ts 9-1 new one
		a<`},
	{name: "waiting for an entry that is taken away again", lines: `
		b: XADD %ts 1-1 f v
		a> XREAD BLOCK 0 STREAMS %ts $
		b: MULTI
		b: XADD %ts 2-1 f v
		b: XDEL %ts 2-1
		b: EXEC
		b: XADD %ts 3-1 f w
		a<
		a> XREAD BLOCK 0 STREAMS %tnew $
		b: MULTI
		b: XADD %tnew 1-1 f v
		b: DEL %tnew
		b: EXEC
		b: XADD %tnew 1-2 f w
		a<`},
	{name: "by other means", lines: `
		a> XREAD BLOCK 0 STREAMS %ts 0
		b: XADD %tother 1-1 f v
		b: RENAME %tother %ts
		a<
		a> XREAD BLOCK 0 STREAMS %ts 1-1
		b: EVAL "return redis.call('xadd', KEYS[1], '2-1', 'f', 'v')" 1 %ts
		a<
		a> XREAD BLOCK 0 STREAMS %tx 0
		b: XADD %tx MAXLEN 0 1-1 f v
		b: XADD %tx 2-2 f v
		a<`},
	{name: "XREAD's mistakes", lines: `
		a: XREAD BLOCK -1 STREAMS %ts $
		a: XREAD BLOCK x STREAMS %ts $
		a: XREAD BLOCK 10 STREAMS %ts
		a: XREAD COUNT x STREAMS %ts 0
		a: XREAD STREAMS %ts >
		a: XREAD BLOCK 1 STREAMS %ts %tr $
		a: XREAD BLOCK 9223372036854775807 COUNT 1 STREAMS %ts x
		a: XREAD COUNT 1 BLOCK 5 STREAMS %ts $
		a: XREAD STREAMS %ts $
		a: SET %tk v
		a: XREAD BLOCK 0 STREAMS %tk 0
		a: XADD %ts 0-0 f v
		a: XADD %ts 1-1 f
		a: XADD %ts 1-1 f v
		a: XADD %ts 1-1 f v
		a: XADD %ts 1-* f v
		a: XADD %ts 18446744073709551615-18446744073709551615 f v
		a: XADD %ts * f v
		a: XADD %tno NOMKSTREAM * f v
		a: XADD %ts MAXLEN ~ 0 LIMIT 5 99-1 a b
		a: XADD %ts MAXLEN = 10 LIMIT 5 99-1 a b
		a: XSETID %ts 5-1
		a: XLEN %ts`},
	{name: "groups: one entry goes to one consumer", lines: `
		a: XGROUP CREATE %ts g $ MKSTREAM
		a> XREADGROUP GROUP g one BLOCK 0 STREAMS %ts >
		b> XREADGROUP GROUP g two BLOCK 0 STREAMS %ts >
		c: XADD %ts 1-1 f v
		a<
		c: XADD %ts 2-1 f v
		b<
		c: XPENDING %ts g
		c: XPENDING %ts g - + 10 one
		a: XREADGROUP GROUP g one STREAMS %ts 0
		a: XREADGROUP GROUP g one BLOCK 10 STREAMS %ts >
		a: XACK %ts g 1-1 9-9
		a: XREADGROUP GROUP g one NOACK COUNT 5 STREAMS %ts >
		a: XCLAIM %ts g one 0 2-1 JUSTID
		a: XAUTOCLAIM %ts g two 0 0 COUNT 10
		a: XINFO GROUPS %ts
		a: XINFO STREAM %ts
		a: XGROUP DELCONSUMER %ts g two
		a: XGROUP SETID %ts g 0
		a: XREADGROUP GROUP g three COUNT 1 STREAMS %ts >`},
	{name: "groups: the stream goes while somebody waits", lines: `
		a: XGROUP CREATE %ts g $ MKSTREAM
		a> XREADGROUP GROUP g one BLOCK 0 STREAMS %ts >
		b: DEL %ts
		a<
		a: XGROUP CREATE %ts g $ MKSTREAM
		a> XREADGROUP GROUP g one BLOCK 0 STREAMS %ts >
		b: XGROUP DESTROY %ts g
		a<
		a: DEL %ts
		a: XGROUP CREATE %ts g $ MKSTREAM
		a> XREADGROUP GROUP g one BLOCK 0 STREAMS %ts >
		b: SET %ts v
		a<
		a: DEL %ts
		a: XGROUP CREATE %ts g $ MKSTREAM
		a> XREADGROUP GROUP g one BLOCK 0 STREAMS %ts >
		b: XADD %tother 5-1 f v
		b: XGROUP CREATE %tother g 0
		b: RENAME %tother %ts
		a<`},
	{name: "groups: the database is emptied while somebody waits", alone: true, lines: `
		a: XGROUP CREATE %ts g $ MKSTREAM
		a> XREADGROUP GROUP g one BLOCK 0 STREAMS %ts >
		b: FLUSHALL
		a<
		a: XGROUP CREATE %ts g $ MKSTREAM
		a> XREADGROUP GROUP g one BLOCK 0 STREAMS %ts >
		b: FLUSHDB
		a<
		a: XGROUP CREATE %ts g $ MKSTREAM
		a> XREADGROUP GROUP g one BLOCK 0 STREAMS %ts >
		b: SWAPDB 0 1
		a<
		a: FLUSHALL`},
	{name: "groups: mistakes", lines: `
		a: XREADGROUP GROUP g c STREAMS %ts >
		a: XREADGROUP GROUP g c BLOCK 0 STREAMS %ts >
		a: XADD %ts 1-1 f v
		a: XREADGROUP GROUP g c BLOCK 0 STREAMS %ts >
		a: XGROUP CREATE %ts g 0
		a: XGROUP CREATE %ts g 0
		a: XGROUP CREATE %tnone g 0
		a: XREADGROUP GROUP g c STREAMS %ts $
		a: XREADGROUP GROUP g c BLOCK 5 COUNT 0 STREAMS %ts >
		a: XREADGROUP BLOCK 5 STREAMS %ts >
		a: XREADGROUP GROUP g c STREAMS %ts
		a: XGROUP CREATECONSUMER %ts g c
		a: XGROUP CREATECONSUMER %ts nosuch c
		a: XGROUP HELP
		a: XINFO HELP
		a: XINFO CONSUMERS %ts nosuch
		a: XPENDING %ts nosuch
		a: XCLAIM %ts g
		a: XACK %ts g x`},
	{name: "ranges and trims", lines: `
		a: XADD %ts 1-0 a 1
		a: XADD %ts 2-0 b 2 c 3
		a: XADD %ts 3-0 d 4
		a: XRANGE %ts - +
		a: XRANGE %ts (1-0 + COUNT 1
		a: XREVRANGE %ts + - COUNT 2
		a: XRANGE %ts 1 2
		a: XRANGE %ts (18446744073709551615-18446744073709551615 +
		a: XTRIM %ts MINID 2
		a: XTRIM %ts MAXLEN ~ 1
		a: XTRIM %ts MAXLEN 1
		a: XINFO STREAM %ts FULL
		a: XDEL %ts 3-0 9-9
		a: XLEN %ts
		a: XSETID %ts 9-0 ENTRIESADDED 100 MAXDELETEDID 3-0
		a: XINFO STREAM %ts`},
	{name: "sorted sets that are waited for", lines: `
		a> BZPOPMIN %tz 0
		b: ZADD %tz 1 a 2 b 3 c
		a<
		b: ZRANGE %tz 0 -1 WITHSCORES
		b: DEL %tz
		a> BZPOPMAX %tz %ty 0
		b: MULTI
		b: ZADD %ty 1 a
		b: ZADD %tz 5 z
		b: ZINCRBY %tz 2 z
		b: EXEC
		a<
		b: DEL %tz %ty
		a> BZMPOP 0 2 %ty %tz MAX COUNT 10
		c> BZPOPMIN %tz 0
		b: ZADD %tz 1 a 2 b 3 c
		a<
		b: ZADD %tz 0.1 d
		c<
		a> BZPOPMIN %tz 0
		b: RPUSH %tz x
		b: DEL %tz
		b: ZADD %tsrc 17.5 m inf n
		b: ZUNIONSTORE %tz 1 %tsrc
		a<
		b: DEL %tz
		a> BZPOPMAX %tz 0
		b: RENAME %tsrc %tz
		a<
		b: DEL %tz
		a> BZPOPMIN %tz 0
		b: GEOADD %tz 13.361389 38.115556 Palermo
		a<
		a: BZPOPMIN %tz -1
		a: BZPOPMIN %tz 1e400
		a: BZPOPMIN %tz 0.01
		a: BZMPOP 0.01 1 %tz MIN
		a: BZMPOP 0.01 1 %tz MIN COUNT 0
		a: BZMPOP 0.01 1 %tz MID
		a: ZMPOP 1 %tz MIN
		a: ZPOPMIN %tz 3
		a: ZPOPMIN %tz
		a: ZADD %tz 1 a 2 b
		a: ZPOPMAX %tz
		a: ZPOPMAX %tz 5`},
}
