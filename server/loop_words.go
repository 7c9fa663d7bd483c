package main

import (
	"bytes"
	"strconv"
)

// wordReader reads a request again, word by word. The parser has found the request sound. It serves
// requests with very many words, which are read in slices.
type wordReader struct {
	raw []byte
	at  int // where the next one's bulk begins
}

// newBulks begins with the command's name.
func newWordReader(raw []byte) wordReader {
	w := wordReader{raw: raw}
	w.at = w.endOfLine()
	return w
}

// left reports whether there is another word.
func (w *wordReader) left() bool { return w.at < len(w.raw) }

// next is the next word, a view.
func (w *wordReader) next() []byte {
	body := w.endOfLine()
	n, _ := strconv.Atoi(string(w.raw[w.at+1 : body-2])) // the parser has read it before
	w.at = body + n + 2
	return w.raw[body : body+n]
}

func (w *wordReader) endOfLine() int { return w.at + bytes.IndexByte(w.raw[w.at:], '\n') + 1 }
