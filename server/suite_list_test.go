package main

import "testing"

func TestSuiteLists(t *testing.T) { compareTalks(t, listTalks) }

var listTalks = []conversation{
	{name: "first come, first served", lines: `
		a> BLPOP %tl 0
		b> BLPOP %tl 0
		c> BRPOP %tl 0
		d: RPUSH %tl 1 2 3 4
		a<
		b<
		c<
		d: LRANGE %tl 0 -1`},
	{name: "an element for several keys goes by the order of the pushes", lines: `
		a> BLPOP %tx %ty %tz 0
		b: MULTI
		b: RPUSH %tz 1
		b: RPUSH %tx 2
		b: EXEC
		a<
		b: LRANGE %tx 0 -1
		b: LRANGE %tz 0 -1`},
	{name: "keys are looked at in their order", lines: `
		b: RPUSH %ty 1
		b: RPUSH %tz 2
		a: BLPOP %tx %ty %tz 0
		a: BRPOP %tz %ty 0
		a: BLPOP %tx %tx %tx 0.01`},
	{name: "what a transaction takes back wakes nobody", lines: `
		a> BLPOP %tl 0
		b: MULTI
		b: RPUSH %tl 1
		b: DEL %tl
		b: EXEC
		b: MULTI
		b: LPUSH %tl a
		b: LPOP %tl
		b: LPUSH %tl b
		b: EXEC
		a<`},
	{name: "a push of another type does not wake, its end does", lines: `
		a> BLPOP %tl 0
		b: SADD %tl x
		b: MULTI
		b: DEL %tl
		b: RPUSH %tl y
		b: EXEC
		a<
		a: SADD %tl x
		a: BLPOP %tl 0
		a: BLMOVE %tl %tm LEFT LEFT 0
		a: BLMPOP 0 1 %tl LEFT`},
	{name: "a chain of moves", lines: `
		a> BLMOVE %tx %ty RIGHT LEFT 0
		b> BRPOPLPUSH %ty %tz 0
		c> BLPOP %tz 0
		d: RPUSH %tx foo
		a<
		b<
		c<
		d: EXISTS %tx %ty %tz`},
	{name: "a circle of moves", lines: `
		a> BRPOPLPUSH %tx %ty 0
		b> BRPOPLPUSH %ty %tx 0
		d: RPUSH %tx foo
		a<
		b<
		d: LRANGE %tx 0 -1
		d: LRANGE %ty 0 -1
		a: BLMOVE %tx %tx LEFT RIGHT 0
		a: LRANGE %tx 0 -1`},
	{name: "a move to a wrong type fails and the next is served", lines: `
		d: SET %td x
		a> BLMOVE %tl %td LEFT LEFT 0
		b> BLMOVE %tl %tok LEFT LEFT 0
		d: RPUSH %tl foo
		a<
		b<
		d: LRANGE %tok 0 -1
		d: LRANGE %tl 0 -1
		a> BRPOPLPUSH %tl %td 0
		d: RPUSH %tl bar
		a<
		d: LRANGE %tl 0 -1`},
	{name: "pushing by other means", lines: `
		a> BLPOP %tl 0
		b: RPUSH %tother 3 1 2
		b: RENAME %tother %tl
		a<
		b: DEL %tl
		a> BLPOP %tl 0
		b: SADD %ts 9 7 8
		b: SORT %ts STORE %tl
		a<
		b: DEL %tl
		a> BLPOP %tl 0
		b: EVAL "redis.call('rpush', KEYS[1], 'x', 'y') return redis.call('llen', KEYS[1])" 1 %tl
		a<
		b: DEL %tl
		a> BLPOP %tl 0
		b: RPUSH %tcopied c1 c2
		b: COPY %tcopied %tl
		a<
		b: DEL %tl
		a> BLPOP %tl 0
		b: RESTORE %tl 0 "\x12\x01\x02\r\r\x00\x00\x00\x02\x00\x81a\x02\x81b\x02\xff\n\x00h\xeb\n\x89\x13A\xbb\xb1"
		a<
		b: DEL %tl
		a> BLPOP %tl 0
		b: LPUSHX %tl x
		b: LINSERT %tl BEFORE a b
		b: LMOVE %tcopied %tl LEFT RIGHT
		a<`},
	{name: "a transaction that pushes and pops many keys", lines: `
		a> BLPOP %tx 0
		b> BLMPOP 0 2 %ty %tx LEFT COUNT 2
		c: MULTI
		c: RPUSH %tx 1 2
		c: RPUSH %ty 3
		c: LPOP %tx
		c: EXEC
		a<
		b<
		c: EXISTS %tx %ty`},
	{name: "timeouts", lines: `
		a: BLPOP %tl -1
		a: BLPOP %tl x
		a: BLPOP %tl 99999999999999999999
		a: BLPOP %tl 9223372036854775807
		a: BLPOP %tl 1e308
		a: BLPOP %tl inf
		a: BLPOP %tl nan
		a: BLPOP %tl 0x1p3x
		a: BLPOP %tl 0.01
		a: BLPOP %tl 1e-3
		a: BLPOP %tl 0.00000001
		a: BRPOPLPUSH %tl %tm -1
		a: BRPOPLPUSH %tl %tm 0.01
		a: BLMOVE %tl %tm LEFT RIGHT 0.01
		a: BLMOVE %tl %tm LEFT RIGHT -0.01
		a: BLMOVE %tl %tm UP RIGHT 0
		a: BLMPOP 0.01 1 %tl LEFT
		a: BLMPOP -0.01 1 %tl LEFT
		a: BLMPOP 0 0 %tl LEFT
		a: BLMPOP 0 a %tl LEFT
		a: BLMPOP 0 1 %tl LEFT COUNT 0
		a: BLMPOP 0 1 %tl LEFT COUNT 1 COUNT 2
		a: BLMPOP 0 1 %tl
		a: BLMPOP 0 2 %tl LEFT
		a: BLMPOP 0 1 %tl UP`},
	{name: "blocking twice on one connection", lines: `
		a! BLPOP %tl 0
		a! BLPOP %tl 0
		a! LLEN %tl
		b: RPUSH %tl 1 2 3
		a<
		a<
		a<`},
	{name: "unblocking a client", lines: `
		a> BLPOP %tl 0
		b: CLIENT UNBLOCK @a
		a<
		a> BLMOVE %tl %tm LEFT LEFT 0
		b: CLIENT UNBLOCK @a TIMEOUT
		a<
		a> BLMPOP 0 1 %tl LEFT
		b: CLIENT UNBLOCK @a ERROR
		a<
		b: CLIENT UNBLOCK @a
		a> BZPOPMIN %tz 0
		b: CLIENT UNBLOCK @a ERROR
		a<
		a> XREAD BLOCK 0 STREAMS %ts $
		b: CLIENT UNBLOCK @a
		a<
		a: GET %tk
		b: CLIENT UNBLOCK 99999999
		b: CLIENT UNBLOCK x
		b: CLIENT UNBLOCK @a never`},
	{name: "a client that leaves takes nothing", lines: `
		a> BLPOP %tl 0
		b> BLPOP %tl 0
		a.
		c: RPUSH %tl 1
		b<
		c: LLEN %tl`},
	{name: "a client that is killed takes nothing", lines: `
		a> BLPOP %tl 0
		b: CLIENT KILL ID @a
		a<<
		b: RPUSH %tl 1
		b: LRANGE %tl 0 -1`},
	{name: "blocking commands in scripts and transactions do not block", lines: `
		a: MULTI
		a: BLPOP %tl 0
		a: BLMOVE %tl %tm LEFT LEFT 0
		a: BRPOPLPUSH %tl %tm 0
		a: BLMPOP 0 1 %tl LEFT
		a: BZPOPMIN %tz 0
		a: BZMPOP 0 1 %tz MIN
		a: XREAD BLOCK 0 STREAMS %ts $
		a: EXEC
		a: EVAL "return redis.call('blpop', KEYS[1], 0)" 1 %tl
		a: EVAL "return redis.call('blmpop', 0, 1, KEYS[1], 'left')" 1 %tl`},
	{name: "pops of several, and their nothing", lines: `
		a: RPUSH %tl a b c d e
		a: LPOP %tl 0
		a: LPOP %tl 2
		a: RPOP %tl -1
		a: RPOP %tl 9
		a: RPOP %tl 9
		a: RPOP %tl
		a: LMPOP 1 %tl LEFT
		a: RPUSH %tl a b c
		a: LMPOP 2 %tm %tl RIGHT COUNT 2
		a: LPOS %tl a RANK 0
		a: LPOS %tl a RANK -1 COUNT 0 MAXLEN 10
		a: LINSERT %tl BEFORE a z
		a: LSET %tl 9 x
		a: LSET %tnone 0 x
		a: OBJECT ENCODING %tl
		a: LPUSH %tl
		a: LTRIM %tl 1 0
		a: EXISTS %tl`},
	{name: "emptied while somebody waits", alone: true, lines: `
		a: RPUSH %tl 1
		b> BLPOP %tm 0
		a: FLUSHALL
		a: RPUSH %tm x
		b<
		b> BLPOP %tm 0
		a: SELECT 1
		a: RPUSH %tm y
		a: SWAPDB 0 1
		b<
		a: SELECT 0
		a: EXISTS %tm
		a> BLPOP %tm 0
		b: SELECT 9
		b: RPUSH %tm z
		b: MOVE %tm 0
		a<`},
}
