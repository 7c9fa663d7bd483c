package telemetry

import (
	"cmp"
	"slices"
)

// ClientRow is a client as PROXY CLIENTS shows it. CLIENT LIST has what Redis says of a client;
// this is what berth knows beyond that.
type ClientRow struct {
	ID      int64  `json:"id"`
	Addr    string `json:"addr"`
	Name    string `json:"name"`
	User    string `json:"user"`
	DB      int64  `json:"db"`
	RESP    int64  `json:"resp"`
	State   string `json:"state"`
	Node    string `json:"node"` // to which it holds a lease, or waits for one, or where it blocks
	Age     int64  `json:"age_seconds"`
	Idle    int64  `json:"idle_seconds"`
	Queued  int64  `json:"requests"`        // unanswered ones
	Owed    int64  `json:"owed"`            // of them, those a node has yet to answer
	Input   int64  `json:"input_bytes"`     // not taken yet
	Output  int64  `json:"output_bytes"`    // that it has yet to read
	Command string `json:"command"`         // the latest
	Library string `json:"library"`         // as it called itself: name and version
	Multi   int64  `json:"multi"`           // commands queued since MULTI
	Watch   int64  `json:"watching"`        // 1 between WATCH and EXEC
	Lost    int64  `json:"watch_is_broken"` // 1: EXEC will answer nil
}

// PinRow is a connection that one client holds for itself, or on which several are blocked
// together: the client is the one that has waited longest then. A subscriber on a shared feed holds
// none.
type PinRow struct {
	ID      int64  `json:"id"`
	Addr    string `json:"addr"`
	Name    string `json:"name"`
	User    string `json:"user"`
	Node    string `json:"node"`
	Reason  string `json:"reason"` // watch, block, subscribe, monitor, tracking; kept: private_conn_pool_enabled is 0
	Held    int64  `json:"seconds"`
	Idle    int64  `json:"idle_seconds"` // for how long a WATCH has had nothing under way
	Waiters int64  `json:"waiters"`      // clients that are blocked together, on this connection and others; else 0
	Command string `json:"command"`      // the client's latest
}

// PinRows are the rows of the connections held longest, no more than most of them.
func (s *Snapshot) PinRows(most int) []PinRow {
	all := slices.Clone(s.Total().Pins)
	slices.SortStableFunc(all, func(a, b PinRow) int { return cmp.Or(cmp.Compare(b.Held, a.Held), cmp.Compare(a.ID, b.ID)) })
	return all[:min(len(all), most)]
}
