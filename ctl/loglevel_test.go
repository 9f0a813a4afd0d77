// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestLogLevel(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "log-level", "debug").want(t, 0, "log level debug\n", "")
	nsqueuectl(t.Context(), socket, "log-level", "warn", "-o", "json").
		want(t, 0, "{\n  \"level\": \"warn\"\n}\n", "")
	nsqueuectl(t.Context(), socket, "log-level", "loud").want(t, 2, "",
		"nsqueuectl: log level \"loud\": want debug, info, warn or error\nSee nsqueuectl --help.\n")
	if diff := cmp.Diff([]string{"log level debug", "log level warn"}, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
