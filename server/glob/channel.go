package glob

// MatchChannel reports whether the name of a channel matches a pattern, as PSUBSCRIBE matches them:
// the case of letters counts. Nothing is compiled, so any number of patterns may be kept, of any
// length. steps is how many bytes may yet be compared; when none are left nothing matches.
func MatchChannel(pattern string, name []byte, steps *int) bool {
	if len(name) == 0 { // not even '*' matches it
		return pattern == ""
	}
	p, n := 0, 0
	star, resume := -1, 0 // after the last '*' of the pattern, and where in name to try it next
	for n < len(name) {
		if *steps--; *steps < 0 {
			return false
		}
		if p < len(pattern) {
			if pattern[p] == '*' {
				p++
				star, resume = p, n
				continue
			}
			if is, size := takes(pattern[p:], name[n], steps); is {
				p += size
				n++
				continue
			}
		}
		if star < 0 {
			return false
		}
		resume++
		p, n = star, resume
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// takes reports whether the element at the start of pattern, which is no '*', matches a byte, and
// how long the element is.
func takes(pattern string, b byte, steps *int) (is bool, size int) {
	switch {
	case pattern[0] == '?':
		return true, 1
	case pattern[0] == '[':
		is, size = classTakes(pattern, b)
		*steps -= size
		return is, size
	case pattern[0] == '\\' && len(pattern) > 1:
		return pattern[1] == b, 2
	}
	return pattern[0] == b, 1
}

// classTakes is takes for [...]; one that is not closed ends with the pattern, as in Redis.
func classTakes(pattern string, b byte) (is bool, size int) {
	i := 1
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			is = is || pattern[i] == b
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := min(pattern[i], pattern[i+2]), max(pattern[i], pattern[i+2])
			is = is || low <= b && b <= high
			i += 2
		default:
			is = is || pattern[i] == b
		}
	}
	if i < len(pattern) {
		i++ // the ']'
	}
	return is != not, i
}
