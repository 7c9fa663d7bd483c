package codec

import "fmt"

// ProtocolError says that bytes are not RESP. Nothing after them can be
// understood any more: a client gets "-ERR " and the message and is closed, a
// connection to a node is closed.
type ProtocolError struct {
	// Message begins with "Protocol error: ", and is Redis' where Redis has one.
	Message string
}

func (e *ProtocolError) Error() string { return e.Message }

// Requests, in Redis' words.
var (
	errMultibulkLength   = &ProtocolError{"Protocol error: invalid multibulk length"}
	errBulkLength        = &ProtocolError{"Protocol error: invalid bulk length"}
	errUnauthMultibulk   = &ProtocolError{"Protocol error: unauthenticated multibulk length"}
	errUnauthBulk        = &ProtocolError{"Protocol error: unauthenticated bulk length"}
	errMultibulkLineSize = &ProtocolError{"Protocol error: too big mbulk count string"}
	errBulkLineSize      = &ProtocolError{"Protocol error: too big bulk count string"}
	errInlineSize        = &ProtocolError{"Protocol error: too big inline request"}
	errUnbalancedQuotes  = &ProtocolError{"Protocol error: unbalanced quotes in request"}
)

// Requests that Redis would read, or wait for ever to read, and berth does not.
var (
	errMultibulkLineEnd = &ProtocolError{"Protocol error: expected CR LF after multibulk length"}
	errBulkLineEnd      = &ProtocolError{"Protocol error: expected CR LF after bulk length"}
	errBulkEnd          = &ProtocolError{"Protocol error: expected CR LF after bulk"}
	errInlineNUL        = &ProtocolError{"Protocol error: NUL byte in inline request"}
)

// Replies. Only logs show these.
var (
	errReplyLength   = &ProtocolError{"Protocol error: invalid length in reply"}
	errReplyStreamed = &ProtocolError{"Protocol error: streamed type in reply"}
	errReplyCount    = &ProtocolError{"Protocol error: too many elements in reply"}
	errReplyDepth    = &ProtocolError{"Protocol error: elements nested too deep in reply"}
	errReplyLineSize = &ProtocolError{"Protocol error: too long a line in reply"}
	errReplyLineEnd  = &ProtocolError{"Protocol error: expected CR LF in reply"}
	errReplyShort    = &ProtocolError{"Protocol error: reply ends too early"}
	errReplyTrailing = &ProtocolError{"Protocol error: bytes after the end of the reply"}
)

func errExpectedBulk(got byte) error {
	return &ProtocolError{"Protocol error: expected '$', got '" + string([]byte{got}) + "'"}
}

func errReplyType(got byte) error {
	return &ProtocolError{fmt.Sprintf("Protocol error: unknown type %q in reply", got)}
}
