package main

import "testing"

func TestSuiteIntrospection(t *testing.T) { compareTalks(t, introspectionTalks) }

var introspectionTalks = []conversation{
	{name: "settings that are the nodes'", alone: true, lines: `
		a: CONFIG GET save
		a: CONFIG GET maxmemory
		a: CONFIG SET maxmemory-policy allkeys-lru
		b: CONFIG GET maxmemory-policy
		a: CONFIG SET maxmemory-policy noeviction maxmemory 1gb
		b: CONFIG GET maxmemory-p*
		b: CONFIG GET MaxMemory nosuch maxmemory
		a: CONFIG SET maxmemory 0 maxmemory-samples 9
		a: CONFIG SET maxmemory-samples 0
		a: CONFIG SET maxmemory-policy nosuch
		a: CONFIG SET nosuch 1
		a: CONFIG SET maxmemory 1 maxmemory 2
		a: CONFIG SET maxmemory 1 nosuch 2
		a: CONFIG GET maxmemory
		a: CONFIG SET maxmemory
		a: CONFIG SET maxmemory 1 hz
		a: CONFIG SET maxmemory-samples 5
		a: CONFIG SET appendonly maybe
		a: CONFIG SET save "900 1"
		a: CONFIG GET save
		a: CONFIG SET save ""
		a: CONFIG SET daemonize yes
		a: CONFIG SET dir /tmp
		a: CONFIG SET hash-max-ziplist-entries 7
		a: CONFIG GET hash-max-*-entries
		a: HSET %th 1 1 2 2 3 3 4 4 5 5 6 6 7 7 8 8
		a: OBJECT ENCODING %th
		a: CONFIG SET hash-max-listpack-entries 128
		a: CONFIG REWRITE
		a: CONFIG RESETSTAT`},
	{name: "events of keys", alone: true, lines: `
		a: CONFIG SET notify-keyspace-events KEA
		a: CONFIG GET notify-keyspace-events
		b! PSUBSCRIBE __key*__:%t*
		b<
		a: SET %tk v
		b<
		b! PSUBSCRIBE __keyevent@0__:lpush
		b<
		a: LPUSH %tl x
		b<
		b<
		a: DEL %tk
		b<
		a: CONFIG SET notify-keyspace-events ""
		a: LPUSH %tl x
		b! PUNSUBSCRIBE __keyevent@0__:lpush __key*__:%t*
		b<
		b<`},
	{name: "memory is full", alone: true, lines: `
		a: CONFIG SET maxmemory 1
		a: SET %tk v
		a: EVAL "return redis.call('set', KEYS[1], 'x')" 1 %tk
		a: EVAL "return redis.call('get', KEYS[1])" 1 %tk
		a: LPUSH %tl x
		a: BRPOPLPUSH %tl %tm 10
		a: BLMOVE %tl %tm LEFT LEFT 10
		a: GET %tk
		a: CONFIG SET maxmemory 0
		a: SET %tk v`},
	{name: "OBJECT, TYPE and DEBUG", alone: true, lines: `
		a: SET %tk 12
		a: OBJECT ENCODING %tk
		a: APPEND %tk x
		a: OBJECT ENCODING %tk
		a: OBJECT REFCOUNT %tk
		a: OBJECT IDLETIME %tk
		a: OBJECT FREQ %tk
		a: OBJECT ENCODING %tnone
		a: OBJECT HELP
		a: OBJECT NOSUCH %tk
		a: OBJECT ENCODING
		a: TYPE %tk
		a: DEBUG SLEEP 0
		a: DEBUG RELOAD
		a: GET %tk
		a: DEBUG SET-ACTIVE-EXPIRE 1
		a: DEBUG JMAP
		a: DEBUG NOSUCH
		a: DEBUG STRINGMATCH-LEN 10 *
		a: DEBUG ERROR "My words"
		a: DEBUG PROTOCOL STRING
		a: DEBUG PROTOCOL INTEGER
		a: DEBUG PROTOCOL DOUBLE
		a: DEBUG PROTOCOL NULL
		a: DEBUG PROTOCOL ARRAY
		a: DEBUG PROTOCOL SET
		a: DEBUG PROTOCOL MAP
		a: DEBUG PROTOCOL BIGNUM
		a: DEBUG PROTOCOL VERBATIM
		a: DEBUG PROTOCOL TRUE
		a: DEBUG PROTOCOL FALSE
		a: DEBUG DIGEST-VALUE %tk`},
	{name: "attributes and pushes from DEBUG", alone: true, lines: `
		a! DEBUG PROTOCOL ATTRIB
		a<
		a: PING`},
	{name: "COMMAND", lines: `
		a: COMMAND COUNT
		a: COMMAND INFO get set nosuch config|get
		a: COMMAND GETKEYS GET a
		a: COMMAND GETKEYS MSET a 1 b 2
		a: COMMAND GETKEYS EVAL "x" 2 a b c
		a: COMMAND GETKEYS SORT a BY w STORE b
		a: COMMAND GETKEYS XREADGROUP GROUP g c STREAMS a b 1 2
		a: COMMAND GETKEYS ZUNIONSTORE d 2 a b
		a: COMMAND GETKEYS MIGRATE h 1 "" 0 10 KEYS a b
		a: COMMAND GETKEYS PING
		a: COMMAND GETKEYS NOSUCH x
		a: COMMAND GETKEYS GET
		a: COMMAND GETKEYS
		a: COMMAND GETKEYSANDFLAGS SET a b
		a: COMMAND GETKEYSANDFLAGS LMOVE a b LEFT LEFT
		a: COMMAND GETKEYSANDFLAGS SORT a STORE b
		a: COMMAND GETKEYSANDFLAGS PING
		a: COMMAND LIST FILTERBY ACLCAT hyperloglog
		a: COMMAND LIST FILTERBY PATTERN xg*
		a: COMMAND LIST FILTERBY MODULE nosuch
		a: COMMAND LIST FILTERBY NOSUCH x
		a: COMMAND LIST FILTERBY ACLCAT nosuch
		a: COMMAND LIST nosuch
		a: COMMAND DOCS get
		a: COMMAND DOCS nosuch
		a: COMMAND DOCS config|get
		a: COMMAND NOSUCH
		a: COMMAND INFO
		a: COMMAND LIST`},
	{name: "CLIENT", lines: `
		a: CLIENT GETNAME
		a: CLIENT SETNAME me
		a: CLIENT GETNAME
		a: CLIENT SETNAME "no spaces"
		a: CLIENT SETNAME ""
		a: CLIENT GETNAME
		a: CLIENT LIST TYPE nosuch
		a: CLIENT LIST ID 1234567
		a: CLIENT LIST ID x
		a: CLIENT LIST TYPE pubsub
		a: CLIENT KILL ID 1234567
		a: CLIENT KILL 1.1.1.1:1
		a: CLIENT KILL ID x
		a: CLIENT KILL TYPE nosuch
		a: CLIENT KILL USER nosuchuser
		a: CLIENT KILL SKIPME maybe
		a: CLIENT KILL ADDR 1.1.1.1:1 LADDR 2.2.2.2:2
		a: CLIENT NO-EVICT on
		a: CLIENT NO-EVICT off
		a: CLIENT NO-EVICT maybe
		a: CLIENT REPLY on
		a: CLIENT REPLY maybe
		a: CLIENT PAUSE x
		a: CLIENT PAUSE -1
		a: CLIENT PAUSE 0 NOSUCH
		a: CLIENT PAUSE 0 WRITE
		a: CLIENT UNPAUSE
		a: CLIENT GETREDIR
		a: CLIENT CACHING YES
		a: CLIENT TRACKINGINFO
		a: CLIENT NOSUCH
		a: CLIENT
		a: CLIENT ID x`},
	{name: "killing clients", lines: `
		a: PING
		b: CLIENT KILL ID @a
		a<<
		b: PING
		b! PING
		b: CLIENT KILL ID @b SKIPME yes
		c: MULTI
		c: SET %tk v
		b: CLIENT KILL ID @c
		c<<
		b: GET %tk`},
	{name: "pausing", lines: `
		a: CLIENT PAUSE 100000 WRITE
		a: GET %tk
		b! SET %tk v
		c! EVAL "return 1" 0
		d! PUBLISH %tch x
		a: EVAL_RO "return 1" 0
		a: CLIENT UNPAUSE
		b<
		c<
		d<
		a: GET %tk
		a: CLIENT PAUSE 50 ALL
		a: GET %tk`},
	{name: "HELLO", alone: true, lines: `
		a: HELLO 2
		a: HELLO 3
		a: HELLO 4
		a: HELLO x
		a: HELLO 3 SETNAME me
		a: CLIENT GETNAME
		a: HELLO 3 SETNAME "a b"
		a: HELLO 3 NOSUCH
		a: HELLO 2 AUTH default x
		a: HELLO 3 AUTH nobody x
		a: HELLO 2
		a: HGETALL %th
		a: HSET %th f v
		a: HGETALL %th
		a: HELLO 3
		a: HGETALL %th
		a: SADD %ts x
		a: SMEMBERS %ts
		a: ZADD %tz 1.5 x
		a: ZRANGE %tz 0 -1 WITHSCORES
		a: ZSCORE %tz x
		a: INCRBYFLOAT %tf 1.5
		a: LOLWUT VERSION 5
		a: RESET
		a: HGETALL %th`},
	{name: "ACL", alone: true, lines: `
		a: ACL WHOAMI
		a: ACL CAT nosuch
		a: ACL CAT
		a: ACL CAT hyperloglog
		a: ACL GETUSER nosuch
		a: ACL GETUSER default
		a: ACL SETUSER bob on >pw ~%t* &* +@all -@dangerous
		a: ACL LIST
		a: ACL USERS
		a: ACL DRYRUN bob GET %tk
		a: ACL DRYRUN bob GET other
		a: ACL DRYRUN bob FLUSHALL
		a: ACL DRYRUN nosuch GET x
		b: AUTH bob pw
		b: ACL WHOAMI
		b: GET %tk
		b: GET other
		b: FLUSHALL
		b: CONFIG GET maxmemory
		b: CONFIG SET maxmemory 0
		b: CONFIG RESETSTAT
		b: CONFIG REWRITE
		b: CLIENT LIST
		b: INFO
		b: EVAL "return redis.call('get', 'other')" 0
		b: AUTH bob wrong
		a: ACL LOG COUNT
		a: ACL LOG RESET
		a: ACL LOG
		a: ACL SETUSER bob nosuch
		a: ACL DELUSER bob
		a: ACL DELUSER default
		a: ACL HELP
		a: ACL SAVE
		a: ACL LOAD
		a: ACL NOSUCH
		a: AUTH x
		a: AUTH a b c`},
	{name: "what the server has seen", alone: true, lines: `
		a: SLOWLOG RESET
		a: SLOWLOG LEN
		a: SLOWLOG GET
		a: SLOWLOG GET -1
		a: SLOWLOG GET -2
		a: SLOWLOG GET x
		a: SLOWLOG HELP
		a: CONFIG SET slowlog-log-slower-than 0
		a: ECHO x
		a: GET %tk
		a: CONFIG SET slowlog-log-slower-than 10000
		a: SLOWLOG RESET
		a: LATENCY RESET
		a: LATENCY LATEST
		a: LATENCY HISTORY nosuch
		a: LATENCY GRAPH nosuch
		a: LATENCY DOCTOR
		a: LATENCY HELP
		a: LATENCY HISTOGRAM nosuch
		a: MEMORY USAGE %tnone
		a: MEMORY USAGE
		a: MEMORY HELP
		a: MEMORY NOSUCH
		a: MEMORY PURGE
		a: MEMORY DOCTOR
		a: MEMORY STATS
		a: LASTSAVE
		a: ROLE
		a: TIME
		a: DBSIZE
		a: LOLWUT
		a: MODULE LIST
		a: CLUSTER INFO
		a: READONLY
		a: PUBSUB HELP
		a: BGSAVE x`},
	{name: "databases", alone: true, lines: `
		a: SELECT 1
		a: SET %tk one
		a: SELECT 0
		a: GET %tk
		a: MOVE %tk 1
		a: SET %tk zero
		a: MOVE %tk 1
		a: MOVE %tk 0
		a: COPY %tk %tc DB 2
		a: SELECT 2
		a: GET %tc
		a: SWAPDB 0 2
		a: GET %tk
		a: SWAPDB 0 99
		a: SWAPDB x 0
		a: SELECT 99
		a: SELECT x
		a: FLUSHALL x
		a: FLUSHALL SYNC
		a: FLUSHDB ASYNC
		a: DBSIZE
		a: RANDOMKEY
		a: KEYS *`},
	{name: "scans", lines: `
		a: SCAN x
		a: SCAN 0 COUNT 0
		a: SCAN 0 MATCH
		a: SCAN 0 TYPE
		a: SCAN 0 NOSUCH x
		a: SSCAN %tnone 0
		a: HSCAN %tnone 0 COUNT 5
		a: ZSCAN %tnone x
		a: HSET %th a 1
		a: HSCAN %th 0
		a: SADD %ts 1
		a: SSCAN %ts 0 MATCH *
		a: ZADD %tz 1 a
		a: ZSCAN %tz 0
		a: ZSCAN %th 0`},
	{name: "keys", lines: `
		a: SET %tk v
		a: RENAME %tk %tk
		a: RENAME %tnone %tk
		a: RENAMENX %tk %tj
		a: COPY %tj %tk
		a: COPY %tj %tk
		a: COPY %tj %tk REPLACE
		a: EXPIRE %tk 100
		a: TTL %tk
		a: EXPIRE %tk 50 GT
		a: EXPIRE %tk 50 NX
		a: EXPIRE %tk 50 LT
		a: EXPIRE %tk 50 NX GT
		a: EXPIRE %tk 9223372036854775807
		a: PEXPIREAT %tk 1
		a: EXISTS %tk
		a: DUMP %tj
		a: RESTORE %tk 0 bad
		a: RESTORE %tk -1 x
		a: SORT %tj
		a: SORT %tnone BY nosort GET # ALPHA LIMIT 0 1
		a: TOUCH %tj %tnone
		a: PERSIST %tj
		a: EXPIRETIME %tj
		a: GETEX %tj EX 0
		a: SET %tj v EX 0
		a: SET %tj v NX XX
		a: SET %tj v GET KEEPTTL`},
}
