package router

import (
	"bytes"
	"testing"
)

func TestSlotHashesTheHashTagOnly(t *testing.T) {
	for _, c := range []struct {
		key  string
		slot uint16
	}{
		{"", 0}, {"123456789", 0x31c3 & 16383}, {"foo", 12182}, {"{foo}bar", 12182}, {"x{foo}{bar}", 12182},
		{"foo{}{bar}", bitwise([]byte("foo{}{bar}"))}, {"{", bitwise([]byte("{"))},
		{"}foo{", bitwise([]byte("}foo{"))}, {"{foo", bitwise([]byte("{foo"))}, {"foo{{bar}}zap", bitwise([]byte("{bar"))},
	} {
		if got := Slot([]byte(c.key)); got != c.slot {
			t.Errorf("%q: slot %d, want %d", c.key, got, c.slot)
		}
	}
}

// bitwise is the slot of a key without a tag, by the definition of CRC-16/XMODEM.
func bitwise(p []byte) uint16 {
	var crc uint16
	for _, b := range p {
		crc ^= uint16(b) << 8
		for range 8 {
			carry := crc & 0x8000
			crc <<= 1
			if carry != 0 {
				crc ^= 0x1021
			}
		}
	}
	return crc % Slots
}

func FuzzSlotIsTheChecksumOfTheTag(f *testing.F) {
	for _, s := range []string{"", "a", "abc", "abcd", "abcdefghi", "{a}", "{}a", "a{b}c", "}{", "{{}}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		hashed := key
		if _, behind, ok := bytes.Cut(key, []byte("{")); ok {
			if tag, _, ok := bytes.Cut(behind, []byte("}")); ok && len(tag) > 0 {
				hashed = tag
			}
		}
		if got, want := Slot(key), bitwise(hashed); got != want {
			t.Fatalf("%q: slot %d, want %d", key, got, want)
		}
	})
}

func BenchmarkSlot(b *testing.B) {
	for _, key := range []string{"key:000000000042", "user:{1000}:followers", "a-key-of-sixty-four-bytes-which-is-rather-long-for-a-key-but-fine"} {
		k := []byte(key)
		b.Run(key[:8], func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(k)))
			for b.Loop() {
				Slot(k)
			}
		})
	}
}
