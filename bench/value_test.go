//go:build linux

package main

import (
	"fmt"
	"testing"
)

func TestKeysAreSixteenBytesAndDiffer(t *testing.T) {
	for _, k := range []uint32{0, 1, 42, 99999, 4294967295} {
		got := string(appendKey([]byte("x"), k))
		if want := fmt.Sprintf("xkey:%012d", k); got != want || len(got) != keySize+1 {
			t.Errorf("key %d is %q, want %q", k, got, want)
		}
	}
}

func TestEveryPartOfAValueContainsItsKey(t *testing.T) {
	for _, size := range []int{16, 17, 31, 32, 33, 64, 1000, 70000} {
		v := appendValue(nil, 7, size)
		if len(v) != size {
			t.Fatalf("a value of %d bytes has %d", size, len(v))
		}
		if !isValue(v, 7, 0) {
			t.Errorf("a value of %d bytes is not recognised", size)
		}
		if isValue(v, 8, 0) {
			t.Errorf("a value of %d bytes is accepted for another key", size)
		}
		for _, cut := range []int{1, 15, 16, size / 2, size - 1} {
			if cut < size && (!isValue(v[:cut], 7, 0) || !isValue(v[cut:], 7, cut)) {
				t.Errorf("a value of %d bytes is not recognised in pieces of %d and the rest", size, cut)
			}
		}
		for _, at := range []int{0, size / 2, size - 1} {
			v[at] ^= 1
			if isValue(v, 7, 0) {
				t.Errorf("a value of %d bytes with a wrong byte at %d is accepted", size, at)
			}
			v[at] ^= 1
		}
	}
}

func TestOnlyTheExactReplyIsAKeysReply(t *testing.T) {
	s := newShape(20)
	good := string(s.appendBulk(nil, 3))
	if good != "$20\r\nkey:000000000003key:\r\n" {
		t.Fatalf("the reply is %q", good)
	}
	if !s.isReply([]byte(good), 3) {
		t.Error("the right reply is not recognised")
	}
	for _, bad := range []string{"$-1\r\n", "$0\r\n\r\n", "+OK\r\n", string(newShape(16).appendBulk(nil, 3)), string(s.appendBulk(nil, 4))} {
		if s.isReply([]byte(bad), 3) {
			t.Errorf("%q is accepted for key 3", bad)
		}
	}
}
