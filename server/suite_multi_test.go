package main

import "testing"

func TestSuiteTransactions(t *testing.T) { compareTalks(t, multiTalks) }

var multiTalks = []conversation{
	{name: "basics", lines: `
		a: MULTI
		a: SET %tk 1
		a: INCR %tk
		a: LPUSH %tk x
		a: GET %tk
		a: EXEC
		a: EXEC
		a: DISCARD
		a: MULTI
		a: MULTI
		a: WATCH %tk
		a: SET %tk 9
		a: DISCARD
		a: GET %tk
		a: MULTI
		a: EXEC`},
	{name: "EXECABORT and its causes", lines: `
		a: MULTI
		a: SET %tk 1
		a: NOSUCH x
		a: EXEC
		a: MULTI
		a: SET %tk
		a: SET %tk 1
		a: EXEC
		a: MULTI
		a: CONFIG NOSUCH
		a: EXEC
		a: MULTI
		a: OBJECT NOSUCH %tk
		a: EXEC
		a: MULTI
		a: XGROUP CREATE %tk
		a: EXEC
		a: WATCH %tk
		a: MULTI
		a: NOSUCH
		b: SET %tk 2
		a: EXEC
		a: GET %tk
		a: MULTI
		a: EXEC x
		a: EXEC
		a: MULTI
		a: EVAL "return redis.call('nosuch')" 0
		a: EVAL "(" 0
		a: EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
		a: FCALL nosuch 0
		a: EXEC`},
	{name: "watched keys that change", lines: `
		a: WATCH %tk %tl
		b: SET %tk 1
		a: MULTI
		a: PING
		a: EXEC
		a: WATCH %tk
		a: SET %tk 2
		a: MULTI
		a: PING
		a: EXEC
		a: WATCH %tk
		b: GET %tk
		a: MULTI
		a: PING
		a: EXEC
		a: WATCH %tl
		b: RPUSH %tl a
		b: DEL %tl
		a: MULTI
		a: PING
		a: EXEC
		a: WATCH %tk
		a: UNWATCH
		b: SET %tk 3
		a: MULTI
		a: PING
		a: EXEC
		a: WATCH %tk
		a: MULTI
		a: DISCARD
		b: SET %tk 4
		a: MULTI
		a: GET %tk
		a: EXEC
		a: WATCH %tk %tk %tk
		b: SET %tk 4
		a: MULTI
		a: GET %tk
		a: EXEC`},
	{name: "watched keys that only seem to change", lines: `
		b: SADD %ts 1 2 3
		a: WATCH %ts
		b: SADD %ts 1
		b: SREM %ts nothing
		b: SORT %ts
		a: MULTI
		a: PING
		a: EXEC
		a: WATCH %ts
		b: SORT %ts STORE %tx
		b: SORT %tnone STORE %ts
		a: MULTI
		a: PING
		a: EXEC
		a: WATCH %tempty
		b: SUNIONSTORE %tempty %tnone
		b: DEL %tempty
		b: ZINTERSTORE %tempty 1 %tnone
		b: BITOP NOT %tempty %tnone
		a: MULTI
		a: PING
		a: EXEC`},
	{name: "expiry and WATCH", lines: `
		a: SET %tk v
		a: EXPIRE %tk 1000
		a: WATCH %tk
		b: EXPIRE %tk 2000
		a: MULTI
		a: PING
		a: EXEC
		a: SET %tk v
		a: WATCH %tk
		b: PEXPIRE %tk -1
		a: MULTI
		a: PING
		a: EXEC
		a: SET %tk v PX 30
		a: WATCH %tk
		a: BLPOP %tnone 0.05
		a: MULTI
		a: EXISTS %tk
		a: EXEC
		a: SET %tk v
		a: WATCH %tk
		b: PERSIST %tk
		b: TOUCH %tk
		a: MULTI
		a: PING
		a: EXEC`},
	{name: "keys that have expired but are still there", alone: true, lines: `
		a: DEBUG SET-ACTIVE-EXPIRE 0
		a: SET %tk v PX 1
		a: BLPOP %tnone 0.01
		a: WATCH %tk
		a: MULTI
		a: PING
		a: EXEC
		a: SET %tk v PX 1
		a: BLPOP %tnone 0.01
		a: WATCH %tk
		b: DEL %tk
		a: MULTI
		a: PING
		a: EXEC
		a: SET %tk v PX 1
		a: BLPOP %tnone 0.01
		a: WATCH %tk
		b: FLUSHALL
		a: MULTI
		a: PING
		a: EXEC
		a: DEBUG SET-ACTIVE-EXPIRE 1`},
	{name: "FLUSHALL, FLUSHDB and SWAPDB under a WATCH", alone: true, lines: `
		a: SET %tk 30
		a: WATCH %tk
		b: FLUSHALL
		a: MULTI
		a: PING
		a: EXEC
		a: WATCH %tk
		b: FLUSHDB
		a: MULTI
		a: PING
		a: EXEC
		a: SET %tk 1
		a: WATCH %tk
		b: SELECT 1
		b: FLUSHDB
		a: MULTI
		a: PING
		a: EXEC
		b: SET %tk 2
		a: WATCH %tk
		b: SWAPDB 0 1
		a: MULTI
		a: PING
		a: EXEC
		a: GET %tk
		a: WATCH %tnone
		b: SWAPDB 0 1
		a: MULTI
		a: PING
		a: EXEC
		a: FLUSHALL`},
	{name: "RESET and QUIT", lines: `
		a: MULTI
		a: SET %tk 1
		a: RESET
		a: EXEC
		a: WATCH %tk
		a: RESET
		b: SET %tk 2
		a: MULTI
		a: GET %tk
		a: EXEC
		a: MULTI
		a! QUIT
		a<<`},
	{name: "a transaction and nothing in between", lines: `
		a: MULTI
		a: INCR %tk
		b: INCR %tk
		a: INCR %tk
		a: EXEC
		a: MULTI
		a: RPUSH %tl 1
		a: BLPOP %tl 0
		a: XADD %ts 1-1 f v
		a: XREAD BLOCK 0 STREAMS %ts 0
		a: OBJECT ENCODING %tl
		a: TYPE %tl
		a: CLIENT GETNAME
		a: CLIENT SETNAME me
		a: CLIENT GETNAME
		a: ECHO x
		a: COMMAND COUNT
		a: EXEC
		a: CLIENT GETNAME`},
	{name: "scripts inside", lines: `
		a: MULTI
		a: EVAL "return redis.call('set', KEYS[1], ARGV[1])" 1 %tk v
		a: EVAL "return redis.error_reply('My Err')" 0
		a: EVAL_RO "return redis.call('set', KEYS[1], 'x')" 1 %tk
		a: EVAL "return {1, {2, 'x'}, false, true}" 0
		a: GET %tk
		a: EXEC
		a: EVAL "redis.call('multi')" 0
		a: EVAL "redis.call('watch', 'x')" 0
		a: EVAL "redis.call('exec')" 0`},
}
