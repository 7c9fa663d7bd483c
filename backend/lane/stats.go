package lane

// Outcome is what became of an element that was popped for nobody.
type Outcome uint8

const (
	Returned   Outcome = iota // pushed back
	Kept                      // lies where the command itself has put it: BLMOVE, BRPOPLPUSH, XREADGROUP
	Dropped                   // orphan-pop drop
	LostOrphan                // the node would not take it back
	numOutcomes
)

var outcomeNames = [numOutcomes]string{Returned: "returned", Kept: "kept", Dropped: "dropped", LostOrphan: "lost"}

func (o Outcome) String() string { return outcomeNames[o] }

// Stats counts what the lanes of one loop have done. Plain numbers: read them on the loop.
type Stats struct {
	Unblocked int64              // commands that nobody waited for, ended at the node
	Closed    int64              // the same, ended with their connection
	Orphans   [numOutcomes]int64 // elements that were popped for nobody, by Outcome
}

// Add counts in what another loop's lanes have done.
func (s *Stats) Add(o Stats) {
	s.Unblocked += o.Unblocked
	s.Closed += o.Closed
	for i, n := range o.Orphans {
		s.Orphans[i] += n
	}
}

// Stats are the counters so far.
func (ls *Lanes) Stats() Stats { return ls.stats }

// ResetStats begins to count anew.
func (ls *Lanes) ResetStats() { ls.stats = Stats{} }
