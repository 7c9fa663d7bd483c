package nodes

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
)

// Berths may stand one after another. Each says in its INFO which ones its requests pass: itself, and those
// that its node names likewise.
//
//	client ─▶ berth a ─▶ berth b ─▶ redis
//	          chain a,b   chain b
//
// A berth that finds itself in the chain of its node would send requests round for ever. It does not take
// that node, and lets go of one that it has taken.

// chainField is the field of INFO's section "Server".
const chainField = "berth_chain"

// maxChain is how many berths may stand one after another.
const maxChain = 16

// newLink is a name for one berth in chains.
func newLink() string { return rand.Text() }

// Chain returns the names of the berths that a request passes from here on, with commas between.
func (n *Nodes) Chain() string {
	if after := n.Info().serverField(chainField); after != "" {
		return n.settings.link + "," + after
	}
	return n.settings.link
}

// checkChain refuses a node from which requests would come back.
func (q *inquiry) checkChain() error {
	after := strings.Split(q.found.info.serverField(chainField), ",")
	switch {
	case slices.Contains(after, q.link):
		return &ConfigError{Why: fmt.Sprintf("%s leads back to this berth itself: requests would go round for ever", q.addr), Loop: true}
	case len(after) >= maxChain:
		return &ConfigError{Why: fmt.Sprintf("%s leads to more than %d berths one after another", q.addr, maxChain), Loop: true}
	}
	return nil
}
