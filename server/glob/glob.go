// Package glob matches names with patterns in the style of Redis. It imports nothing else of berth.
package glob

// Match reports whether text matches a pattern of Redis' glob style (* ? [a-z] [^a] \x), in any
// case of letters. At worst it takes time in proportion to the product of both lengths: once it has
// reached a later '*', it never tries an earlier one again.
func Match(pattern, text string) bool {
	p, t := 0, 0
	star, resume := -1, 0 // after the last '*' of pattern, and where in text to try it next
	for t < len(text) {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, resume = p, t
			continue
		}
		if n := matchOne(pattern[p:], text[t]); n > 0 {
			p += n
			t++
			continue
		}
		if star < 0 {
			return false
		}
		resume++
		p, t = star, resume
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one byte with the element at the start of pattern and returns that element's
// length, 0 when it does not match.
func matchOne(pattern string, b byte) int {
	switch {
	case pattern == "":
		return 0
	case pattern[0] == '?':
		return 1
	case pattern[0] == '[':
		return matchClass(pattern, b)
	case pattern[0] == '\\' && len(pattern) > 1:
		if lower(pattern[1]) == lower(b) {
			return 2
		}
		return 0
	case lower(pattern[0]) == lower(b):
		return 1
	}
	return 0
}

// matchClass matches one byte with the class [...] at the start of pattern, like matchOne. A class
// without a closing bracket ends with the pattern, as in Redis.
func matchClass(pattern string, b byte) int {
	b = lower(b)
	i := 1
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	found := false
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			found = found || lower(pattern[i]) == b
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := lower(pattern[i]), lower(pattern[i+2])
			found = found || min(low, high) <= b && b <= max(low, high)
			i += 2
		default:
			found = found || lower(pattern[i]) == b
		}
	}
	if i < len(pattern) {
		i++ // the ']'
	}
	if found == not {
		return 0
	}
	return i
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
