package main

import (
	"bytes"
	"strconv"
)

// wordReader reads a request again, word by word. The parser has found the request sound. Requests
// with very many words are read in slices.
type wordReader struct {
	raw []byte
	at  int // where the bulk of the next word begins
}

// newWordReader begins with the command's name.
func newWordReader(raw []byte) wordReader {
	w := wordReader{raw: raw}
	w.at = w.endOfLine()
	return w
}

// left reports whether there is another word.
func (w *wordReader) left() bool { return w.at < len(w.raw) }

// next returns the next word, a view.
func (w *wordReader) next() []byte {
	body := w.endOfLine()
	n, _ := strconv.Atoi(string(w.raw[w.at+1 : body-2])) // the parser has read it before
	w.at = body + n + 2
	return w.raw[body : body+n]
}

func (w *wordReader) endOfLine() int { return w.at + bytes.IndexByte(w.raw[w.at:], '\n') + 1 }
