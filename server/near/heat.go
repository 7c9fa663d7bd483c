package near

import "hash/maphash"

// seed is one for all, so that a sum says the same everywhere. Nobody can choose names for it.
var seed = maphash.MakeSeed()

// Sum is what names are found by. It is never 0.
func Sum(name []byte) uint64 { return maphash.Bytes(seed, name) | 1 }

// cells is how many counters a row of Heat has.
const cells = 1 << 14

// Heat estimates how often names have occurred lately: a count-min sketch (Cormode, Muthukrishnan 2005)
// of two rows, which fades. An estimate is never too low.
type Heat struct{ rows [2][cells]uint16 }

// Count enters that a name has occurred, and returns how often it has, at most.
func (h *Heat) Count(sum uint64) int {
	a, b := &h.rows[0][sum>>1%cells], &h.rows[1][sum>>32%cells]
	if *a < 1<<16-1 {
		*a++
	}
	if *b < 1<<16-1 {
		*b++
	}
	return int(min(*a, *b))
}

// Of returns how often a name has occurred, at most.
func (h *Heat) Of(sum uint64) int {
	return int(min(h.rows[0][sum>>1%cells], h.rows[1][sum>>32%cells]))
}

// Fade has all that has occurred so far count half.
func (h *Heat) Fade() {
	for row := range h.rows {
		for i := range h.rows[row] {
			h.rows[row][i] >>= 1
		}
	}
}
