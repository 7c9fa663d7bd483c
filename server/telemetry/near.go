package telemetry

// NearCounters counts what a loop does with reads of hot keys, with cache yes.
type NearCounters struct {
	Hits    int64 // answered by berth
	Shared  int64 // waited for a fetch that was under way
	Fetches int64 // sent by a connection of the cache

	// went to the node like others, though their key was hot
	PassedChosen int64 // because the client has chosen so
	PassedOwed   int64 // because the client is owed a reply that may be of the key
	PassedUnkept int64 // because the reply to this form of read could not be kept lately

	Invalidated int64 // replies dropped because their key may have changed
	Evicted     int64 // keys dropped for want of room
	TooLong     int64 // replies not kept because of cache-max-value
	NoRoom      int64 // keys and replies not kept because of cache-max-memory
	Unwanted    int64 // hot reads of keys that cache-keys or cache-not-keys leaves out
	Refused     int64 // a node tells nothing about keys to the user
	Fields      int64 // replies of hashes not kept because fields may expire
}

// Add adds the figures of another loop.
func (n *NearCounters) Add(o NearCounters) {
	n.Hits += o.Hits
	n.Fetches += o.Fetches
	n.Shared += o.Shared
	n.PassedChosen += o.PassedChosen
	n.PassedOwed += o.PassedOwed
	n.PassedUnkept += o.PassedUnkept
	n.Invalidated += o.Invalidated
	n.Evicted += o.Evicted
	n.TooLong += o.TooLong
	n.NoRoom += o.NoRoom
	n.Unwanted += o.Unwanted
	n.Refused += o.Refused
	n.Fields += o.Fields
}

// Near is what a loop keeps now of replies to hot reads.
type Near struct{ Keys, Entries, Bytes int }

func (n *Near) add(o Near) {
	n.Keys += o.Keys
	n.Entries += o.Entries
	n.Bytes += o.Bytes
}

// CacheRow is the near cache as PROXY CACHE shows it.
type CacheRow struct {
	State       string `json:"state"` // yes, or no
	Keys        int64  `json:"keys"`
	Replies     int64  `json:"replies"`
	Bytes       int64  `json:"bytes"`
	Limit       int64  `json:"bytes_limit"`
	Hits        int64  `json:"hits"`
	Shared      int64  `json:"shared"`
	Fetches     int64  `json:"fetches"`
	Chosen      int64  `json:"passed_chosen"`
	Owed        int64  `json:"passed_owed"`
	Unkept      int64  `json:"passed_unkept"`
	Percent     int64  `json:"hits_percent"` // with those that share a fetch, of the reads of hot keys
	Invalidated int64  `json:"invalidated"`
	Evicted     int64  `json:"evicted"`
	TooLong     int64  `json:"not_kept_too_long"`
	NoRoom      int64  `json:"not_kept_no_room"`
	Unwanted    int64  `json:"not_kept_unwanted"`
	Refused     int64  `json:"not_kept_refused"`
	Fields      int64  `json:"not_kept_fields_expire"`
}

// CacheRow returns the row of the near cache.
func (s *Snapshot) CacheRow(state string, limit int) CacheRow {
	sum := s.Total()
	n := sum.Counters.Near
	row := CacheRow{
		State: state, Keys: int64(sum.Near.Keys), Replies: int64(sum.Near.Entries), Bytes: int64(sum.Near.Bytes), Limit: int64(limit),
		Hits: n.Hits, Shared: n.Shared, Fetches: n.Fetches, Chosen: n.PassedChosen, Owed: n.PassedOwed, Unkept: n.PassedUnkept,
		Invalidated: n.Invalidated, Evicted: n.Evicted,
		TooLong: n.TooLong, NoRoom: n.NoRoom, Unwanted: n.Unwanted, Refused: n.Refused, Fields: n.Fields,
	}
	if all := n.Hits + n.Shared + n.Fetches + n.PassedChosen + n.PassedOwed + n.PassedUnkept; all > 0 {
		row.Percent = 100 * (n.Hits + n.Shared) / all
	}
	return row
}

func (f *Loop) collectNear(m *Writer) {
	n := f.Counters.Near
	m.Counter(metricCacheReads, uint64(n.Hits), "hit")
	m.Counter(metricCacheReads, uint64(n.Shared), "share")
	m.Counter(metricCacheReads, uint64(n.Fetches), "fetch")
	m.Counter(metricCacheReads, uint64(n.PassedChosen), "pass_chosen")
	m.Counter(metricCacheReads, uint64(n.PassedOwed), "pass_owed")
	m.Counter(metricCacheReads, uint64(n.PassedUnkept), "pass_unkept")
	m.Counter(metricCacheInvalidated, uint64(n.Invalidated))
	m.Counter(metricCacheEvicted, uint64(n.Evicted))
	m.Counter(metricCacheUnkept, uint64(n.TooLong), "too_long")
	m.Counter(metricCacheUnkept, uint64(n.NoRoom), "no_room")
	m.Counter(metricCacheUnkept, uint64(n.Unwanted), "unwanted")
	m.Counter(metricCacheUnkept, uint64(n.Refused), "refused")
	m.Counter(metricCacheUnkept, uint64(n.Fields), "fields_expire")
	m.Gauge(metricCacheKeys, float64(f.Near.Keys))
	m.Gauge(metricCacheBytes, float64(f.Near.Bytes))
}
