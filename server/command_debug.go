package main

import (
	"slices"
	"strings"

	"github.com/berth-proxy/berth/router"
)

// debugs reports whether the command is a DEBUG that may pass.
func (s *session) debugs(cmd *router.Command) bool {
	return cmd.Is(router.Debug) && s.loop.srv.config().EnableDebugCommand
}

// debugSlot is the slot of the keys that some of DEBUG's subcommands have.
func debugSlot(args [][]byte) (slot int) {
	slot = noSlot
	if len(args) < 3 || !slices.Contains(debugsKey, strings.ToLower(string(args[1]))) {
		return slot
	}
	keys := args[2:3]
	if strings.EqualFold(string(args[1]), "digest-value") {
		keys = args[2:]
	}
	for _, key := range keys {
		if of := int(router.Slot(key)); slot == noSlot || slot == of {
			slot = of
		} else {
			return manySlots
		}
	}
	return slot
}

// debugsKey are the subcommands whose first argument is a key.
var debugsKey = []string{"object", "digest-value", "sdslen", "ziplist", "listpack", "quicklist", "htstats-key"}
