package main

import "testing"

func TestSuiteKeys(t *testing.T) { compareTalks(t, keyTalks) }

var keyTalks = []conversation{
	{name: "times", lines: `
		a: SET %tk v
		a: EXPIRE %tk 100 XX
		a: EXPIRE %tk 100 NX
		a: EXPIRE %tk 50 GT
		a: EXPIRE %tk 200 GT
		a: EXPIRE %tk 100 LT
		a: EXPIRE %tk 1 NOSUCH
		a: EXPIRE %tk 1 NX XX
		a: EXPIRE %tk x
		a: EXPIRE %tk 9223372036854775807
		a: EXPIRE %tnone 10
		a: TTL %tk
		a: PTTL %tk
		a: TTL %tnone
		a: PERSIST %tk
		a: PERSIST %tk
		a: TTL %tk
		a: EXPIREAT %tk 33177117420
		a: EXPIRETIME %tk
		a: PEXPIRETIME %tk
		a: PEXPIREAT %tk 33177117420123
		a: PEXPIRETIME %tk
		a: EXPIRETIME %tnone
		a: EXPIRE %tk -1
		a: EXISTS %tk
		a: SET %tk v
		a: PEXPIREAT %tk 1
		a: RENAME %tk %tl
		a: SET %ta v EX 100
		a: RENAME %ta %tb
		a: TTL %tb
		a: COPY %tb %tc
		a: TTL %tc
		a: SET %tb w
		a: TTL %tb`},
	{name: "sorting", lines: `
		a: RPUSH %tl 3 1 2 10
		a: SORT %tl
		a: SORT %tl DESC LIMIT 0 2
		a: SORT %tl ALPHA
		a: SORT %tl LIMIT x 1
		a: SORT %tl NOSUCH
		a: SORT %tl STORE %td
		a: LRANGE %td 0 -1
		a: SORT %tnone STORE %td
		a: EXISTS %td
		a: RPUSH %ts a b
		a: SORT %ts
		a: SORT %ts ALPHA DESC
		a: SORT %ts BY nosort
		a: SORT_RO %tl
		a: SORT_RO %tl STORE %td
		a: SADD %tset 3 1 2
		a: SORT %tset
		a: ZADD %tz 1 c 2 a 3 b
		a: SORT %tz ALPHA
		a: SORT %tz BY nosort DESC
		a: SET %tk v
		a: SORT %tk`},
	{name: "dumps", lines: `
		a: SET %tk v
		a: DUMP %tk
		a: DUMP %tnone
		a: RESTORE %tr 0 "\x00\x01v\n\x00\x02\xda\x0c\x86\xdc\x9e\xcf\xb1\xfd"
		a: RESTORE %tr 0 ""
		a: RESTORE %tk 0 x
		a: RESTORE %tr x y
		a: RESTORE %tr 0 y NOSUCH
		a: RESTORE %tr 0 y IDLETIME -1
		a: RESTORE %tr 0 y FREQ 256
		a: RESTORE %tr 0 y REPLACE ABSTTL
		a: OBJECT ENCODING %tk
		a: TYPE %tk
		a: TYPE %tnone
		a: UNLINK %tk %tnone %tk
		a: TOUCH %tk
		a: RANDOMKEY x
		a: RENAME %tnone %tx
		a: RENAMENX %tnone %tx`},
}
