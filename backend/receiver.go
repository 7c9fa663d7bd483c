package backend

import (
	"errors"
	"fmt"

	"github.com/berth-proxy/berth/codec"
)

// Receiver is the one to whom a pipe owes replies. Its methods run on the pipe's loop, never inside
// Send.
type Receiver interface {
	// Reply delivers one whole reply. sent is the request that it answers, as it was given to Send.
	// more is how many replies the same Send is still owed. Both slices are valid during the call
	// only.
	Reply(reply, sent []byte, more int)
	// Lost reports that the replies which the same Send is still owed will not come. sent is as in
	// Reply.
	Lost(err *LostError, sent []byte)
}

// Streamer is a Receiver that may take a long reply in parts, as they arrive.
type Streamer interface {
	Receiver
	// Part offers the next bytes of a reply that has begun, valid during the call. If Part returns
	// true, the bytes that follow come the same way and the last ones as Reply, or Lost reports
	// that there is no end. If Part returns false, the same bytes are offered again together with
	// the next ones. sent is as in Reply. left is how many bytes are known to be missing after the
	// part. A reply that begins with the first byte of an error or a push is never offered.
	Part(part, sent []byte, left int) bool
}

// StreamFrom is how many bytes a reply must be known to have before it is offered in parts. For a
// shorter reply the many small writes cost more than gathering it.
const StreamFrom = 1 << 20

// Streamable reports whether a reply with this first byte may be handed out before its end is seen.
func Streamable(first byte) bool { return first != '-' && first != '>' && first != '|' && first != '!' }

// LostError is why a reply will not come.
type LostError struct {
	Addr    string // of the node
	Sent    bool   // the node may have executed the request
	Begun   bool   // of a lease: a reply had begun to arrive
	Refusal string // the node's own words if it refused the connection, its AUTH or its SELECT; else ""
	Err     error  // the cause if there is no Refusal
}

func (e *LostError) Error() string {
	if e.Refusal != "" {
		return fmt.Sprintf("%s refused the connection: %s", e.Addr, e.Refusal)
	}
	return fmt.Sprintf("connection to %s: %v", e.Addr, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Timeout reports whether berth gave up the reply. The connection is still there then.
func (e *LostError) Timeout() bool { return errors.Is(e.Err, ErrTimeout) }

// Why a connection ended, or why berth gave up a reply.
var (
	ErrHungUp   = errors.New("closed by the node")
	ErrUnowed   = errors.New("the node sent a reply that no request is owed")
	ErrPush     = errors.New("the node sent a push on a shared connection")
	ErrTimeout  = errors.New("no reply within backend-timeout-ms")
	ErrRetired  = errors.New("no longer used")
	ErrShutdown = errors.New("berth is shutting down")
)

// AsLost returns err, with which a lease from addr was lost, as a LostError. Mostly it is one.
func AsLost(addr string, err error) *LostError {
	if lost, ok := errors.AsType[*LostError](err); ok {
		return lost
	}
	return &LostError{Addr: addr, Sent: true, Err: err}
}

// AskingCommand must be sent before a request for a slot that is being moved to the node.
var AskingCommand = codec.AppendCommandString(nil, "ASKING")
