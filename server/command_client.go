package main

import (
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// What a client says of itself with CLIENT, and what it asks of itself. The subcommands that speak
// of other clients have files of their own.

const errSyntax = "ERR syntax error"

func clientID(s *session, _ [][]byte, out []byte) []byte { return codec.AppendInt(out, s.id) }

func aclWhoAmI(s *session, _ [][]byte, out []byte) []byte {
	return codec.AppendBulkString(out, s.user())
}

func clientGetName(s *session, _ [][]byte, out []byte) []byte {
	if s.label == nil || s.label.name == "" {
		return codec.AppendNull(out, s.resp())
	}
	return codec.AppendBulkString(out, s.label.name)
}

// clientSetName names the client; the empty name takes it away.
func clientSetName(s *session, args [][]byte, out []byte) []byte {
	if wrong := wrongName(args[2], errClientName); wrong != "" {
		return codec.AppendError(out, wrong)
	}
	s.named().name = string(args[2])
	return codec.AppendSimple(out, "OK")
}

// clientSetInfo keeps the name and version of the client's library.
func clientSetInfo(s *session, args [][]byte, out []byte) []byte {
	option := string(args[2])
	var at *string
	switch strings.ToLower(option) {
	case "lib-name":
		at = &s.named().libName
	case "lib-ver":
		at = &s.named().libVer
	default:
		return codec.AppendError(out, "ERR Unrecognized option '"+option+"'")
	}
	if wrong := wrongName(args[3], "ERR "+option+" cannot contain spaces, newlines or special characters."); wrong != "" {
		return codec.AppendError(out, wrong)
	}
	*at = string(args[3])
	return codec.AppendSimple(out, "OK")
}

// clientSwitch answers NO-EVICT and NO-TOUCH. The latter is shown only: what a shared connection
// touches is not one client's to say.
func clientSwitch(note func(s *session, on bool)) answerFunc {
	return func(s *session, args [][]byte, out []byte) []byte {
		word := strings.ToLower(string(args[2]))
		if word != "on" && word != "off" {
			return codec.AppendError(out, errSyntax)
		}
		note(s, word == "on")
		return codec.AppendSimple(out, "OK")
	}
}

// clientCapa keeps what the client says it can do. Words that are not known mean nothing, as in
// Valkey.
func clientCapa(s *session, args [][]byte, out []byte) []byte {
	for _, word := range args[2:] {
		s.redirects = s.redirects || strings.EqualFold(string(word), "redirect")
	}
	return codec.AppendSimple(out, "OK")
}

// clientImportSource lets nobody see expired keys: a shared connection is not one client's to mark.
func clientImportSource(_ *session, args [][]byte, out []byte) []byte {
	if strings.EqualFold(string(args[2]), "off") {
		return codec.AppendSimple(out, "OK")
	}
	return codec.AppendError(out, "ERR Server is not in import mode")
}

// clientReply switches the client's replies off and on. OFF and SKIP have no reply themselves.
func clientReply(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	switch strings.ToLower(string(args[2])) {
	case "on":
		s.muteAll, s.muteNext, s.muteThis = false, 0, false
	case "off":
		s.muteAll, s.muteThis = true, true
	case "skip":
		s.muteNext, s.muteThis = 2, true
	default:
		return s.refuse(cmd, errSyntax)
	}
	return s.say(cmd, "OK")
}

const errNotNumber = "ERR value is not an integer or out of range"

// parseInt reads a number as strictly as Redis: no sign but '-', no leading zero, no blank.
func parseInt(b []byte) (n int64, ok bool) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == string(b)
}

// clientHelp is for the embedded backend. Nodes have help of their own.
func clientHelp(_ *session, _ [][]byte, out []byte) []byte {
	return appendHelp(out, "CLIENT",
		"CACHING (YES|NO)",
		"    Whether the keys of the next command are tracked.",
		"CAPA <option> [<option> ...]",
		"    What the client can do: REDIRECT. CLIENT LIST shows it.",
		"GETNAME",
		"    The name of this connection.",
		"GETREDIR",
		"    The ID of the client to which invalidations are redirected; 0: to none, -1: without tracking.",
		"ID",
		"    The ID of this connection. berth counts on its own, not as a node does.",
		"IMPORT-SOURCE (ON|OFF)",
		"    Refused: the node is not in import mode.",
		"INFO",
		"    One line about this connection.",
		"KILL <ip:port>",
		"    Close the connection of that client.",
		"KILL <option> <value> [<option> <value> [...]]",
		"    Close all connections to which every option applies: ID <id>, ADDR <ip:port>, LADDR <ip:port>,",
		"    TYPE (NORMAL|MASTER|REPLICA|PUBSUB), USER <name>, MAXAGE <seconds>, SKIPME (YES|NO), by default yes.",
		"LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> [<id> ...]]",
		"    One line about each client of berth.",
		"NO-EVICT (ON|OFF)",
		"    Accepted: berth evicts no client.",
		"NO-TOUCH (ON|OFF)",
		"    Accepted, without effect.",
		"PAUSE <milliseconds> [WRITE|ALL]",
		"    Hold all clients, or those that write, for that long.",
		"REPLY (ON|OFF|SKIP)",
		"    Whether this connection gets replies.",
		"SETINFO (LIB-NAME|LIB-VER) <value>",
		"    Which library this connection is used by.",
		"SETNAME <name>",
		"    Name this connection.",
		"TRACKING (ON|OFF) [<option> ...]",
		"    Client-side caching. The client has connections of its own to the nodes meanwhile.",
		"TRACKINGINFO",
		"    How this connection tracks keys.",
		"UNBLOCK <id> [TIMEOUT|ERROR]",
		"    End the blocking command of a client.",
		"UNPAUSE",
		"    End a PAUSE.")
}
