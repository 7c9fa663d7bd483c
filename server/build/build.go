// Package build says which berth this is: its version and the commit it was built from.
package build

import "runtime/debug"

// Version is the version of berth. Release builds set it with
// -ldflags "-X github.com/berth-proxy/berth/server/build.Version=...".
var Version = "0.1.0"

// Revision returns the commit that berth was built from. It is empty when the build does not know.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return ""
}
