package config

import "log/slog"

// The log levels of Redis as levels of slog. Redis has two below its default, so LevelVerbose lies
// between debug and info. LevelNothing lies above all that is logged.
const (
	LevelDebug   = slog.LevelDebug
	LevelVerbose = slog.LevelDebug + 2
	LevelNotice  = slog.LevelInfo
	LevelWarning = slog.LevelWarn
	LevelNothing = slog.LevelError + 4
)

// LogFormat is the form of the log's lines.
type LogFormat uint8

const (
	LogText LogFormat = iota // key=value
	LogJSON                  // an object
)

var (
	LevelNames = []string{"debug", "verbose", "notice", "warning", "nothing"}
	Levels     = []slog.Level{LevelDebug, LevelVerbose, LevelNotice, LevelWarning, LevelNothing}
)
