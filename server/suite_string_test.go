package main

import "testing"

func TestSuiteStrings(t *testing.T) { compareTalks(t, stringTalks) }

var stringTalks = []conversation{
	{name: "SET and its options", lines: `
		a: SET %tk v NX
		a: SET %tk w NX
		a: SET %tk w XX GET
		a: SET %tn w XX
		a: SET %tn w NX GET
		a: SET %tn w NX GET
		a: SET %tk v EX 100
		a: TTL %tk
		a: SET %tk v KEEPTTL
		a: TTL %tk
		a: SET %tk v
		a: TTL %tk
		a: SET %tk v EX 0
		a: SET %tk v EX -1
		a: SET %tk v PX x
		a: SET %tk v EX 9223372036854775807
		a: SET %tk v EXAT 33177117420
		a: EXPIRETIME %tk
		a: SET %tk v EX 1 PX 1
		a: SET %tk v EX 1 KEEPTTL
		a: SET %tk v NOSUCH
		a: SET %tk
		a: LPUSH %tl x
		a: SET %tl v GET
		a: SET %tl v
		a: GETSET %tl w
		a: GETDEL %tl
		a: GETDEL %tl
		a: GETEX %tk PERSIST
		a: GETEX %tk EX 100
		a: GETEX %tk NOSUCH
		a: GETEX %tk EX
		a: GETEX %tnone EX 10
		a: SETEX %tk 0 v
		a: PSETEX %tk -1 v
		a: SETNX %tk x
		a: MSETNX %tm 1 %tk 2
		a: MSETNX %tm 1 %to 2
		a: MSET %ta
		a: MSET %ta 1 %ta 2
		a: MGET %ta %tnone %tm`},
	{name: "ranges and numbers", lines: `
		a: SET %tk "Hello World"
		a: GETRANGE %tk 0 4
		a: GETRANGE %tk -5 -1
		a: GETRANGE %tk 5 2
		a: GETRANGE %tk x 1
		a: GETRANGE %tnone 0 -1
		a: SETRANGE %tk 6 Redis
		a: SETRANGE %tnew 5 x
		a: GET %tnew
		a: SETRANGE %tk -1 x
		a: SETRANGE %tk 536870912 x
		a: SETRANGE %tnone 0 ""
		a: STRLEN %tk
		a: STRLEN %tnone
		a: APPEND %tk !
		a: SET %tn 9223372036854775807
		a: INCR %tn
		a: DECR %tn
		a: DECRBY %tn -9223372036854775808
		a: INCRBY %tn x
		a: INCR %tk
		a: SET %tp " 1"
		a: INCR %tp
		a: SET %tp 010
		a: INCR %tp
		a: SET %tf 3.0e3
		a: INCRBYFLOAT %tf 200
		a: INCRBYFLOAT %tf nan
		a: INCRBYFLOAT %tf 1e400
		a: INCRBYFLOAT %tf x
		a: INCRBYFLOAT %tk 1
		a: SET %tx ohmytext
		a: SET %ty mynewtext
		a: LCS %tx %ty
		a: LCS %tx %ty LEN
		a: LCS %tx %ty IDX
		a: LCS %tx %ty IDX MINMATCHLEN 4 WITHMATCHLEN
		a: LCS %tx %ty LEN IDX
		a: LCS %tx %tnone
		a: OBJECT ENCODING %tn
		a: OBJECT ENCODING %tk`},
	{name: "bits", lines: `
		a: SETBIT %tb 7 1
		a: SETBIT %tb 7 0
		a: SETBIT %tb -1 1
		a: SETBIT %tb 4294967296 1
		a: SETBIT %tb 1 2
		a: GETBIT %tb 7
		a: GETBIT %tb 100
		a: GETBIT %tb x
		a: SET %tb foobar
		a: BITCOUNT %tb
		a: BITCOUNT %tb 1 1
		a: BITCOUNT %tb 5 30 BIT
		a: BITCOUNT %tb 0 -5 BYTE
		a: BITCOUNT %tb 1
		a: BITCOUNT %tb 1 2 NOSUCH
		a: BITCOUNT %tnone
		a: BITPOS %tb 1
		a: BITPOS %tb 0 2
		a: BITPOS %tb 1 -2 -1
		a: BITPOS %tb 0 9 15 BIT
		a: BITPOS %tb 2
		a: BITPOS %tnone 0
		a: SET %tc abcdef
		a: BITOP AND %td %tb %tc
		a: GET %td
		a: BITOP OR %td %tb %tnone
		a: BITOP XOR %td %tb %tc
		a: GET %td
		a: BITOP NOT %td %tb
		a: BITOP NOT %td %tb %tc
		a: BITOP NOSUCH %td %tb
		a: BITOP AND %td %tnone
		a: EXISTS %td
		a: BITFIELD %tf SET u8 0 255 GET u8 0
		a: BITFIELD %tf INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1
		a: BITFIELD %tf OVERFLOW FAIL INCRBY u8 0 1
		a: BITFIELD %tf OVERFLOW NOSUCH
		a: BITFIELD %tf GET u64 0
		a: BITFIELD %tf GET i64 #1
		a: BITFIELD %tf SET i5 x 1
		a: BITFIELD %tf
		a: BITFIELD_RO %tf GET u8 0
		a: BITFIELD_RO %tf SET u8 0 1`},
	{name: "hyperloglogs", lines: `
		a: PFADD %ta
		a: PFADD %ta
		a: PFADD %ta a b c
		a: PFADD %ta a
		a: PFCOUNT %ta
		a: PFADD %tb c d
		a: PFCOUNT %ta %tb %tnone
		a: PFMERGE %tc %ta %tb
		a: PFCOUNT %tc
		a: PFMERGE %td
		a: SET %ts v
		a: PFADD %ts x
		a: PFCOUNT %ts
		a: PFMERGE %tc %ts
		a: PFDEBUG ENCODING %ta
		a: PFDEBUG TODENSE %ta
		a: PFDEBUG ENCODING %ta
		a: PFDEBUG NOSUCH %ta
		a: TYPE %ta
		a: STRLEN %tb`},
}
