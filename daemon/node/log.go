// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// The formats of the log.
const (
	LogText = "text"
	LogJSON = "json"
)

func validateLogFormat(format string) error {
	if format != LogText && format != LogJSON {
		return fmt.Errorf("logFormat %q: want text or json", format)
	}
	return nil
}

// NewLog returns a logger that writes to w what the daemon's own would write at
// level info, in a format of [Config].
func NewLog(w io.Writer, format string) (*slog.Logger, error) {
	log, _ := newLog(w, format, api.LogInfo)
	return log, validateLogFormat(format)
}

// newLog returns a logger that writes to w, and what changes its level.
func newLog(w io.Writer, format string, level api.LogLevel) (*slog.Logger, *slog.LevelVar) {
	var v slog.LevelVar
	v.Set(slogLevel(level))
	options := &slog.HandlerOptions{Level: &v}
	if format == LogJSON {
		return slog.New(slog.NewJSONHandler(printable.JSONWriter(w), options)), &v
	}
	return slog.New(slog.NewTextHandler(w, options)), &v
}

// slogLevel returns a valid level as slog has it.
func slogLevel(l api.LogLevel) slog.Level {
	switch l {
	case api.LogDebug:
		return slog.LevelDebug
	case api.LogWarn:
		return slog.LevelWarn
	case api.LogError:
		return slog.LevelError
	}
	return slog.LevelInfo
}
