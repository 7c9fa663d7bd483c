package router

import "bytes"

// Slots is the number of hash slots of a Redis Cluster.
const Slots = 16384

// Slot returns the hash slot of a key: CRC-16/XMODEM of the key, or of its hash tag when it has
// one, modulo 16384.
//
// The hash tag is the text between the first '{' and the first '}' after it, unless it is empty.
// Source: Redis Cluster specification, "Hash tags".
func Slot(key []byte) uint16 {
	if open := bytes.IndexByte(key, '{'); open >= 0 {
		if n := bytes.IndexByte(key[open+1:], '}'); n > 0 {
			key = key[open+1 : open+1+n]
		}
	}
	return crc16(key) & (Slots - 1)
}

// crcTables[k][b] is the contribution of byte b to the checksum when k more bytes follow it. This
// is "slicing by 4": four table loads that are independent, instead of four that wait for each
// other.
var crcTables = makeCRCTables()

func makeCRCTables() *[4][256]uint16 {
	const polynomial = 0x1021 // x^16 + x^12 + x^5 + 1, highest bit first, no reflection, initial value 0
	var t [4][256]uint16
	for b := range t[0] {
		crc := uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ polynomial
			} else {
				crc <<= 1
			}
		}
		t[0][b] = crc
	}
	for k := 1; k < len(t); k++ {
		for b := range t[k] {
			prev := t[k-1][b]
			t[k][b] = prev<<8 ^ t[0][prev>>8]
		}
	}
	return &t
}

func crc16(p []byte) uint16 {
	t := crcTables
	var crc uint16
	for len(p) >= 4 {
		crc = t[3][byte(crc>>8)^p[0]] ^ t[2][byte(crc)^p[1]] ^ t[1][p[2]] ^ t[0][p[3]]
		p = p[4:]
	}
	for _, b := range p {
		crc = crc<<8 ^ t[0][byte(crc>>8)^b]
	}
	return crc
}
