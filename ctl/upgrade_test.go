// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestUpgrade(t *testing.T) {
	d := apitest.Daemon{
		Info:     api.Status{Version: "v1", PID: 7},
		Upgraded: &api.Status{Version: "v2", PID: 8},
	}
	nsqueuectl(t.Context(), d.Start(t), "upgrade").
		want(t, 0, "nsqueued upgraded: v1 -> v2 (process 7 -> 8)\n", "")

	d = apitest.Daemon{Info: d.Info, Upgraded: d.Upgraded}
	o := nsqueuectl(t.Context(), d.Start(t), "upgrade", "-o", "json")
	var u upgraded
	if err := json.Unmarshal([]byte(o.stdout), &u); err != nil || o.status != 0 {
		t.Fatalf("%+v: %v", o, err)
	}
	want := upgraded{From: daemonIdentity{"v1", 7}, To: daemonIdentity{"v2", 8}}
	if u != want {
		t.Errorf("%+v, want %+v", u, want)
	}
}

// The supervisor refuses a version; the old daemon goes on.
func TestUpgradeRefused(t *testing.T) {
	d := apitest.Daemon{Info: api.Status{Version: "v1", PID: 7}}
	o := nsqueuectl(t.Context(), d.Start(t), "upgrade", "--timeout", "150ms")
	if o.status != 1 || !strings.Contains(o.err, "process 7, still serves after 150ms") {
		t.Errorf("%+v, want failure that tells of process 7", o)
	}
}

// The new version does not serve.
func TestUpgradeToNothing(t *testing.T) {
	old := true // calls are one at a time
	d := apitest.Daemon{Err: func(call string) error {
		if !old {
			panic(http.ErrAbortHandler) // which ends the connection
		}
		old = call != "upgrade"
		return nil
	}}
	o := nsqueuectl(t.Context(), d.Start(t), "upgrade", "--timeout", "150ms")
	if o.status != 3 || !strings.Contains(o.err, "no nsqueued serves after 150ms") {
		t.Errorf("%+v, want failure that tells of no nsqueued", o)
	}
}

func TestUpgradeWithoutSupervisor(t *testing.T) {
	d := apitest.Daemon{Err: func(call string) error {
		if call == "upgrade" {
			return api.Errorf(api.CodeNotSupervised, "systemctl restart nsqueued does it")
		}
		return nil
	}}
	nsqueuectl(t.Context(), d.Start(t), "upgrade").
		want(t, 1, "", "nsqueuectl: systemctl restart nsqueued does it\n")
	o := nsqueuectl(t.Context(), d.Start(t), "upgrade", "--timeout", "0s")
	if o.status != 2 {
		t.Errorf("%+v, want wrong usage", o)
	}
}

func TestSupervisorText(t *testing.T) {
	for s, want := range map[api.Supervisor]string{
		{Kind: api.Supervise, PID: 7}:              "supervise (process 7, 0 restarts)",
		{Kind: api.Supervise, PID: 7, Restarts: 1}: "supervise (process 7, 1 restart)",
		{Kind: api.Systemd, PID: 1}:                "systemd (process 1)",
	} {
		if got := supervisor(s); got != want {
			t.Errorf("%+v is %q, want %q", s, got, want)
		}
	}
	if got := supervisor(api.Supervisor{Kind: api.NoSupervisor}); !strings.HasPrefix(got, "none") {
		t.Errorf("no supervisor is %q", got)
	}
}
