package router

// ReadFrom says which nodes of a shard plain reads go to.
type ReadFrom uint8

const (
	FromPrimary   ReadFrom = iota
	PreferReplica          // a replica, or the primary while no replica may be read
	FromReplica            // a replica, or nobody
	FromAny                // whichever owes the fewest replies
	FromNearest            // whichever answers soonest, or is in the same zone
)

// ReadFromNames are the names of these, in their order.
var ReadFromNames = []string{"primary", "prefer-replica", "replica", "any", "nearest"}

func (r ReadFrom) String() string { return ReadFromNames[r] }
