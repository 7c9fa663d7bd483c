package main

import "runtime/debug"

// version is berth's own; release builds set it with -ldflags "-X main.version=...".
var version = "0.1.0"

// buildRevision is the commit berth was built from, empty when the build does not know.
func buildRevision() string {
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
