package redistest

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Each kind of reply has a Go type.
//
//	simple string, bulk string      string (Conn.RecvRaw shows the difference)
//	error, bulk error               Error
//	integer                         int64
//	null, null bulk, null array     nil
//	array                           []any
//	map                             Map
//	set                             Set
//	push                            Push
//	double                          float64
//	boolean                         bool
//	big number                      BigNumber
//	verbatim string                 Verbatim
//	attribute                       dropped; the value after it is the reply
type (
	// Error is an error reply without its '-', such as "ERR unknown command".
	Error string
	// Map is a RESP3 map: key, value, key, value, in the order of the reply.
	Map []any
	// Set is a RESP3 set in the order of the reply.
	Set []any
	// Push is a RESP3 push. Its first element is its kind.
	Push []any
	// BigNumber holds the digits of a RESP3 big number.
	BigNumber string
	// Verbatim is a RESP3 verbatim string.
	Verbatim struct{ Format, Text string }
)

func (e Error) Error() string { return string(e) }

// readReply reads one reply of any kind.
func (c *Conn) readReply() (any, error) {
	line, err := c.readLine()
	if err != nil {
		return nil, err
	}
	if line == "" {
		return nil, fmt.Errorf("empty line at the beginning of a reply")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return Error(rest), nil
	case ':':
		return strconv.ParseInt(rest, 10, 64)
	case '(':
		return BigNumber(rest), nil
	case '_':
		return nil, nil
	case '#':
		return rest == "t", nil
	case ',':
		return readDouble(rest)
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		return nil, fmt.Errorf("not a RESP reply: %q", line)
	}
	switch kind {
	case '$', '!', '=':
		return c.readBulk(kind, n)
	case '*':
		if n < 0 {
			return nil, nil
		}
		return c.readElements(n)
	case '~':
		e, err := c.readElements(n)
		return Set(e), err
	case '>':
		e, err := c.readElements(n)
		return Push(e), err
	case '%':
		e, err := c.readElements(2 * n)
		return Map(e), err
	case '|':
		if _, err := c.readElements(2 * n); err != nil {
			return nil, err
		}
		return c.readReply()
	}
	return nil, fmt.Errorf("not a RESP reply: %q", line)
}

// readBulk reads n bytes and the line end after them. kind is the first byte of the reply.
func (c *Conn) readBulk(kind byte, n int) (any, error) {
	if n < 0 {
		return nil, nil
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return nil, err
	}
	c.raw = append(c.raw, b...)
	if string(b[n:]) != "\r\n" {
		return nil, fmt.Errorf("a bulk of %d bytes ends in %q", n, b[n:])
	}
	text := string(b[:n])
	switch kind {
	case '!':
		return Error(text), nil
	case '=':
		format, rest, _ := strings.Cut(text, ":")
		return Verbatim{Format: format, Text: rest}, nil
	}
	return text, nil
}

// readElements reads the elements of an aggregate reply.
func (c *Conn) readElements(n int) ([]any, error) {
	elems := []any{}
	for range n {
		e, err := c.readReply()
		if err != nil {
			return nil, err
		}
		elems = append(elems, e)
	}
	return elems, nil
}

// readLine returns the next line without its CRLF.
func (c *Conn) readLine() (string, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	c.raw = append(c.raw, line...)
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return "", fmt.Errorf("line without CR: %q", line)
	}
	return text, nil
}

// readDouble parses a RESP3 double.
func readDouble(s string) (any, error) {
	switch s {
	case "inf":
		return math.Inf(1), nil
	case "-inf":
		return math.Inf(-1), nil
	case "nan":
		return math.NaN(), nil
	}
	return strconv.ParseFloat(s, 64)
}
