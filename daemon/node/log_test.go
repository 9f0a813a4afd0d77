// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// What pods have named does nothing to a terminal that shows the log, and begins
// no line of its own there.
func TestLogIsPrintable(t *testing.T) {
	const evil = "a\x1b[2J\u009b31m\x7f\u202e\u2066\r\nlevel=INFO"
	for _, format := range []string{LogText, LogJSON} {
		var b strings.Builder
		log, _ := newLog(&b, format, api.LogInfo)
		log.Warn(evil, slog.String("pod", evil), slog.Any("error", errors.New(evil)),
			slog.Group("netns", slog.String("path", evil)))
		got, ended := strings.CutSuffix(b.String(), "\n")
		if !ended || printable.Line(got) != got {
			t.Errorf("%s: %q", format, got)
		}
		var entry struct{ Pod string }
		if format == LogJSON {
			if err := json.Unmarshal([]byte(got), &entry); err != nil || entry.Pod != evil {
				t.Errorf("pod %q, %v", entry.Pod, err)
			}
		}
	}
}
