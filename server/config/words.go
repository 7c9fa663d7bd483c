package config

import (
	"errors"
	"slices"
	"strings"
)

var errUnbalanced = errors.New("unbalanced quotes in configuration line")

// splitWords cuts a line into words as Redis reads redis.conf: blanks separate words, "..." has
// backslash escapes, '...' has \' only. A closing quote must end its word.
func splitWords(line string) ([]string, error) {
	var words []string
	for i := 0; ; {
		for i < len(line) && isBlank(line[i]) {
			i++
		}
		if i == len(line) {
			return words, nil
		}
		word, next, err := readWord(line, i)
		if err != nil {
			return nil, err
		}
		words = append(words, word)
		i = next
	}
}

// readWord reads the word that begins at line[i], and returns the position after it.
func readWord(line string, i int) (string, int, error) {
	var word strings.Builder
	for i < len(line) && !isBlank(line[i]) {
		switch line[i] {
		case '"', '\'':
			next, err := readQuoted(&word, line, i)
			if err != nil {
				return "", 0, err
			}
			if next < len(line) && !isBlank(line[next]) {
				return "", 0, errUnbalanced
			}
			return word.String(), next, nil
		}
		word.WriteByte(line[i])
		i++
	}
	return word.String(), i, nil
}

// readQuoted appends to word the text between the quote at line[i] and the closing quote, and
// returns the position after it.
func readQuoted(word *strings.Builder, line string, i int) (int, error) {
	quote := line[i]
	for i++; i < len(line); i++ {
		switch b := line[i]; {
		case b == quote:
			return i + 1, nil
		case b != '\\' || i+1 == len(line):
			word.WriteByte(b)
		case quote == '\'':
			if line[i+1] == '\'' {
				i++
			}
			word.WriteByte(line[i])
		case line[i+1] == 'x' && i+3 < len(line) && isHex(line[i+2]) && isHex(line[i+3]):
			word.WriteByte(hexValue(line[i+2])<<4 | hexValue(line[i+3]))
			i += 3
		default:
			i++
			word.WriteByte(unescape(line[i]))
		}
	}
	return 0, errUnbalanced
}

func unescape(b byte) byte {
	switch b {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return b
}

// quoteWord writes a word as splitWords reads it, in quotes only when it needs them.
func quoteWord(word string) string {
	plain := word != "" && word[0] != '#'
	for i := 0; plain && i < len(word); i++ {
		b := word[i]
		plain = b > ' ' && b < 0x7f && b != '"' && b != '\'' && b != '\\'
	}
	if plain {
		return word
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			b.WriteString(`\x`)
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// quoteOpen is quoteWord for what may be a mistyped URL: it shows no word that has a part of one, as
// the password in it may be anywhere.
func quoteOpen(word string) string {
	if isGuarded(word) {
		return "***"
	}
	return quoteWord(word)
}

// quoteOpenWords is quoteOpen for words that belong together: when one may be a piece of a URL, all may.
func quoteOpenWords(words []string) []string {
	quoted := make([]string, len(words))
	guarded := slices.ContainsFunc(words, isGuarded)
	for i, word := range words {
		quoted[i] = "***"
		if !guarded {
			quoted[i] = quoteWord(word)
		}
	}
	return quoted
}

// isGuarded reports whether a word may be a mistyped URL, or a piece of one.
func isGuarded(word string) bool {
	return word != "#" && strings.ContainsAny(word, "@:%?#&") || strings.Contains(word, "//") || len(word) > maxOpenWord
}

// maxOpenWord is longer than the name of any option, and than the paths that people write.
const maxOpenWord = 256

// quoteWords writes several words. No words are written as one empty word.
func quoteWords(words []string) string {
	if len(words) == 0 {
		return `""`
	}
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quoteWord(w)
	}
	return strings.Join(quoted, " ")
}

func isBlank(b byte) bool { return b == ' ' || '\t' <= b && b <= '\r' }

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
}

func hexValue(b byte) byte {
	switch {
	case b >= 'a':
		return b - 'a' + 10
	case b >= 'A':
		return b - 'A' + 10
	}
	return b - '0'
}
