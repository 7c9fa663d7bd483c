// Package glob matches names with patterns in the style of Redis. It imports nothing else of berth.
package glob

// MaxLength bounds a pattern. Who asks chooses it, and it is compiled in one go. No name that berth
// matches is as long.
const MaxLength = 4 << 10

// Pattern is a pattern that is ready to be matched with many texts.
type Pattern struct {
	elements []element
	least    int // bytes that a text must have
}

// element matches one byte, or is a '*'.
type element struct {
	star bool
	set  [4]uint64 // the bytes that match, one bit for each
}

func (e *element) add(b byte)      { e.set[b>>6] |= 1 << (b & 63) }
func (e *element) has(b byte) bool { return e.set[b>>6]&(1<<(b&63)) != 0 }

// Compile reads a pattern of Redis' glob style (* ? [a-z] [^a] \x), in time in proportion to its
// length.
func Compile(pattern string) *Pattern {
	p := &Pattern{}
	for len(pattern) > 0 {
		if pattern[0] == '*' {
			pattern = pattern[1:]
			if n := len(p.elements); n == 0 || !p.elements[n-1].star {
				p.elements = append(p.elements, element{star: true})
			}
			continue
		}
		e, n := compileOne(pattern)
		p.elements = append(p.elements, e)
		p.least++
		pattern = pattern[n:]
	}
	return p
}

// Match is Compile and Match for one text.
func Match(pattern, text string) bool { return Compile(pattern).Match(text) }

// Match reports whether text matches the pattern, whatever the case of letters. Each element but '*'
// takes a byte of the text, and a '*' that was passed is never tried again once a later one has been
// reached: so the time is at worst in proportion to the square of the text's length, however long
// the pattern is.
func (p *Pattern) Match(text string) bool {
	if len(text) < p.least || len(text) == 0 && len(p.elements) > 0 { // not even '*' matches an empty text
		return false
	}
	e, t := 0, 0
	star, resume := -1, 0 // after the last '*' of the pattern, and where in text to try it next
	for t < len(text) {
		if e < len(p.elements) {
			if p.elements[e].star {
				e++
				star, resume = e, t
				continue
			}
			if p.elements[e].has(lower(text[t])) {
				e++
				t++
				continue
			}
		}
		if star < 0 {
			return false
		}
		resume++
		e, t = star, resume
	}
	if e < len(p.elements) && p.elements[e].star {
		e++
	}
	return e == len(p.elements)
}

// compileOne reads the element for one byte at the start of pattern and returns its length.
func compileOne(pattern string) (e element, n int) {
	switch {
	case pattern[0] == '?':
		e.set = [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
		return e, 1
	case pattern[0] == '[':
		return compileClass(pattern)
	case pattern[0] == '\\' && len(pattern) > 1:
		e.add(lower(pattern[1]))
		return e, 2
	}
	e.add(lower(pattern[0]))
	return e, 1
}

// compileClass reads [...]; one that is not closed ends with the pattern, as in Redis.
func compileClass(pattern string) (e element, n int) {
	i := 1
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			e.add(lower(pattern[i]))
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := lower(pattern[i]), lower(pattern[i+2])
			for b := int(min(low, high)); b <= int(max(low, high)); b++ {
				e.add(byte(b))
			}
			i += 2
		default:
			e.add(lower(pattern[i]))
		}
	}
	if i < len(pattern) {
		i++ // the ']'
	}
	if not {
		for w := range e.set {
			e.set[w] = ^e.set[w]
		}
	}
	return e, i
}

// Is reports whether a pattern is more than a plain name, by the rule of CONFIG GET.
func Is(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '?', '[':
			return true
		}
	}
	return false
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}
