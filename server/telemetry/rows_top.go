package telemetry

// TopRow is a client, or all those of a user or an address, as PROXY TOP shows it.
type TopRow struct {
	ID       int64  `json:"id"` // of the only client, else 0
	Addr     string `json:"addr"`
	Name     string `json:"name"`
	User     string `json:"user"`
	Clients  int64  `json:"clients"`
	Requests int64  `json:"requests_per_second"`
	BytesIn  int64  `json:"bytes_in_per_second"`
	BytesOut int64  `json:"bytes_out_per_second"`
	Errors   int64  `json:"errors_per_second"`
	Leases   int64  `json:"leases"`  // connections that are held
	Queued   int64  `json:"queued"`  // unanswered requests
	Command  string `json:"command"` // the latest
}

// Add adds the figures of another client.
func (r *TopRow) Add(o *TopRow) {
	r.Clients += o.Clients
	r.Requests += o.Requests
	r.BytesIn += o.BytesIn
	r.BytesOut += o.BytesOut
	r.Errors += o.Errors
	r.Leases += o.Leases
	r.Queued += o.Queued
}
