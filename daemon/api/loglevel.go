// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"net/http"
	"slices"
)

// LogLevel is the least weight that a line of the daemon's log has.
type LogLevel string

// The levels, the most talkative one first.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

// Validate reports whether l is one of the levels.
func (l LogLevel) Validate() error {
	if !slices.Contains([]LogLevel{LogDebug, LogInfo, LogWarn, LogError}, l) {
		return fmt.Errorf("log level %.40q: want debug, info, warn or error", string(l))
	}
	return nil
}

// logLevelBody is a call to change the level, and its answer.
type logLevelBody struct {
	Level LogLevel `json:"level"`
}

func setLogLevel(r *http.Request, b Backend) (any, error) {
	var body logLevelBody
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if err := body.Level.Validate(); err != nil {
		return nil, Errorf(CodeInvalidConfig, "%s", err)
	}
	return body, b.SetLogLevel(r.Context(), body.Level)
}
