package main

import (
	"bytes"
	"strconv"
)

// bulks reads a request that the parser has found sound once more, word by word, in slices for instance. The request lies in
// memory that stays what it is.
type bulks struct {
	raw []byte
	at  int // where the next one's bulk begins
}

// newBulks begins with the command's name.
func newBulks(raw []byte) bulks {
	w := bulks{raw: raw}
	w.at = w.endOfLine()
	return w
}

// left tells whether there is another word.
func (w *bulks) left() bool { return w.at < len(w.raw) }

// next is the next word, a view.
func (w *bulks) next() []byte {
	body := w.endOfLine()
	n, _ := strconv.Atoi(string(w.raw[w.at+1 : body-2])) // the parser has read it before
	w.at = body + n + 2
	return w.raw[body : body+n]
}

func (w *bulks) endOfLine() int { return w.at + bytes.IndexByte(w.raw[w.at:], '\n') + 1 }
