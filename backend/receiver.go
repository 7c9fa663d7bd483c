package backend

import (
	"errors"
	"fmt"

	"github.com/berth-proxy/berth/codec"
)

// Receiver is owed replies by a pipe. Its methods run on the pipe's loop, never inside Send.
type Receiver interface {
	// Reply delivers one whole reply. sent is the request it answers, as it was given to Send; more
	// is how many replies the same Send is still owed. Both slices are valid during the call only.
	Reply(reply, sent []byte, more int)
	// Lost says that this reply and those after it of the same Send will not come. sent is as in
	// Reply.
	Lost(err *LostError, sent []byte)
}

// Streamer is a Receiver that may take a long reply as it comes, instead of having it gathered.
type Streamer interface {
	Receiver
	// Part offers the next bytes of a reply that has begun, valid during the call. If it takes
	// them, all that follows comes the same way and the last bytes as Reply, or Lost reports that
	// there is no end. If not, they are offered again with the bytes after them. sent is as in
	// Reply; left is how many bytes are known to be missing after the part. A reply that begins
	// with an error's or a push's first byte is never offered.
	Part(part, sent []byte, left int) bool
}

// StreamFrom is how long a reply is known to be before it is offered in parts: for a shorter one
// the many small writes cost more than gathering it.
const StreamFrom = 1 << 20

// Streamable reports whether a reply that begins so may be handed out before its end is seen.
func Streamable(first byte) bool { return first != '-' && first != '>' && first != '|' && first != '!' }

// LostError is why a reply will not come.
type LostError struct {
	Addr    string
	Sent    bool   // the node may have executed the request
	Begun   bool   // of a lease: a reply had begun to come
	Refusal string // the node's own error when it refused the connection's AUTH or SELECT, else ""
	Err     error
}

func (e *LostError) Error() string {
	if e.Refusal != "" {
		return fmt.Sprintf("%s refused the connection: %s", e.Addr, e.Refusal)
	}
	return fmt.Sprintf("connection to %s: %v", e.Addr, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Timeout reports that berth gave up the reply; the connection is there still.
func (e *LostError) Timeout() bool { return errors.Is(e.Err, ErrTimeout) }

// Why a connection ended, or why berth gave up a reply.
var (
	ErrHungUp   = errors.New("closed by the node")
	ErrUnowed   = errors.New("the node sent a reply that no request is owed")
	ErrPush     = errors.New("the node sent a push on a shared connection")
	ErrTimeout  = errors.New("no reply within backend-timeout")
	ErrRetired  = errors.New("no longer used")
	ErrShutdown = errors.New("berth is shutting down")
)

// AsLost returns why a lease was lost as a LostError, which it mostly is.
func AsLost(addr string, err error) *LostError {
	if lost, ok := errors.AsType[*LostError](err); ok {
		return lost
	}
	return &LostError{Addr: addr, Sent: true, Err: err}
}

// AskingCommand goes before a request for a slot that is being moved to the node.
var AskingCommand = codec.AppendCommandString(nil, "ASKING")
