//go:build linux

package main

import (
	"bytes"
	"strconv"
)

// Keys and values of the load. A value repeats the text of its key, so a reply that belongs to
// another key is recognised.

// keySize is the length of every key in bytes. A shorter value could not contain its key.
const keySize = 16

// appendKey appends the text of key number k: "key:" and twelve digits.
func appendKey(dst []byte, k uint32) []byte {
	dst = append(dst, "key:000000000000"...)
	for i := len(dst) - 1; k > 0; i-- {
		dst[i] = byte('0' + k%10)
		k /= 10
	}
	return dst
}

// keyNumber returns the number in the text of a key.
func keyNumber(key []byte) uint32 {
	var k uint32
	for _, c := range key[len("key:"):keySize] {
		k = k*10 + uint32(c-'0')
	}
	return k
}

// appendValue appends the value of a key: the key's text, repeated up to size bytes.
func appendValue(dst []byte, k uint32, size int) []byte {
	begin := len(dst)
	dst = appendKey(dst, k)
	for len(dst)-begin < size {
		dst = append(dst, dst[begin:min(len(dst), begin+size-(len(dst)-begin))]...)
	}
	return dst[:begin+size]
}

// isValue reports whether b is the part of a key's value that begins at offset.
func isValue(b []byte, k uint32, offset int) bool {
	var room [2 * keySize]byte
	text := appendKey(appendKey(room[:0], k), k)
	text = text[offset%keySize:][:keySize]
	if len(b) <= keySize {
		return bytes.Equal(b, text[:len(b)])
	}
	// The beginning is correct and every byte equals the byte 16 bytes before it.
	return bytes.Equal(b[:keySize], text) && bytes.Equal(b[keySize:], b[:len(b)-keySize])
}

// shape is the common form of requests and replies with values of one size.
type shape struct {
	size   int
	header []byte // "$64\r\n"
}

// newShape returns the shape of values of size bytes.
func newShape(size int) *shape {
	return &shape{size: size, header: []byte("$" + strconv.Itoa(size) + "\r\n")}
}

// isReply reports whether raw is the reply with the value of a key.
func (s *shape) isReply(raw []byte, k uint32) bool {
	head := len(s.header)
	return len(raw) == head+s.size+2 && bytes.Equal(raw[:head], s.header) && isValue(raw[head:head+s.size], k, 0)
}

// appendBulk appends a key's value as a bulk string.
func (s *shape) appendBulk(dst []byte, k uint32) []byte {
	dst = append(dst, s.header...)
	dst = appendValue(dst, k, s.size)
	return append(dst, '\r', '\n')
}

// appendKeyBulk appends a key as a bulk string.
func appendKeyBulk(dst []byte, k uint32) []byte {
	dst = append(dst, "$16\r\n"...)
	dst = appendKey(dst, k)
	return append(dst, '\r', '\n')
}
