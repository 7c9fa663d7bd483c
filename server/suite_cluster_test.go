package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// TestSuiteCluster holds conversations over all slots of three primaries that are, to a client, one
// node of a Cluster. The keys a, b and c lie on different primaries.
func TestSuiteCluster(t *testing.T) {
	parallel(t)
	alone, three := redistest.StartCluster(t, 1, 0, suiteServer...), redistest.StartCluster(t, 3, 0, suiteServer...)
	b := startBerth(t, clusterURL(three), "--enable-debug-command", "yes")
	nodes := []*redistest.Server{three.Node(0), three.Node(1), three.Node(2)}
	for _, resp := range []int{2, 3} {
		for _, c := range clusterTalks {
			t.Run(fmt.Sprintf("RESP%d %s", resp, c.name), func(t *testing.T) {
				compareTalk(t, c, slices.Concat(clusterDifferences, channelDifferences, b.differences()),
					&talk{addr: alone.Node(0).Addr(), servers: []*redistest.Server{alone.Node(0)}, resp: resp},
					&talk{addr: b.Addr(), servers: nodes, resp: resp})
			})
		}
	}
	t.Run("every command", func(t *testing.T) {
		spoken := map[string]bool{}
		for _, c := range clusterTalks {
			for line := range strings.Lines(c.lines) {
				parts := talkLine.FindStringSubmatch(strings.TrimSpace(line))
				if parts == nil {
					continue
				}
				if cmd, _ := commandOf((&talk{t: t}).words(parts[3])); cmd != nil {
					spoken[cmd.Name] = true
				}
			}
		}
		for _, cmd := range router.Builtin().Commands() {
			if cmd.Since == "" && len(cmd.Subcommands()) == 0 && !spoken[cmd.Name] {
				t.Errorf("no conversation over the cluster has %s", cmd.Name)
			}
		}
	})
}

var clusterTalks = []conversation{
	{name: "functions", lines: `
		a: FUNCTION FLUSH
		a: FUNCTION LOAD "#!lua name=lib\nredis.register_function('f', function(keys, args) return {keys, args} end)\nredis.register_function{function_name='r', callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}\nredis.register_function('w', function(keys, args) return redis.call('set', keys[1], args[1]) end)"
		a: FCALL f 0
		a: FCALL f 0 x y
		a: FCALL f 1 a x
		b: FCALL f 1 b x
		c: FCALL f 1 c x
		a: FCALL f 2 %ta %tb x
		a: FCALL f 2 a b x
		a: FCALL_RO f 1 a
		a: FCALL_RO r 1 a
		a: FCALL w 1 a va
		a: FCALL w 1 b vb
		a: FCALL w 1 c vc
		a: FCALL_RO r 1 a
		a: FCALL_RO r 1 b
		a: FCALL_RO r 1 c
		a: FCALL_RO r 2 b c
		a: FCALL nosuch 0
		a: FCALL nosuch 1 b
		a: FCALL f x
		a: FCALL f -1
		a: FCALL f 3 a
		a: FUNCTION LOAD "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
		a: FUNCTION LOAD REPLACE "#!lua name=lib\nredis.register_function('f', function() return 'new' end)"
		b: FCALL f 1 a
		b: FCALL f 1 b
		b: FCALL f 1 c
		a: FUNCTION LOAD "return 1"
		a: FUNCTION LOAD REPLACE
		a: FUNCTION LOAD NOSUCH "#!lua name=x\n return 1"
		a: FUNCTION LOAD "#!lua name=x\n return 1"
		a: FUNCTION LIST
		a: FUNCTION LIST LIBRARYNAME l* WITHCODE
		a: FUNCTION LIST LIBRARYNAME
		a: FUNCTION LIST NOSUCH
		a: FUNCTION STATS
		a: FUNCTION DUMP
		a: FUNCTION RESTORE bad
		a: FUNCTION RESTORE bad NOSUCH
		a: FUNCTION RESTORE bad FLUSH x
		a: FUNCTION DELETE nosuch
		a: FUNCTION DELETE lib
		b: FCALL f 1 a
		b: FCALL f 1 b
		b: FCALL f 1 c
		a: FUNCTION KILL
		a: FUNCTION FLUSH NOW
		a: FUNCTION FLUSH ASYNC
		a: FUNCTION FLUSH SYNC
		a: FUNCTION FLUSH SYNC x
		a: FUNCTION HELP
		a: FUNCTION NOSUCH
		a: FUNCTION
		a: DEL a
		a: DEL b
		a: DEL c`},
	{name: "scripts", lines: `
		a: SCRIPT FLUSH
		a: EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
		a: EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 b
		a: SCRIPT LOAD "return 1"
		a: EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
		a: EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 a
		b: EVALSHA E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 1 b
		c: EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 c
		c: EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 2 a c
		b: SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x
		a: SCRIPT EXISTS
		a: EVAL "return {KEYS, ARGV}" 0
		a: EVAL "return {KEYS, ARGV}" 0 x
		a: EVAL "return {KEYS, ARGV}" 1 a x
		a: EVAL "return {KEYS, ARGV}" 2 %ta %tb x
		a: EVAL "return {KEYS, ARGV}" 2 a b x
		a: EVAL "return {KEYS, ARGV}" 2 a
		a: EVAL "return {KEYS, ARGV}" x
		a: EVAL "return {KEYS, ARGV}" -1
		a: EVAL_RO "return {KEYS, ARGV}" 2 a b
		a: EVAL_RO "return redis.call('set', KEYS[1], 'x')" 1 a
		a: EVAL "return redis.call('set', KEYS[1], 'x')" 1 b
		a: EVAL_RO "return redis.call('get', KEYS[1])" 1 b
		a: EVAL "return redis.call('get', 'x' .. KEYS[1])" 1 b
		a: DEL b
		a: SCRIPT FLUSH ASYNC
		a: SCRIPT FLUSH SYNC
		a: SCRIPT FLUSH NOW
		b: EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 a
		a: SCRIPT KILL
		a: SCRIPT HELP
		a: SCRIPT NOSUCH
		a: SCRIPT DEBUG NO
		a: SCRIPT LOAD "return ("
		a: SCRIPT LOAD`},
	{name: "keys of several slots", lines: `
		a: SET a 1
		a: COPY a b
		a: RENAME a b
		a: RENAMENX a b
		a: SMOVE a b x
		a: LMOVE a b LEFT LEFT
		a: RPOPLPUSH a b
		a: BRPOPLPUSH a b 0
		a: BLMOVE a b LEFT LEFT 0
		a: BLPOP a b 0
		a: BRPOP a b 0
		a: BLMPOP 0 2 a b LEFT
		a: LMPOP 2 a b LEFT
		a: ZMPOP 2 a b MIN
		a: BZMPOP 0 2 a b MIN
		a: BZPOPMIN a b 0
		a: BZPOPMAX a b 0
		a: SDIFF a b
		a: SDIFFSTORE a b c
		a: SINTER a b
		a: SINTERCARD 2 a b
		a: SINTERSTORE a b c
		a: SUNION a b
		a: SUNIONSTORE a b c
		a: ZDIFF 2 a b
		a: ZDIFFSTORE a 1 b
		a: ZINTER 2 a b
		a: ZINTERCARD 2 a b
		a: ZINTERSTORE a 1 b
		a: ZUNION 2 a b
		a: ZUNIONSTORE a 1 b
		a: ZRANGESTORE a b 0 -1
		a: PFCOUNT a b
		a: PFMERGE a b
		a: BITOP AND a b c
		a: LCS a b
		a: MSETNX a 1 b 2
		a: SORT a STORE b
		a: SORT a BY b* GET c*
		a: SORT_RO a BY b*
		a: SORT a BY nosort GET #
		a: SORT_RO a
		a: GEOADD %tg 13.361389 38.115556 Palermo
		a: GEORADIUS %tg 15 37 200 km STORE b
		a: GEORADIUS %tg 15 37 200 km STORE %tb
		a: GEORADIUS %tg 15 37 200 km STOREDIST b
		a: GEORADIUS %tg 15 37 200 km STORE %tb STOREDIST b
		a: GEORADIUSBYMEMBER %tg Palermo 200 km STORE b
		a: GEORADIUSBYMEMBER %tg Palermo 200 km STORE %tc
		a: GEOSEARCHSTORE b %tg FROMMEMBER Palermo BYRADIUS 1 km
		a: GEOSEARCHSTORE %tb %tg FROMMEMBER Palermo BYRADIUS 1 km
		a: XREAD STREAMS a b 0 0
		a: XREAD BLOCK 0 STREAMS a b 0 0
		a: XREADGROUP GROUP g c STREAMS a b > >
		a: WATCH a b
		a: SSUBSCRIBE a b
		a: OBJECT ENCODING a
		a: MOVE a 1
		a: SWAPDB 0 1
		a: SELECT 1
		a: SELECT 0
		a: COPY %ta %tb DB 1
		a: MULTI
		a: GET a
		a: GET b
		a: EXEC
		a: MULTI
		a: GET a
		a: EXEC
		a: DEL a
		a: DEL %tg
		a: DEL %tb
		a: DEL %tc`},
	{name: "the whole keyspace", lines: `
		a: FLUSHALL
		a: DBSIZE
		a: RANDOMKEY
		a: KEYS *
		a: SCAN 0 COUNT 1000
		a: SET b 1
		a: DBSIZE
		a: RANDOMKEY
		a: KEYS *
		a: KEYS x*
		a: SET a 1
		a: SET c 1
		a: LPUSH lc{c} x
		a: DBSIZE
		a: EXISTS a
		a: FLUSHDB NOW
		a: FLUSHALL SYNC ASYNC
		a: FLUSHALL x
		a: DBSIZE x
		a: RANDOMKEY x
		a: KEYS
		a: SCAN
		a: SCAN x
		a: SCAN ""
		a: SCAN 18446744073709551616
		a: SCAN 0 COUNT 0
		a: SCAN 0 COUNT x
		a: SCAN 0 MATCH
		a: SCAN 0 TYPE nosuch COUNT 1000
		a: SCAN 0 NOSUCH x
		a: FLUSHDB ASYNC
		a: DBSIZE
		a: SET a 1
		a: FLUSHALL ASYNC
		a: FLUSHALL SYNC
		a: FLUSHDB SYNC
		a: FLUSHDB
		a: DBSIZE`},
	{name: "channels", lines: `
		b! SUBSCRIBE %tx
		b<
		c! SSUBSCRIBE a
		c<
		d! SSUBSCRIBE b
		d<
		d! SSUBSCRIBE c
		d<
		e! PSUBSCRIBE %tx*
		e<
		a: PUBSUB CHANNELS %t*
		a: PUBSUB SHARDCHANNELS
		a: PUBSUB SHARDCHANNELS b*
		a: PUBSUB NUMSUB %tx %ty
		a: PUBSUB NUMSUB
		a: PUBSUB SHARDNUMSUB a b c d
		a: PUBSUB SHARDNUMSUB
		a: PUBSUB NUMPAT
		a: PUBSUB NUMPAT x
		a: PUBSUB CHANNELS a b
		a: PUBSUB HELP
		a: PUBSUB NOSUCH
		a: PUBLISH %tx hello
		b<
		e<
		a: SPUBLISH a hello
		c<
		a: SPUBLISH b hello
		d<
		a: SPUBLISH c hello
		d<
		d! SUNSUBSCRIBE b
		d<
		d! SUNSUBSCRIBE c
		d<
		c! SUNSUBSCRIBE a
		c<
		b! UNSUBSCRIBE %tx
		b<
		e! PUNSUBSCRIBE
		e<
		f: SUNSUBSCRIBE
		f: UNSUBSCRIBE
		f: PUNSUBSCRIBE`},
	{name: "a key's own", lines: `
		a: SET a 12
		a: SET b abc
		a: LPUSH c x y
		a: OBJECT ENCODING a
		a: OBJECT ENCODING b
		a: OBJECT ENCODING c
		a: OBJECT REFCOUNT b
		a: OBJECT IDLETIME b
		a: OBJECT FREQ b
		a: OBJECT ENCODING d
		a: OBJECT HELP
		a: OBJECT NOSUCH a
		a: OBJECT
		a: MEMORY USAGE a
		a: MEMORY USAGE b
		a: MEMORY USAGE c SAMPLES 0
		a: MEMORY USAGE c SAMPLES x
		a: MEMORY USAGE d
		a: MEMORY USAGE
		a: DEBUG SLEEP 0
		a: DEBUG DIGEST-VALUE a
		a: DEBUG DIGEST-VALUE b
		a: DEBUG DIGEST-VALUE c
		a: DEBUG SDSLEN a
		a: DEBUG SDSLEN b
		a: DEBUG LISTPACK c
		a: DEBUG OBJECT d
		a: DEBUG OBJECT
		a: MULTI
		a: DEBUG DIGEST-VALUE a
		a: EXEC
		a: DEBUG NOSUCH
		a: DEBUG HELP
		a: DUMP a
		a: RESTORE d 0 bad
		a: RESTORE-ASKING d 0 bad
		a: TYPE a
		a: TYPE c
		a: TYPE d
		a: TTL b
		a: PTTL b
		a: EXPIRE b 100
		a: TTL b
		a: PEXPIRE b 100000
		a: PTTL b
		a: EXPIREAT b 33177117420
		a: EXPIRETIME b
		a: PEXPIREAT b 33177117420000
		a: PEXPIRETIME b
		a: PERSIST b
		a: TOUCH b
		a: UNLINK b
		a: EXISTS b
		a: DEL a
		a: DEL c`},
	{name: "what the server says of itself", lines: `
		a: SLOWLOG RESET
		a: SLOWLOG LEN
		a: SLOWLOG GET
		a: SLOWLOG GET -2
		a: SLOWLOG GET x
		a: SLOWLOG GET 1 2
		a: SLOWLOG HELP
		a: SLOWLOG NOSUCH
		a: LATENCY RESET
		a: LATENCY RESET a b
		a: LATENCY LATEST
		a: LATENCY HISTORY nosuch
		a: LATENCY GRAPH nosuch
		a: LATENCY DOCTOR
		a: LATENCY HISTOGRAM nosuch
		a: LATENCY HELP
		a: LATENCY NOSUCH
		a: MEMORY STATS
		a: MEMORY DOCTOR
		a: MEMORY PURGE
		a: MEMORY MALLOC-STATS
		a: MEMORY HELP
		a: MEMORY NOSUCH
		a: LASTSAVE
		a: ROLE
		a: TIME
		a: ECHO x
		a: PING
		a: PING x
		a: LOLWUT VERSION 5
		a: LOLWUT VERSION x
		a: LOLWUT
		a: WAIT 0 0
		a: WAIT x 0
		a: WAIT 0 -1
		a: WAIT 1 1
		a: CONFIG GET maxmemory
		a: CONFIG SET maxmemory-samples 5
		a: CONFIG SET maxmemory-samples 0
		a: CONFIG RESETSTAT
		a: CONFIG REWRITE
		a: CONFIG HELP
		a: INFO
		a: MONITOR x
		a: BGSAVE x
		a: BGSAVE SCHEDULE x
		a: SAVE x
		a: BGREWRITEAOF x
		a: PFDEBUG ENCODING a
		a: PFSELFTEST`},
	{name: "users", lines: `
		a: ACL WHOAMI
		a: ACL CAT nosuch
		a: ACL CAT
		a: ACL CAT hyperloglog
		a: ACL GENPASS
		a: ACL GENPASS 5
		a: ACL GENPASS x
		a: ACL GETUSER nosuch
		a: ACL GETUSER default
		a: ACL SETUSER bob on >pw ~a &* +@all -@dangerous
		a: ACL GETUSER bob
		b: ACL LIST
		b: ACL USERS
		b: ACL DRYRUN bob GET a
		b: ACL DRYRUN bob GET b
		b: ACL DRYRUN bob FLUSHALL
		b: ACL DRYRUN nosuch GET x
		b: AUTH bob pw
		b: ACL WHOAMI
		b: GET a
		b: GET b
		b: FLUSHALL
		b: DBSIZE
		b: KEYS *
		b: MGET a b
		b: ACL LIST
		b: HELLO
		b: HELLO 2 AUTH bob wrong
		b: AUTH bob wrong
		a: ACL LOG RESET
		a: ACL LOG
		a: ACL LOG x
		a: ACL SETUSER bob nosuch
		a: ACL DELUSER bob
		a: ACL DELUSER bob nosuch
		a: ACL DELUSER default
		a: ACL USERS
		a: ACL SAVE
		a: ACL LOAD
		a: ACL HELP
		a: ACL NOSUCH`},
	{name: "commands", lines: `
		a: COMMAND COUNT
		a: COMMAND INFO get set nosuch config|get
		a: COMMAND GETKEYS MSET a 1 b 2
		a: COMMAND GETKEYSANDFLAGS SORT a STORE b
		a: COMMAND LIST FILTERBY PATTERN xg*
		a: COMMAND DOCS get
		a: COMMAND HELP
		a: COMMAND`},
	{name: "the cluster", lines: `
		a: CLUSTER INFO
		a: CLUSTER NODES
		a: CLUSTER SLOTS
		a: CLUSTER SHARDS
		a: CLUSTER LINKS
		a: CLUSTER MYID
		a: CLUSTER KEYSLOT a
		a: CLUSTER COUNTKEYSINSLOT 15495
		a: SET a 1
		a: CLUSTER COUNTKEYSINSLOT 15495
		a: CLUSTER GETKEYSINSLOT 15495 10
		a: CLUSTER GETKEYSINSLOT 3300 10
		a: CLUSTER GETKEYSINSLOT 3300 -1
		a: CLUSTER GETKEYSINSLOT 16384 1
		a: CLUSTER COUNTKEYSINSLOT -1
		a: CLUSTER COUNTKEYSINSLOT x
		a: DEL a
		a: CLUSTER REPLICAS nosuch
		a: CLUSTER SLAVES nosuch
		a: CLUSTER COUNT-FAILURE-REPORTS nosuch
		a: CLUSTER HELP
		a: CLUSTER NOSUCH
		a: CLUSTER
		a: READONLY
		a: GET a
		a: READWRITE
		a: ASKING
		a: GET a`},
	{name: "what would change a cluster, with words too few", lines: `
		a: CLUSTER ADDSLOTS
		a: CLUSTER ADDSLOTSRANGE 1
		a: CLUSTER BUMPEPOCH x
		a: CLUSTER DELSLOTS
		a: CLUSTER DELSLOTSRANGE 1
		a: CLUSTER FAILOVER NOSUCH
		a: CLUSTER FLUSHSLOTS x
		a: CLUSTER FORGET
		a: CLUSTER MEET x
		a: CLUSTER REPLICATE
		a: CLUSTER RESET NOSUCH
		a: CLUSTER SAVECONFIG x
		a: CLUSTER SET-CONFIG-EPOCH
		a: CLUSTER SETSLOT
		a: REPLICAOF x
		a: SLAVEOF x
		a: FAILOVER x
		a: SHUTDOWN x
		a: MODULE
		a: MODULE LIST
		a: MODULE HELP
		a: MODULE LOAD
		a: MODULE LOADEX
		a: MODULE UNLOAD
		a: MIGRATE x
		a: REPLCONF x
		a: PSYNC x
		a: SYNC x`},
	{name: "clients", lines: `
		a: CLIENT ID
		a: CLIENT GETNAME
		a: CLIENT SETNAME me
		a: CLIENT INFO
		a: CLIENT LIST ID @a
		a: CLIENT KILL ID 123456
		a: CLIENT NO-EVICT on
		a: CLIENT NO-EVICT off
		a: CLIENT PAUSE 0
		a: CLIENT UNPAUSE
		a: CLIENT REPLY on
		a: CLIENT UNBLOCK 123456
		a: CLIENT GETREDIR
		a: CLIENT CACHING yes
		a: CLIENT TRACKINGINFO
		a: CLIENT TRACKING off
		a: CLIENT HELP
		a: CLIENT NOSUCH
		a: AUTH x
		a: RESET
		a! QUIT
		a<<`},
	{name: "transactions", lines: `
		a: WATCH a
		b: SET a 1
		a: MULTI
		a: GET a
		a: EXEC
		a: UNWATCH
		a: MULTI
		a: DISCARD
		a: DEL a`},
	{name: "strings of every slot", lines: `
		a: APPEND a x
		b: APPEND b x
		c: APPEND c x
		a: MGET a b c
		a: MSET %ta 1 %tb 2
		a: MGET %ta %tb
		a: SETEX a 100 5
		a: PSETEX b 100000 5
		a: SETNX c 1
		a: INCR a
		a: INCRBY b 10
		a: DECR a
		a: DECRBY b 3
		a: INCRBYFLOAT b 0.5
		a: INCRBYFLOAT c 1
		a: GETSET a new
		a: GETRANGE a 0 1
		a: SUBSTR a 1 -1
		a: SETRANGE a 5 x
		a: STRLEN a
		a: GETEX a EX 10
		a: GETDEL a
		a: GETDEL b
		a: GETDEL c
		a: GETDEL %ta
		a: GETDEL %tb
		a: SETBIT b 7 1
		a: GETBIT b 7
		a: BITCOUNT b
		a: BITPOS b 1
		a: BITFIELD b INCRBY u2 100 1
		a: BITFIELD_RO b GET u8 0
		a: DEL b
		a: PFADD c x y
		a: PFCOUNT c
		a: PFMERGE c c
		a: DEL c`},
	{name: "lists of every slot", lines: `
		a: RPUSH a 1 2 3 4 5 6 7 8 9
		a: RPUSHX b 1
		a: LPUSHX a 0
		a: LINDEX a 3
		a: LINSERT a BEFORE 3 x
		a: LLEN a
		a: LPOP a
		a: RPOP a 2
		a: LPOS a 3
		a: LRANGE a 0 -1
		a: LREM a 1 x
		a: LSET a 0 y
		a: LTRIM a 0 2
		a: LRANGE a 0 -1
		a: BLPOP a 0
		a: BLMPOP 0 1 a LEFT COUNT 10
		b> BRPOP b 0
		a: RPUSH b x
		b<
		b> BLMOVE c c LEFT RIGHT 0
		a: RPUSH c x
		b<
		a: DEL c`},
	{name: "sets of every slot", lines: `
		a: SADD b 1 2 3
		a: SCARD b
		a: SISMEMBER b 1
		a: SMISMEMBER b 1 9
		a: SMEMBERS b
		a: SRANDMEMBER b
		a: SSCAN b 0
		a: SREM b 1
		a: SPOP b
		a: SPOP b
		a: EXISTS b
		a: ZADD c 1 x 2 y 3 z 4 w
		a: ZCARD c
		a: ZCOUNT c 1 2
		a: ZINCRBY c 10 x
		a: ZLEXCOUNT c - +
		a: ZMSCORE c x y n
		a: ZSCORE c x
		a: ZRANK c x
		a: ZREVRANK c x
		a: ZRANGE c 0 -1 WITHSCORES
		a: ZREVRANGE c 0 -1
		a: ZRANGEBYSCORE c 2 3
		a: ZREVRANGEBYSCORE c 3 2
		a: ZRANGEBYLEX c - +
		a: ZREVRANGEBYLEX c + -
		a: ZRANDMEMBER c
		a: ZSCAN c 0
		a: ZREM c x
		a: ZPOPMIN c
		a: ZPOPMAX c
		a: ZREMRANGEBYSCORE c 0 1
		a: ZREMRANGEBYRANK c 5 6
		a: ZREMRANGEBYLEX c - +
		b> BZPOPMIN c 0
		a: ZADD c 1 x
		b<
		a: GEOADD a 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
		a: GEODIST a Palermo Catania
		a: GEOHASH a Palermo
		a: GEOPOS a Palermo nosuch
		a: GEORADIUS_RO a 15 37 200 km
		a: GEORADIUSBYMEMBER_RO a Palermo 200 km
		a: GEOSEARCH a FROMMEMBER Palermo BYRADIUS 200 km ASC WITHDIST
		a: DEL a`},
	{name: "hashes of every slot", lines: `
		a: HSET a f 1 g 2
		a: HMSET b f 1
		a: HSETNX b f 2
		a: HGET a f
		a: HMGET a f n
		a: HGETALL a
		a: HKEYS b
		a: HVALS b
		a: HLEN a
		a: HEXISTS a f
		a: HINCRBY a f 5
		a: HINCRBYFLOAT a f 0.5
		a: HSTRLEN a f
		a: HRANDFIELD a
		a: HSCAN a 0
		a: HDEL a f g
		a: HDEL b f`},
	{name: "streams of every slot", lines: `
		a: XADD a 1-1 f v
		a: XADD a 1-2 f v
		a: XLEN a
		a: XRANGE a - +
		a: XREVRANGE a + -
		a: XREAD STREAMS a 0
		a: XGROUP CREATE a g 0
		a: XGROUP CREATECONSUMER a g c
		a: XREADGROUP GROUP g c STREAMS a >
		a: XPENDING a g
		a: XCLAIM a g d 0 1-1
		a: XAUTOCLAIM a g d 0 0
		a: XACK a g 1-1
		a: XINFO STREAM a
		a: XINFO GROUPS a
		a: XINFO CONSUMERS a g
		a: XINFO HELP
		a: XGROUP SETID a g 0
		a: XGROUP DELCONSUMER a g c
		a: XGROUP DESTROY a g
		a: XGROUP HELP
		a: XSETID a 5-5
		a: XDEL a 1-1
		a: XTRIM a MAXLEN 0
		b> XREAD BLOCK 0 STREAMS a $
		a: XADD a 6-1 f v
		b<
		a: DEL a`},
}

// TestScanOverPrimariesFindsEveryKey: those that are there all the time, once each while no hash
// table changes its size; also when a primary has none, when there is none at all, and of a type or
// a pattern.
func TestScanOverPrimariesFindsEveryKey(t *testing.T) {
	parallel(t)
	three := redistest.StartCluster(t, 3, 0, suiteServer...)
	c := dial(t, startBerth(t, clusterURL(three)).Addr())
	scanned := func(words ...any) (keys []string) {
		t.Helper()
		for cursor := "0"; ; {
			got := c.Do(append([]any{"SCAN", cursor}, words...)...).([]any)
			for _, key := range got[1].([]any) {
				keys = append(keys, key.(string))
			}
			if cursor = got[0].(string); cursor == "0" {
				break
			}
			if _, err := strconv.ParseUint(cursor, 10, 64); err != nil {
				t.Fatalf("cursor %q", cursor)
			}
		}
		slices.Sort(keys)
		return keys
	}
	same := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d keys, want %d: %.200q", what, len(got), len(want), got)
		}
	}
	same("no keys", scanned(), nil)
	if got := c.Do("RANDOMKEY"); got != nil {
		t.Errorf("RANDOMKEY of no keys: %v", got)
	}
	c.Do("SET", "a", 1)
	for range 20 {
		if got := c.Do("RANDOMKEY"); got != "a" {
			t.Fatalf("RANDOMKEY of one key, two primaries are empty: %v", got)
		}
	}
	same("two primaries are empty", scanned(), []string{"a"})
	if got := fmt.Sprint(c.Do("SCAN", 0)); got != "[0 [a]]" {
		t.Errorf("SCAN 0 of one key: %s", got)
	}
	var strings, lists []string
	for i := range 500 {
		strings, lists = append(strings, fmt.Sprintf("s%03d", i)), append(lists, fmt.Sprintf("l%03d", i))
		c.Do("SET", strings[i], i)
		c.Do("RPUSH", lists[i], i)
	}
	strings = append([]string{"a"}, strings...)
	all := slices.Sorted(slices.Values(slices.Concat(strings, lists)))
	same("all", scanned("COUNT", 1000), all)
	same("in small steps", slices.Compact(scanned("COUNT", 3)), all)
	same("of a type", scanned("TYPE", "list", "COUNT", 100), lists)
	same("of a pattern", scanned("MATCH", "l*", "COUNT", 100), lists)
	same("of both", scanned("MATCH", "s*", "TYPE", "list"), nil)
	if got := c.Do("DBSIZE"); got != int64(len(all)) {
		t.Errorf("DBSIZE: %v", got)
	}
	c.Do("FLUSHALL")
	same("flushed", scanned(), nil)
}

func TestFunctionsAreRestoredOnEveryPrimary(t *testing.T) {
	parallel(t)
	three := redistest.StartCluster(t, 3, 0)
	c := dial(t, startBerth(t, clusterURL(three)).Addr())
	c.Do("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function(keys) return keys[1] end)")
	dump := c.Do("FUNCTION", "DUMP")
	onAll := func(want string) {
		t.Helper()
		for _, key := range []string{"a", "b", "c"} {
			if got := c.DoRaw("FCALL", "f", 1, key); !strings.HasPrefix(got, strings.ReplaceAll(want, "KEY", key)) {
				t.Errorf("FCALL f 1 %s: %q", key, got)
			}
		}
	}
	c.Do("FUNCTION", "FLUSH")
	onAll("-ERR Function not found")
	if got := c.Do("FUNCTION", "RESTORE", dump); got != "OK" {
		t.Fatal(got)
	}
	onAll("$1\r\nKEY\r\n")
	if got := c.DoRaw("FUNCTION", "RESTORE", dump); got != "-ERR Library lib already exists\r\n" {
		t.Errorf("again: %q", got)
	}
	for _, policy := range []string{"REPLACE", "FLUSH"} {
		if got := c.Do("FUNCTION", "RESTORE", dump, policy); got != "OK" {
			t.Errorf("%s: %v", policy, got)
		}
	}
	onAll("$1\r\nKEY\r\n")
	c.Do("FUNCTION", "DELETE", "lib")
	onAll("-ERR Function not found")
	sha := c.Do("SCRIPT", "LOAD", "return KEYS[1]").(string)
	for _, key := range []string{"a", "b", "c"} {
		if got := c.Do("EVALSHA", sha, 1, key); got != key {
			t.Errorf("EVALSHA %s: %v", key, got)
		}
	}
	if got := fmt.Sprint(c.Do("SCRIPT", "EXISTS", sha, "x")); got != "[1 0]" {
		t.Errorf("SCRIPT EXISTS: %s", got)
	}
}

func TestLogsOfAllPrimariesAreOne(t *testing.T) {
	parallel(t)
	three := redistest.StartCluster(t, 3, 0)
	b := startBerth(t, clusterURL(three))
	for _, resp := range []int{2, 3} {
		c := dial(t, b.Addr())
		c.Do("HELLO", resp)
		c.Do("CONFIG", "SET", "slowlog-log-slower-than", 0)
		c.Do("SLOWLOG", "RESET")
		for i := range 4 {
			for _, key := range []string{"a", "b", "c"} {
				c.Do("SET", key, fmt.Sprint("slow", i))
			}
		}
		c.Do("CONFIG", "SET", "slowlog-log-slower-than", -1)
		if got := c.DoRaw("SLOWLOG", "GET", -1); strings.Count(got, "slow") != 12 {
			t.Errorf("SLOWLOG GET -1: %q", got)
		}
		for count, words := range map[int][]any{10: {}, 3: {3}, 0: {0}} {
			if got := c.Do(append([]any{"SLOWLOG", "GET"}, words...)...).([]any); len(got) != count {
				t.Errorf("SLOWLOG GET %v: %v", words, got)
			}
		}
		c.Do("ACL", "LOG", "RESET")
		for _, node := range []int{0, 1, 2} {
			n := dial(t, three.Node(node).Addr())
			n.Do("AUTH", fmt.Sprint("nobody", node), "x")
		}
		if got := c.DoRaw("ACL", "LOG"); strings.Count(got, "nobody") != 3 {
			t.Errorf("ACL LOG: %q", got)
		}
		if got := c.Do("ACL", "LOG", 2).([]any); len(got) != 2 {
			t.Errorf("ACL LOG 2: %v", got)
		}
		if got := c.Do("ACL", "LOG", "RESET"); got != "OK" {
			t.Errorf("ACL LOG RESET: %v", got)
		}
		if got := c.DoRaw("ACL", "LOG"); got != "*0\r\n" {
			t.Errorf("ACL LOG RESET leaves %q", got)
		}
	}
}
