package telemetry

import (
	"cmp"
	"slices"
)

// ClientRow is a client as PROXY CLIENTS shows it: what berth knows of a client that Redis does not
// say in CLIENT LIST.
type ClientRow struct {
	ID      int64  `json:"id"`
	Addr    string `json:"addr"`
	Name    string `json:"name"`
	User    string `json:"user"`
	DB      int64  `json:"db"`
	RESP    int64  `json:"resp"`
	State   string `json:"state"`
	Node    string `json:"node"` // where the client holds a lease, waits for a lease, or blocks
	Age     int64  `json:"age_seconds"`
	Idle    int64  `json:"idle_seconds"`
	Queued  int64  `json:"requests"`        // unanswered ones
	Owed    int64  `json:"owed"`            // requests that a node has yet to answer
	Input   int64  `json:"input_bytes"`     // not taken yet
	Output  int64  `json:"output_bytes"`    // that the client has yet to read
	Command string `json:"command"`         // the latest
	Library string `json:"library"`         // name and version, as the client has set them
	Multi   int64  `json:"multi"`           // commands queued since MULTI
	Watch   int64  `json:"watching"`        // 1 between WATCH and EXEC
	Lost    int64  `json:"watch_is_broken"` // 1: EXEC will answer nil
	Door    string `json:"door"`            // the address that the client came by
}

// PinRow is a connection that one client holds for itself, or on which several clients are blocked
// together. In the latter case the row shows the client that has waited longest. A subscriber on a
// shared feed holds no connection.
type PinRow struct {
	ID      int64  `json:"id"`
	Addr    string `json:"addr"`
	Name    string `json:"name"`
	User    string `json:"user"`
	Node    string `json:"node"`
	Reason  string `json:"reason"` // watch, large, blocking, subscribed, monitor, tracking, replica; kept: private_conn_pool_enabled is 0
	Held    int64  `json:"seconds"`
	Idle    int64  `json:"idle_seconds"` // for how long a WATCH has had nothing under way
	Waiters int64  `json:"waiters"`      // clients that are blocked together, on this connection and others; else 0
	Command string `json:"command"`      // the client's latest
}

// PinRows returns the rows of the connections held longest, no more than most rows.
func (s *Snapshot) PinRows(most int) []PinRow {
	all := slices.Clone(s.Total().Pins)
	slices.SortStableFunc(all, func(a, b PinRow) int { return cmp.Or(cmp.Compare(b.Held, a.Held), cmp.Compare(a.ID, b.ID)) })
	return all[:min(len(all), most)]
}
