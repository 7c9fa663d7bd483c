package telemetry

// HotKeyRow is a key that is asked for much, as PROXY HOTKEYS shows it. The figures are estimated by
// samples.
type HotKeyRow struct {
	Key     string `json:"key"` // its first bytes, if it is long
	Rate    int64  `json:"requests_per_second"`
	Reads   int64  `json:"reads_per_second"`
	Writes  int64  `json:"writes_per_second"`
	Node    string `json:"node"` // the primary of the key
	DB      int64  `json:"db"`
	Length  int64  `json:"key_bytes"`
	Samples int64  `json:"samples"` // that the estimate is made of
}

// BigKeyRow is a key with a long value, as PROXY BIGKEYS shows it.
type BigKeyRow struct {
	Key     string `json:"key"`   // its first bytes, if it is long
	Bytes   int64  `json:"bytes"` // of the request or the reply that brought the value
	Command string `json:"command"`
	Node    string `json:"node"` // the primary of the key
	DB      int64  `json:"db"`
	Length  int64  `json:"key_bytes"`
}
