package router

import "math"

// KeyFlags say what a command does with a key, in the words of Redis' key specifications.
type KeyFlags uint16

const (
	KeyRO         KeyFlags = 1 << iota // reads the value
	KeyRW                              // reads and changes the value
	KeyOW                              // overwrites the value
	KeyRM                              // removes the key
	KeyAccess                          // returns user data
	KeyUpdate                          // changes data in the value
	KeyInsert                          // adds data and changes none
	KeyDelete                          // removes data from the value
	KeyChannel                         // "not_key": a shard channel, hashed like a key
	KeyIncomplete                      // the specification may miss keys
	KeyVariable                        // what happens depends on other arguments
)

var keyFlagNames = [...]string{
	"RO", "RW", "OW", "RM", "access", "update", "insert", "delete", "not_key", "incomplete", "variable_flags",
}

// keySpec says where some of a command's keys are: where they begin, and where they end. It is
// Redis' "key specification" (https://redis.io/docs/latest/develop/reference/key-specs/).
type keySpec struct {
	// The keys begin at argument begin. With a keyword they begin after its first occurrence from
	// argument begin on; a negative begin counts from the end, and the search goes backwards.
	keyword string
	begin   int

	// If counted, the argument where the keys would begin is their number, and they follow it.
	// Otherwise the last key is at last: relative to the first, or from the end when negative.
	// With a limit of n the keys are only the first 1/n of the remaining arguments.
	counted bool
	last    int
	limit   int
	step    int // from one key to the next, in arguments

	unknown bool // no specification describes the keys; a keyFinder finds them
	flags   KeyFlags
}

// keyFinder finds the keys of a command that specifications cannot describe, or describe wrongly
// for some requests.
type keyFinder func(args [][]byte, at []int) ([]int, error)

var keyFinders = map[string]keyFinder{
	"sort":    sortKeys,
	"sort_ro": func(args [][]byte, at []int) ([]int, error) { return sourceKey(args, at, 1) },
	"migrate": migrateKeys,

	"xread":      streamKeys,
	"xreadgroup": streamKeys,
}

// Keys appends the positions of the request's keys to at[:0] and returns the result, in the order
// of COMMAND GETKEYS (a destination comes before the sources). Shard channels count as keys. Every
// position lies within args. Keys does not allocate when at has room.
//
// ErrKeys means that no node would find keys in these arguments either. Any primary then answers
// with the right error.
func (c *Command) Keys(args [][]byte, at []int) ([]int, error) {
	at = at[:0]
	if c.oneKey {
		if c.First >= len(args) {
			return at, ErrKeys
		}
		return append(at, c.First), nil
	}
	if c.native != nil {
		return c.native(args, at)
	}
	for i := range c.specs {
		var ok bool
		if at, ok = c.specs[i].find(args, at); ok {
			continue
		}
		if c.Flags.Has(NoMandatoryKeys) && c.specs[i].countIsZero(args) {
			continue
		}
		if i > 0 {
			// An option is missing (GEORADIUS … STORE key), or there are no sources (PFMERGE key is
			// complete, though COMMAND GETKEYS disagrees), or the arguments are wrong: then the
			// owner of the first key gives the error.
			continue
		}
		return at[:0], ErrKeys
	}
	return at, nil
}

// SlotOf returns the slot to which all keys of the request hash, -1 when it has no keys, and the
// positions of the keys (see Keys). Errors: ErrKeys, ErrCrossSlot.
func (c *Command) SlotOf(args [][]byte, at []int) (slot int, keys []int, err error) {
	keys, err = c.Keys(args, at)
	if err != nil || len(keys) == 0 {
		return c.slotWithoutKeys(), keys, err
	}
	first := Slot(args[keys[0]])
	for _, k := range keys[1:] {
		if Slot(args[k]) != first {
			return -1, keys, ErrCrossSlot
		}
	}
	return int(first), keys, nil
}

// ChannelSlot stands for the slot of a command about plain channels or patterns, which have no
// slot.
const ChannelSlot = -4

// slotWithoutKeys is ChannelSlot or -1.
func (c *Command) slotWithoutKeys() int {
	if c.Is(Echoes) || c.Is(Subscribes) {
		return ChannelSlot
	}
	return -1
}

// find appends the positions of the keys that s describes. It returns false when the arguments do
// not fit.
func (s *keySpec) find(args [][]byte, at []int) ([]int, bool) {
	first := s.first(args)
	if first <= 0 || first >= len(args) {
		return at, false
	}
	var last int
	switch {
	case s.counted:
		n, ok := parseCount(args[first])
		if !ok || n > len(args) {
			return at, false
		}
		first++
		last = first + (n-1)*s.step
	case s.last >= 0:
		last = first + s.last
	case s.limit > 0:
		last = first + (len(args)-first)/s.limit + s.last
	default:
		last = len(args) + s.last
	}
	if last < first || last >= len(args) {
		return at, false
	}
	for i := first; i <= last; i += s.step {
		at = append(at, i)
	}
	return at, true
}

// first returns the argument where the keys, or their count, begin; 0 when the keyword is missing.
func (s *keySpec) first(args [][]byte) int {
	if s.keyword == "" {
		return s.begin
	}
	if s.begin < 0 {
		for i := len(args) + s.begin; i > 0; i-- {
			if equalWord(args[i], s.keyword) {
				return i + 1
			}
		}
		return 0
	}
	for i := s.begin; i < len(args)-1; i++ {
		if equalWord(args[i], s.keyword) {
			return i + 1
		}
	}
	return 0
}

func (s *keySpec) countIsZero(args [][]byte) bool {
	return s.counted && s.begin < len(args) && string(args[s.begin]) == "0"
}

// parseCount reads a number of keys as Redis does. What is no plain number it reads as C's atoi:
// "2 " and "2x" are 2, and a Cluster's node redirects the request by these keys before it refuses
// the number.
func parseCount(p []byte) (int, bool) {
	n, strict := 0, len(p) > 0 && len(p) <= 10 && (p[0] != '0' || len(p) == 1)
	for i := 0; strict && i < len(p); i++ {
		strict = isDigit(p[i])
		n = n*10 + int(p[i]-'0')
	}
	if !strict || n > math.MaxInt32 {
		n = atoi(p)
	}
	return n, n >= 0
}

// atoi reads a number as glibc's atoi: after blanks and a sign the digits up to the first other
// byte, cut to 32 bits.
func atoi(p []byte) int {
	i := 0
	for i < len(p) && (p[i] == ' ' || '\t' <= p[i] && p[i] <= '\r') {
		i++
	}
	negative := i < len(p) && p[i] == '-'
	if i < len(p) && (p[i] == '-' || p[i] == '+') {
		i++
	}
	n := 0
	for ; i < len(p) && isDigit(p[i]); i++ {
		if n > (math.MaxInt64-9)/10 { // strtol stops at the largest number, or at the smallest
			if negative {
				return 0
			}
			return -1
		}
		n = n*10 + int(p[i]-'0')
	}
	if negative {
		n = -n
	}
	return int(int32(n))
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func sourceKey(args [][]byte, at []int, i int) ([]int, error) {
	if i >= len(args) {
		return at, ErrKeys
	}
	return append(at, i), nil
}

// sortKeys finds the keys of SORT: the source, and the destination of the last STORE. Patterns of
// BY and GET are not keys: a cluster node refuses those that could name a key of another node.
func sortKeys(args [][]byte, at []int) ([]int, error) {
	at, err := sourceKey(args, at, 1)
	if err != nil {
		return at, err
	}
	store := 0
	for i := 2; i < len(args); i++ {
		switch {
		case equalWord(args[i], "LIMIT"):
			i += 2
		case equalWord(args[i], "GET"), equalWord(args[i], "BY"):
			i++
		case equalWord(args[i], "STORE") && i+1 < len(args):
			store = i + 1 // the next round reads this word too, as Redis does: SORT k STORE STORE x stores in x
		}
	}
	if store > 0 {
		at = append(at, store)
	}
	return at, nil
}

// migrateKeys finds the keys of MIGRATE host port key|"" db timeout … [KEYS key …].
func migrateKeys(args [][]byte, at []int) ([]int, error) {
	for i := 6; i < len(args); i++ {
		switch {
		case equalWord(args[i], "AUTH"):
			i++
		case equalWord(args[i], "AUTH2"):
			i += 2
		case equalWord(args[i], "KEYS"):
			if len(args[3]) > 0 || i+1 == len(args) {
				return at, ErrKeys
			}
			for k := i + 1; k < len(args); k++ {
				at = append(at, k)
			}
			return at, nil
		}
	}
	return sourceKey(args, at, 3)
}

// streamKeys finds the keys of XREAD and XREADGROUP: the first half of the arguments after STREAMS.
// The word STREAMS may also be the value of an earlier option. An unknown option is skipped, as in
// blockOption.
func streamKeys(args [][]byte, at []int) ([]int, error) {
	for i := 1; i < len(args); i++ {
		switch {
		case equalWord(args[i], "BLOCK"), equalWord(args[i], "COUNT"), equalWord(args[i], "CLAIM"):
			i++
		case equalWord(args[i], "GROUP"):
			i += 2
		case equalWord(args[i], "STREAMS"):
			n := len(args) - i - 1
			if n == 0 || n%2 != 0 {
				return at, ErrKeys
			}
			for k := range n / 2 {
				at = append(at, i+1+k)
			}
			return at, nil
		}
	}
	return at, ErrKeys
}
