package codec

import (
	"fmt"
	"slices"
	"unsafe"
)

// A delivery is what a parser made of some input: its verdicts in order.
type delivery struct {
	items []string // each request as AppendCommand writes it, or each reply's bytes
	rest  int      // bytes left after the last whole one
	err   string
}

func (d delivery) String() string { return fmt.Sprintf("%q rest=%d err=%q", d.items, d.rest, d.err) }

func (d delivery) equal(other delivery) bool {
	return slices.Equal(d.items, other.items) && d.rest == other.rest && d.err == other.err
}

// poison overwrites bytes that the parser must not read again.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xEE
	}
}

// elsewhere copies b to new memory without a byte to spare.
func elsewhere(b []byte) []byte {
	moved := make([]byte, len(b))
	copy(moved, b)
	return moved
}

// deliverRequests feeds input in pieces: piece(i) is the length of the i-th. Each
// call sees its bytes at another address, and the old ones are poisoned.
func deliverRequests(p *RequestParser, input []byte, lim *Limits, piece func(i int) int) (d delivery) {
	return deliver(input, piece, func(buf []byte) (int, error) {
		n, err := p.Parse(buf, lim)
		if n > 0 {
			d.items = append(d.items, describe(p, buf[:n]))
			p.Reset()
		}
		return n, err
	}, &d)
}

// deliverReplies does the same for replies.
func deliverReplies(s *ReplyScanner, input []byte, piece func(i int) int) (d delivery) {
	return deliver(input, piece, func(buf []byte) (int, error) {
		n, err := s.Scan(buf)
		if n > 0 {
			d.items = append(d.items, string(buf[:n]))
		}
		return n, err
	}, &d)
}

func deliver(input []byte, piece func(i int) int, find func(buf []byte) (int, error), d *delivery) delivery {
	var buf []byte
	for i, sent := 0, 0; ; i++ {
		for {
			n, err := find(buf)
			if n < 0 || n > len(buf) || (n > 0 && err != nil) {
				panic(fmt.Sprintf("found %d bytes of %d, %v", n, len(buf), err))
			}
			if err != nil {
				d.err = err.Error()
				return *d
			}
			buf = buf[n:]
			if n == 0 {
				break
			}
		}
		if sent == len(input) {
			d.rest = len(buf)
			return *d
		}
		more := min(max(piece(i), 1), len(input)-sent)
		old := buf
		buf = make([]byte, len(old)+more)
		copy(buf[copy(buf, old):], input[sent:])
		poison(old)
		sent += more
	}
}

// describe writes a whole request, and panics if its arguments do not lie where
// they should.
func describe(p *RequestParser, raw []byte) string {
	for _, arg := range p.Args() {
		if cap(arg) != len(arg) {
			panic("an argument that can be appended to without a copy")
		}
		if !p.Inline() && !within(arg, raw) {
			panic("an argument outside of its request")
		}
	}
	return string(AppendCommand(nil, p.Args()...))
}

// within reports whether inner lies in outer's memory.
func within(inner, outer []byte) bool {
	if len(inner) == 0 {
		return true
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(outer)))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(inner)))
	return from <= at && at+uintptr(len(inner)) <= from+uintptr(len(outer))
}

func wholly(int) int   { return 1 << 30 }
func bytewise(int) int { return 1 }
