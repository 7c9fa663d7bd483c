package main

import (
	"context"
	"log/slog"

	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/eventlog"
	"github.com/berth-proxy/berth/server/telemetry"
)

// LogValue is the client in a line of the log, as attributes of the line itself: slog.Warn("…", "", s).
// It chose its names, so they are cut.
func (s *session) LogValue() slog.Value {
	attrs := []slog.Attr{slog.Any("addr", s.remote()), slog.Int64("id", s.id), slog.String("user", shown(s.user()))}
	if s.label != nil && s.label.name != "" {
		attrs = append(attrs, slog.String("name", shown(s.label.name)))
	}
	if s.lastCmd != nil {
		attrs = append(attrs, slog.String("cmd", s.lastCmd.Name))
	}
	return slog.GroupValue(attrs...)
}

// maxShownName is how many bytes of a name berth's own reports and its log show.
const maxShownName = 128

// shown returns what reports show of a name.
func shown(name string) string {
	if len(name) <= maxShownName {
		return name
	}
	return name[:maxShownName-len("...")] + "..."
}

// because enters why berth ends the client, and says so in the log. details are attributes of the line.
func (s *session) because(why telemetry.Reason, details []any) {
	if s.reason == why {
		return
	}
	s.reason = why
	level := config.LevelNotice
	switch why {
	case telemetry.ClientClosed, telemetry.Quit, telemetry.ConnectionError, telemetry.Shutdown:
		level = config.LevelDebug
	case telemetry.Killed:
		level = config.LevelVerbose
	case telemetry.QueryBufferLimit, telemetry.OutputHardLimit, telemetry.OutputSoftLimit, telemetry.ClientMemoryLimit,
		telemetry.UserRefused, telemetry.ReplyCutOff:
		level = config.LevelWarning
	}
	if slog.Default().Enabled(context.Background(), level) {
		slog.Log(context.Background(), level, "client closed", append([]any{"", s, "why", eventlog.Cause(why.String())}, details...)...)
	}
}
