package main

import "testing"

func TestSuiteSets(t *testing.T) { compareTalks(t, setTalks) }

var setTalks = []conversation{
	{name: "members", lines: `
		a: SADD %ts a b a
		a: SADD %ts 1
		a: SADD %ts
		a: SCARD %ts
		a: SISMEMBER %ts a
		a: SISMEMBER %tnone a
		a: SMISMEMBER %ts a x b
		a: SMISMEMBER %tnone a
		a: SMEMBERS %ts
		a: SMEMBERS %tnone
		a: SREM %ts a x
		a: SMOVE %ts %td b
		a: SMOVE %ts %td x
		a: SMOVE %ts %ts 1
		a: SPOP %ts
		a: EXISTS %ts
		a: SPOP %ts
		a: SPOP %ts 3
		a: SPOP %ts -1
		a: SPOP %ts x
		a: SRANDMEMBER %td
		a: SRANDMEMBER %td 3
		a: SRANDMEMBER %td -3
		a: SRANDMEMBER %td 0
		a: SRANDMEMBER %td x
		a: SRANDMEMBER %tnone 2
		a: SSCAN %td 0 MATCH b* COUNT 10
		a: SET %tk v
		a: SADD %tk a
		a: SMOVE %td %tk b
		a: SINTER %td %tk
		a: OBJECT ENCODING %td
		a: SADD %ti 1 2 3
		a: OBJECT ENCODING %ti
		a: SADD %ti x
		a: OBJECT ENCODING %ti`},
	{name: "of several", lines: `
		a: SADD %ta 1 2 3 4
		a: SADD %tb 2 4 6
		a: SADD %tc 4
		a: SINTER %ta %tb %tc
		a: SINTER %ta %tnone
		a: SUNION %tb %tc
		a: SUNION %tnone
		a: SDIFF %ta %tb
		a: SDIFF %ta %ta
		a: SINTERCARD 2 %ta %tb
		a: SINTERCARD 2 %ta %tb LIMIT 1
		a: SINTERCARD 2 %ta %tb LIMIT -1
		a: SINTERCARD 0 %ta
		a: SINTERCARD 3 %ta %tb
		a: SINTERCARD x %ta
		a: SINTERSTORE %td %ta %tb
		a: SMEMBERS %td
		a: SDIFFSTORE %td %ta %tb
		a: SUNIONSTORE %td %ta %tnone
		a: SCARD %td
		a: SINTERSTORE %td %ta %tnone
		a: EXISTS %td
		a: SORT %ta DESC
		a: SORT %ta LIMIT 1 2 GET # GET %tw_*`},
}
