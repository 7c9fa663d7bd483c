// Package build says which berth this is: its version and the commit it was built from.
package build

import (
	"cmp"
	"runtime/debug"
)

// Version is the version of berth. Release builds set it with
// -ldflags "-X github.com/berth-proxy/berth/server/build.Version=...".
var Version = "0.1.0"

// revision and date are set likewise: Go finds no commit in a worktree, nor without git.
var revision, date string

// Revision returns the commit that berth was built from. It is empty when the build does not know.
func Revision() string {
	rev := cmp.Or(revision, setting("vcs.revision"))
	return rev[:min(len(rev), 12)]
}

// Date returns when that commit was made, as in 2006-01-02T15:04:05Z.
func Date() string { return cmp.Or(date, setting("vcs.time")) }

// setting returns what Go has written into the program; "": nothing of this name.
func setting(name string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == name {
			return s.Value
		}
	}
	return ""
}
