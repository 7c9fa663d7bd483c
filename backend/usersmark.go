package backend

import "strings"

// UsersMark is what a node says by which it is seen whether it has deleted a user. There is none
// before Redis 7.0, which does not count each ACL command, where berth's own user may not INFO, and
// after a CONFIG RESETSTAT: a second one could not be seen.
type UsersMark struct {
	runID   string
	deletes string // how often it was told ACL DELUSER
	loads   string // and ACL LOAD
	reset   bool   // it was told CONFIG RESETSTAT, which begins the counts anew
}

func (m UsersMark) known() bool { return m.runID != "" && !m.reset }

// Holds reports whether the node has deleted no user between this mark and a later one.
func (m UsersMark) Holds(later UsersMark) bool { return m.known() && m == later }

// UsersSections are the sections of INFO that a mark is read from. Each takes an INFO of its own, for
// older nodes take one section.
var UsersSections = [...]string{"server", "commandstats"}

// Take reads one section.
func (m *UsersMark) Take(text string) {
	for line := range strings.SplitSeq(text, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		calls, _, _ := strings.Cut(value, ",")
		if calls == "calls=0" { // it was refused, which anybody can have done
			continue
		}
		switch name {
		case "run_id":
			m.runID = value
		case "cmdstat_acl|deluser":
			m.deletes = calls
		case "cmdstat_acl|load":
			m.loads = calls
		case "cmdstat_config|resetstat", "cmdstat_acl": // the latter: of all ACL commands, berth's own among them
			m.reset = true
		}
	}
}
