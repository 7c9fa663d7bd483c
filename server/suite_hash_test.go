package main

import "testing"

func TestSuiteHashes(t *testing.T) { compareTalks(t, hashTalks) }

var hashTalks = []conversation{
	{name: "fields", lines: `
		a: HSET %th f 1 g 2
		a: HSET %th f 3 h 4
		a: HSET %th f
		a: HSET %th f 1 g
		a: HMSET %th f 1 g
		a: HMSET %th f 5 i 6
		a: HSETNX %th f x
		a: HSETNX %th j x
		a: HGET %th f
		a: HGET %th none
		a: HMGET %th f none g
		a: HMGET %tnone f
		a: HGETALL %th
		a: HGETALL %tnone
		a: HKEYS %tnone
		a: HLEN %th
		a: HSTRLEN %th f
		a: HSTRLEN %th none
		a: HEXISTS %th f
		a: HEXISTS %th none
		a: HDEL %th f f none
		a: HDEL %th g h i j
		a: EXISTS %th
		a: SET %ts v
		a: HSET %ts f 1
		a: HGET %ts f
		a: HGETALL %ts
		a: HRANDFIELD %ts`},
	{name: "numbers", lines: `
		a: HSET %th n 9223372036854775807 x abc f 3.0e3 e ""
		a: HINCRBY %th n 1
		a: HINCRBY %th n -1
		a: HINCRBY %th x 1
		a: HINCRBY %th e 1
		a: HINCRBY %th new 5
		a: HINCRBY %th new 1.5
		a: HINCRBY %th new x
		a: HINCRBYFLOAT %th f 200
		a: HINCRBYFLOAT %th x 1
		a: HINCRBYFLOAT %th new 0.1
		a: HINCRBYFLOAT %th new nan
		a: HINCRBYFLOAT %th new inf
		a: HINCRBYFLOAT %th n 1
		a: HGET %th n`},
	{name: "random fields and scans", lines: `
		a: HSET %th a 1
		a: HRANDFIELD %th
		a: HRANDFIELD %th 5
		a: HRANDFIELD %th -3
		a: HRANDFIELD %th 5 WITHVALUES
		a: HRANDFIELD %th -2 WITHVALUES
		a: HRANDFIELD %th 0
		a: HRANDFIELD %th x
		a: HRANDFIELD %th 1 NOSUCH
		a: HRANDFIELD %th 9223372036854775807 WITHVALUES
		a: HRANDFIELD %tnone
		a: HRANDFIELD %tnone 3
		a: HSCAN %th 0
		a: HSCAN %th 0 MATCH b*
		a: HSCAN %th 0 COUNT 0
		a: HSCAN %th x
		a: OBJECT ENCODING %th
		a: HSET %th long "0123456789012345678901234567890123456789012345678901234567890123456789"
		a: OBJECT ENCODING %th`},
}
