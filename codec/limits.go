package codec

import "math"

// Redis' own figures, from server.h and networking.c of Redis 7.0.
const (
	// DefaultMaxBulk is Redis' default for proto-max-bulk-len, in bytes.
	DefaultMaxBulk = 512 << 20
	// DefaultMaxInline is the longest inline request, and the longest header line
	// of a multibulk request, in bytes.
	DefaultMaxInline = 64 << 10

	defaultMaxArgs = math.MaxInt32

	// The limits of a client that has not authenticated yet.
	unauthenticatedArgs = 10
	unauthenticatedBulk = 16 << 10
)

// Limits is how large a request may be. The zero value, and nil, mean Redis'
// defaults. One Limits may serve any number of parsers; it is read at each Parse,
// so a change takes effect with the next length that is read.
type Limits struct {
	// MaxBulk is the largest single argument in bytes (proto-max-bulk-len);
	// 0 means DefaultMaxBulk.
	MaxBulk int
	// MaxInline is the longest inline request, and the longest line that holds a
	// length (for these never less than 64), in bytes; 0 means DefaultMaxInline.
	MaxInline int
	// MaxArgs is the largest number of arguments in one request; 0 means 2^31-1.
	MaxArgs int
	// Unauthenticated holds a client that must still authenticate to 10 arguments
	// of at most 16 KB each, with error words of their own.
	Unauthenticated bool
}

var redisLimits = Limits{}

func (l *Limits) maxBulk() int {
	if l.MaxBulk == 0 {
		return DefaultMaxBulk
	}
	return l.MaxBulk
}

func (l *Limits) maxInline() int {
	if l.MaxInline == 0 {
		return DefaultMaxInline
	}
	return l.MaxInline
}

// maxHeader is at least 64. With a lower limit the same length could be accepted
// when it arrives in one piece, and refused when it arrives in two.
func (l *Limits) maxHeader() int { return max(l.maxInline(), 64) }

func (l *Limits) maxArgs() int {
	if l.MaxArgs == 0 {
		return defaultMaxArgs
	}
	return l.MaxArgs
}

// plainArgs returns the number of arguments that no limit refuses.
func (l *Limits) plainArgs() int {
	if l.Unauthenticated {
		return min(l.maxArgs(), unauthenticatedArgs)
	}
	return l.maxArgs()
}

// plainBulk returns the length of an argument, in bytes, that no limit refuses.
func (l *Limits) plainBulk() int {
	if l.Unauthenticated {
		return min(l.maxBulk(), unauthenticatedBulk)
	}
	return l.maxBulk()
}
