package main

import "testing"

func TestSuiteSortedSets(t *testing.T) { compareTalks(t, zsetTalks) }

var zsetTalks = []conversation{
	{name: "scores", lines: `
		a: ZADD %tz 1 a 2 b
		a: ZADD %tz NX 5 a 3 c
		a: ZADD %tz XX CH 5 a 9 x
		a: ZADD %tz GT CH 4 a 6 b
		a: ZADD %tz LT 1 b
		a: ZADD %tz INCR 1.5 a
		a: ZADD %tz NX INCR 1 a
		a: ZADD %tz NX XX 1 a
		a: ZADD %tz GT LT 1 a
		a: ZADD %tz INCR 1 a 2 b
		a: ZADD %tz x a
		a: ZADD %tz nan a
		a: ZADD %tz 1
		a: ZADD %tz inf i -inf j
		a: ZINCRBY %tz -inf i
		a: ZINCRBY %tz 1 a
		a: ZSCORE %tz a
		a: ZSCORE %tz none
		a: ZMSCORE %tz a none i
		a: ZMSCORE %tnone a
		a: ZCARD %tz
		a: ZRANK %tz b
		a: ZREVRANK %tz b
		a: ZRANK %tz none
		a: ZREM %tz i j none
		a: ZCOUNT %tz -inf (6
		a: ZCOUNT %tz x 1
		a: SET %ts v
		a: ZADD %ts 1 a
		a: ZADD %tz 0.1 f 1e20 g 1e-7 h 123456789012345678 k
		a: ZRANGE %tz 0 -1 WITHSCORES`},
	{name: "ranges", lines: `
		a: ZADD %tz 1 a 2 b 3 c 4 d
		a: ZRANGE %tz 0 -1
		a: ZRANGE %tz 1 2 REV WITHSCORES
		a: ZRANGE %tz (1 3 BYSCORE
		a: ZRANGE %tz +inf -inf BYSCORE REV LIMIT 1 2 WITHSCORES
		a: ZRANGE %tz 0 -1 LIMIT 0 1
		a: ZRANGE %tz - + BYLEX WITHSCORES
		a: ZRANGE %tz a b BYLEX
		a: ZRANGE %tz x 1
		a: ZRANGE %tz 0 1 NOSUCH
		a: ZRANGEBYSCORE %tz -inf +inf WITHSCORES LIMIT 1 2
		a: ZRANGEBYSCORE %tz (1 (3
		a: ZRANGEBYSCORE %tz 1 2 LIMIT 0
		a: ZREVRANGEBYSCORE %tz 4 2
		a: ZREVRANGE %tz 0 1 WITHSCORES
		a: ZRANGESTORE %td %tz 1 2
		a: ZRANGESTORE %td %tz 1 2 WITHSCORES
		a: ZRANGE %td 0 -1 WITHSCORES
		a: ZRANGESTORE %td %tnone 0 -1
		a: EXISTS %td
		a: ZADD %tl 0 a 0 b 0 c
		a: ZRANGEBYLEX %tl [a (c
		a: ZRANGEBYLEX %tl a c
		a: ZREVRANGEBYLEX %tl + - LIMIT 0 2
		a: ZLEXCOUNT %tl - +
		a: ZREMRANGEBYLEX %tl [a [b
		a: ZREMRANGEBYRANK %tz 0 0
		a: ZREMRANGEBYSCORE %tz (2 3
		a: ZPOPMIN %tz
		a: ZPOPMAX %tz 5
		a: ZPOPMIN %tz 0
		a: ZPOPMIN %tz -1
		a: ZPOPMIN %tz
		a: ZADD %tz 1 a 2 b
		a: ZMPOP 1 %tz MIN COUNT 1
		a: ZMPOP 2 %tnone %tz MAX COUNT 9
		a: ZMPOP 1 %tz MIN
		a: ZMPOP 0 %tz MIN
		a: ZMPOP 1 %tz NOSUCH
		a: ZRANDMEMBER %tl 3 WITHSCORES
		a: ZRANDMEMBER %tl -2
		a: ZRANDMEMBER %tnone`},
	{name: "of several", lines: `
		a: ZADD %ta 1 x 2 y
		a: ZADD %tb 10 y 20 z
		a: SADD %ts x z
		a: ZUNION 2 %ta %tb WITHSCORES
		a: ZUNION 2 %ta %ts WITHSCORES
		a: ZUNION 2 %ta %tb WEIGHTS 2 3 AGGREGATE MAX WITHSCORES
		a: ZUNION 2 %ta %tb WEIGHTS 2
		a: ZUNION 2 %ta %tb WEIGHTS x 1
		a: ZUNION 2 %ta %tb AGGREGATE NOSUCH
		a: ZINTER 2 %ta %tb WITHSCORES
		a: ZDIFF 2 %ta %tb WITHSCORES
		a: ZINTERCARD 2 %ta %tb LIMIT 1
		a: ZUNIONSTORE %td 2 %ta %tb
		a: ZRANGE %td 0 -1 WITHSCORES
		a: ZINTERSTORE %td 2 %ta %tnone
		a: EXISTS %td
		a: ZDIFFSTORE %td 2 %ta %tb
		a: ZUNIONSTORE %td 0 %ta
		a: ZUNIONSTORE %td 3 %ta
		a: ZUNIONSTORE %td x %ta
		a: ZDIFF 0 %ta`},
	{name: "places", lines: `
		a: GEOADD %tg 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
		a: GEOADD %tg NX 1 1 Palermo
		a: GEOADD %tg XX CH 13.5 38 Palermo
		a: GEOADD %tg 200 1 x
		a: GEOADD %tg 1 91 x
		a: GEOADD %tg 1
		a: GEODIST %tg Palermo Catania
		a: GEODIST %tg Palermo Catania km
		a: GEODIST %tg Palermo Catania parsec
		a: GEODIST %tg Palermo none
		a: GEOHASH %tg Palermo none
		a: GEOPOS %tg Palermo none
		a: GEOSEARCH %tg FROMLONLAT 15 37 BYRADIUS 200 km ASC
		a: GEOSEARCH %tg FROMLONLAT 15 37 BYBOX 400 400 km DESC WITHCOORD WITHDIST WITHHASH COUNT 1
		a: GEOSEARCH %tg FROMMEMBER none BYRADIUS 1 km
		a: GEOSEARCH %tg FROMLONLAT 15 37
		a: GEOSEARCH %tg BYRADIUS 1 km
		a: GEOSEARCH %tg FROMLONLAT 15 37 BYRADIUS -1 km
		a: GEOSEARCH %tg FROMLONLAT 15 37 BYRADIUS 200 km COUNT 0
		a: GEOSEARCH %tg FROMLONLAT 15 37 BYRADIUS 200 km ANY
		a: GEOSEARCHSTORE %td %tg FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST
		a: ZRANGE %td 0 -1
		a: GEOSEARCHSTORE %td %tg FROMLONLAT 0 0 BYRADIUS 1 m
		a: EXISTS %td
		a: GEORADIUS %tg 15 37 200 km WITHDIST ASC
		a: GEORADIUS %tg 15 37 200 km STORE %td
		a: GEORADIUS %tg 15 37 200 km WITHDIST STORE %td
		a: GEORADIUS_RO %tg 15 37 200 km STORE %td
		a: GEORADIUSBYMEMBER %tg Palermo 200 km ASC
		a: GEORADIUSBYMEMBER %tg none 200 km
		a: GEORADIUS %tnone 15 37 200 km
		a: GEORADIUS %tg 15 37 200 parsec`},
}
