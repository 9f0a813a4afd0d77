// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestSetLogLevel(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	c := api.NewClient(socket)
	for _, level := range []api.LogLevel{api.LogDebug, api.LogInfo, api.LogWarn, api.LogError} {
		if got, err := c.SetLogLevel(t.Context(), level); err != nil || got != level {
			t.Errorf("%s: %q, %v", level, got, err)
		}
	}
	for body, code := range map[string]api.Code{
		`{"level":"loud"}`: api.CodeInvalidConfig, `{}`: api.CodeInvalidConfig,
		`{"level":"info","x":1}`: api.CodeDecoding, ``: api.CodeDecoding,
	} {
		r := dial(t, socket)
		r.send(request("PUT", "/v1/log-level", body), 0)
		if got, msg, _ := r.receive(); got != code {
			t.Errorf("%s: code %d, want %d: %s", body, got, code, msg)
		}
	}
	want := []string{"log level debug", "log level info", "log level warn", "log level error"}
	if diff := cmp.Diff(want, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
