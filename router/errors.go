package router

import (
	"fmt"
	"strings"
)

// Error is an error for a client: prefix and words, as codec.AppendError takes them.
type Error string

func (e Error) Error() string { return string(e) }

const (
	// ErrKeys says that the arguments do not tell where the keys are (XREAD without STREAMS, a
	// wrong number of keys). The words are those of COMMAND GETKEYS.
	ErrKeys = Error("ERR Invalid arguments specified for command")
	// ErrCrossSlot says that the keys of one command hash to several slots, and it cannot be split.
	ErrCrossSlot = Error("CROSSSLOT Keys in request don't hash to the same slot")
)

// shownBytes is how many bytes of a client's words Redis repeats in an error.
const shownBytes = 128

func arityError(name string) error {
	words := "wrong number of arguments for '" + name + "' command"
	if name == "exec" {
		// A refused EXEC ends its transaction, and its error says so.
		return Error("EXECABORT Transaction discarded because of: " + words)
	}
	return Error("ERR " + words)
}

// unknownCommandError says what Redis says: the name, and as many arguments as fit into 128 bytes.
func unknownCommandError(args [][]byte) error {
	var name []byte
	var shown strings.Builder
	if len(args) > 0 {
		name = args[0]
		for _, a := range args[1:] {
			if shown.Len() >= shownBytes {
				break
			}
			fmt.Fprintf(&shown, "'%s' ", cString(a, shownBytes-shown.Len()))
		}
	}
	return oneLine(fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s",
		cString(name, shownBytes), shown.String()))
}

func unknownSubcommandError(args [][]byte) error {
	return oneLine(fmt.Sprintf("ERR unknown subcommand '%s'. Try %s HELP.",
		cString(args[1], shownBytes), strings.ToUpper(string(args[0]))))
}

// cString is what C prints of p with %.*s: at most n bytes, and none from the first NUL on.
func cString(p []byte, n int) []byte {
	p = p[:min(len(p), n)]
	for i, b := range p {
		if b == 0 {
			return p[:i]
		}
	}
	return p
}

// oneLine replaces CR and LF in a client's bytes: they would end the reply early.
func oneLine(s string) error {
	return Error(strings.NewReplacer("\r", " ", "\n", " ").Replace(s))
}

// CrossProtocol reports whether the first word of a request is "POST" or "Host:": an HTTP client
// that was tricked into talking to Redis. Redis closes such a client without an answer, and so must
// a proxy: forwarded, the request would close a connection that all clients share.
func CrossProtocol(name []byte) bool {
	return equalWord(name, "POST") || equalWord(name, "HOST:")
}

const notAllowed = `ERR %s command not allowed. If the enable-%s-command option is set to "local", you can run it ` +
	`from a local connection, otherwise you need to set this option in the configuration file, and then restart ` +
	`the server.`

// refusals are the errors of refused commands for which Redis has words, and the reasons for the
// others. A name that ends in | stands for all subcommands of a container.
var refusals = map[string]string{
	"debug":         fmt.Sprintf(notAllowed, "DEBUG", "debug"),
	"module|load":   fmt.Sprintf(notAllowed, "MODULE", "module"),
	"module|loadex": fmt.Sprintf(notAllowed, "MODULE", "module"),
	"module|unload": fmt.Sprintf(notAllowed, "MODULE", "module"),

	"waitaof":        "clients share connections, it would count the wrong writes",
	"himport":        "clients share connections, it keeps state on them",
	"shutdown":       "it stops a node that all clients share; send it to the node",
	"replicaof":      "it changes the role of a node; send it to the node",
	"slaveof":        "it changes the role of a node; send it to the node",
	"failover":       "it changes the role of a node; send it to the node",
	"module":         "it changes one node; send it to the node",
	"script|debug":   "it stops the node for all clients; send it to a node",
	"restore-asking": "it is what nodes say to each other; use RESTORE",
	"cluster|":       "it is about one node, and clients of berth see one for all; send it to the node",
}

// clusterRefusals are the errors of nodes of a Cluster.
var clusterRefusals = map[string]string{
	"replicaof": "ERR REPLICAOF not allowed in cluster mode.",
	"slaveof":   "ERR REPLICAOF not allowed in cluster mode.",
	"failover":  "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.",
}

// refusalFor returns the error of a refused command, "" if there is no reason.
func refusalFor(name string) string {
	reason, ok := refusals[name]
	if container, _, sub := strings.Cut(name, "|"); sub && !ok {
		reason = refusals[container+"|"]
	}
	if reason == "" || strings.HasPrefix(reason, "ERR ") {
		return reason
	}
	return "ERR " + strings.ToUpper(strings.ReplaceAll(name, "|", " ")) + " is not possible through berth: " + reason
}
